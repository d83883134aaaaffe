import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a worker a core, and records that do not depend on cores
REPOSITORY = Path(__file__).resolve().parent.parent

import nbformat  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from IPython.utils.capture import capture_output  # noqa: E402

import bnat_utils as bnat  # noqa: E402
from study.define import parameters  # noqa: E402

torch.set_num_threads(1)
# a quick run in seconds
FAST = dict(profile="quick", batch_size=64, eval_images=100, eval_restarts=1)
FAST |= dict.fromkeys(("margin_images", "aa_images", "check_images", "small_images"), 0)


def pytest_collection_modifyitems(items):
    """No test hangs for ever: after half an hour it fails, and says where it was."""
    for item in items:
        item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty repository: no committed records, out/ in a temporary folder."""
    monkeypatch.setattr(parameters, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def digits():
    return bnat.load_data("digits")


@pytest.fixture(scope="session")
def trained(digits):
    """A network adversarially trained on the digits: neither fully robust nor fully broken at 32/255."""
    torch.manual_seed(0)
    model = bnat.network("resnet8", "digits")
    settings = dict(epochs=8, lr=0.2, eps=32 / 255, batch_size=64, pad=1, flip=False)
    for _ in bnat.train(model, *digits["train"], **settings):
        pass
    return model.eval()


def run(*command, cwd, check=True, **environment):
    """A command as a user types it; the environment's own programs come first, output is captured."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = os.environ | {"PATH": path} | environment
    done = subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def execute(notebook, **given):
    """What the cells of a notebook come to, run in this process, in `root`: no kernel, no papermill."""
    shell, place = InteractiveShell(), parameters.ROOT / "notebooks"
    shutil.copytree(REPOSITORY / "notebooks", place, dirs_exist_ok=True)  # the style of figures lies there
    cells = nbformat.read(place / f"{notebook}.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    injected = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in given.items())
    shown = []
    with capture_output():
        for source in [sources[0], injected, *sources[1:]]:
            done = shell.run_cell(source, store_history=True)
            done.raise_error()
            shown.append(getattr(done.result, "data", ""))  # of a table or a sentence
    return "\n".join(shown)


# a user's own file of networks, as the README has it
OWN_NETWORK = """
from torch import nn

def make(num_classes, width=4):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * width, num_classes),
    )
"""


FILES = ("bnat_utils.py", "Makefile", "Snakefile", "sweeps.yaml", "requirements.lock", "pyproject.toml")


def copy(folder):
    """The repository's own files, without data, checkpoints or what runs have made here."""
    for name in ("notebooks", "records", "figures", "profiles", "study"):
        ignored = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    for name in FILES:
        shutil.copy(REPOSITORY / name, folder / name)
    return folder
