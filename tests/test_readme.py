"""Every command and every code block of the README, run as it stands there, in a fresh directory.

Sizes are shrunk by further `-p` at a command's end. `make html` is run by test_site.py, `make report` by
test_report.py; `make test` and `make test-all` are what runs this.
"""

import importlib
import re
import shlex
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import OWN_NETWORK, REPOSITORY, bnat, copy, run
from PIL import Image

from study.define import notebook
from study.define.experiment import experiment
from study.run import records

README = (REPOSITORY / "README.md").read_text()
SMALL = dict(epochs=1, train_images=128, batch_size=64, eval_images=10, eval_restarts=1)
SMALL |= dict(margin_images=0, aa_images=0, check_images=0, small_images=0)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    """The lines of the README's shell blocks, without their comments."""
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


PAPERMILL = [command for command in commands() if command.startswith("papermill ")]
SLOW = ("resnet18", "mobilenet", "folder")  # networks and images that are large for a core


def given(command):
    """The parameters of a papermill command."""
    words, found = shlex.split(command), {}
    for option, value in zip(words, words[1:], strict=False):
        if option == "-y":
            found |= yaml.safe_load(value)
    for at, word in enumerate(words):
        if word == "-p":
            found[words[at + 1]] = yaml.safe_load(words[at + 2])
    return found


def step_of(command):
    return next(step for step, name in notebook.NOTEBOOKS.items() if name in command)


def is_committed(command):
    """Whether the study has made this very run, so that it is only read."""
    if "my_models" in command or "folder" in command or "mine.pt" in command:
        return False
    step = step_of(command)
    exp = experiment(step, **notebook.STARTS.get(step, {}) | given(command))
    return records.load_record(exp) is not None


def smaller(command):
    """The command, on few images of the digits where it says nothing of data."""
    asked, few = given(command), dict(SMALL)
    if asked.get("epochs") == 0:  # evaluation alone
        few = {name: value for name, value in few.items() if "image" in name or name == "eval_restarts"}
    if "torchvision" in command:  # its first layer wants three channels, which the digits do not have
        few |= dict(data="folder", data_dir="flowers", image_size=32)
    elif "data" not in asked:
        few["data"] = "digits"
    if "folder" in (asked.get("data"), few.get("data")):
        few |= dict(train_images=40, batch_size=20)
    if step_of(command) == "finetune" and "pretrain_weights" not in asked:
        few |= dict(pretrain_epochs=1, pretrain_images=few["train_images"])
    return command + "".join(f" -p {name} {value}" for name, value in few.items())


def flowers(folder):
    """A small folder of images, as the README names its files."""
    generator = np.random.default_rng(0)
    for split, images in (("train", 40), ("test", 20)):
        for kind in ("rose", "tulip"):
            (folder / split / kind).mkdir(parents=True)
            for number in range(1, images + 1):
                pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / kind / f"{number}.jpg")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A clone, with the environment and what a user brings."""
    folder = copy(tmp_path_factory.mktemp("clone"))
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "my_models.py").write_text(OWN_NETWORK)
    flowers(folder / "flowers")
    return folder


def save_weights_for(command, folder, monkeypatch):
    """mine.pt: the state_dict of the network that the command names."""
    if "my_models" in command:
        monkeypatch.syspath_prepend(folder)
        model = importlib.import_module("my_models").make(10)
    else:
        model = bnat.network("resnet18", "digits", normalize=False)
    torch.save(model.state_dict(), folder / "mine.pt")


def marked(command):
    return pytest.param(command, marks=pytest.mark.slow if any(name in command for name in SLOW) else ())


@pytest.mark.parametrize("command", [marked(command) for command in PAPERMILL])
def test_a_papermill_command_of_the_readme_runs(command, fresh, monkeypatch):
    read = is_committed(command)
    if "mine.pt" in command:
        save_weights_for(command, fresh, monkeypatch)
    (fresh / "out.ipynb").unlink(missing_ok=True)
    known = sorted(fresh.glob("out/*/records/*/run.json"))
    line, elsewhere = (command, dict(BNAT_DATA="/nonexistent")) if read else (smaller(command), {})
    run("bash", "-ec", f"source .venv/bin/activate\n{line}", cwd=fresh, **elsewhere)
    assert step_of(command) + "_" in (fresh / "out.ipynb").read_text()
    made = sorted(fresh.glob("out/*/records/*/run.json")) != known
    assert made == (not read)


def test_every_line_of_the_readme_s_shell_blocks_is_run_by_some_test():
    others = [command for command in commands() if command not in PAPERMILL]
    assert others == ["make report", "make test", "make test-all", "source .venv/bin/activate"]
    assert len(PAPERMILL) >= 10 and any(map(is_committed, PAPERMILL))


@pytest.mark.parametrize("command", re.findall(r"`(make [^`]+)`", README))
def test_a_make_command_of_the_readme_s_text_has_a_target(command, fresh):
    run("bash", "-ec", command.replace("make", "make --dry-run", 1), cwd=fresh)


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_block_of_the_readme_runs(code, fresh):
    run(sys.executable, "-c", code.replace("[:100]", "[:20]"), cwd=fresh)
