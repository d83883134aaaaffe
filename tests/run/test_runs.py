"""Runs and records: what is trained, what is set aside, what survives."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import drop_weights
import pytest
import torch
from conftest import FAST, REPOSITORY, bnat

from study.decide import select
from study.define import parameters
from study.define.experiment import experiment
from study.define.rows import ROWS
from study.measure import attacks, plan
from study.run import networks, records, runs, transfer, weights
from study.run.weights import digest, network
from study.show import tables

# a process of its own, in the repository ROOT
HEAD = "import sys; from pathlib import Path; import bnat_utils as bnat; "
HEAD += "from study.define import parameters; from study.define.experiment import experiment; "
HEAD += "from study.run import runs; "
HEAD += "parameters.ROOT = Path({root!r}); "


def python(root, code, **pipes):
    """Start a Python with the study imported, records and checkpoints in `root`."""
    head = HEAD.format(root=str(root))
    return subprocess.Popen([sys.executable, "-c", head + code], cwd=REPOSITORY, text=True, **pipes)


def files(folder):
    """The record's files without the machine's: they must not depend on when or how it was made."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".aside" and p.stem != "machine"}


def folder_of(exp):
    return exp.out / "records" / exp.name


def made(*arguments, **changes):
    """An experiment of some seconds, and its record."""
    exp = experiment(*arguments, **FAST | dict(epochs=1) | changes)
    return exp, runs.run(exp)


def test_the_same_seed_makes_the_same_record(root, monkeypatch):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        monkeypatch.setattr(parameters, "ROOT", root / name)
        exp, _ = made("finetune", epsilon=16, pretrain_epochs=1, seed=seed)
        found.append(files(folder_of(exp)))
    assert found[0].keys() == {
        "run.json", "weights.safetensors", "pgd_eps16_steps20x1_n100.json", "curve_eps16_steps20_n100.json",
    }  # fmt: skip
    assert found[0] == found[1] and found[0] != found[2]


def test_fine_tuning_starts_from_the_parent(root, digits):
    exp = experiment("finetune", profile="quick", epochs=1, pretrain_epochs=2)
    parent = runs.train(exp.parent, digits)
    assert runs.train(exp, digits)[1]["initial_weights"] == parent[1]["weights"]


def test_random_features_get_two_stages_of_bn_alone(root, digits):
    exp = experiment(
        "finetune", profile="quick", epsilon=16, epochs=1, pretrain_trainable="bn", pretrain_epochs=1
    )
    assert exp.parent.run["epsilon"] == 0 and exp.parent.run["trainable"] == "bn"
    started, clean = runs.blank(exp).state_dict(), runs.train(exp.parent, digits)
    trained, record, _ = runs.train(exp, digits)
    assert record["initial_weights"] == clean[1]["weights"]
    moved = {name for name, tensor in trained.state_dict().items() if not torch.equal(tensor, started[name])}
    assert moved and all(".bn" in f".{name}" or "downsample.1" in name for name in moved), moved


def test_a_killed_run_ends_with_the_numbers_of_an_uncut_one(root, digits):
    settings = dict(profile="quick", epsilon=16, epochs=6, lr=0.1)
    exp = experiment("pretrain", **settings)
    checkpoint = exp.out / "checkpoints" / f"{exp.name}.pt"
    updates = exp.run["train_images"] // exp.run["batch_size"]
    code = (
        "import os, signal\n"
        "steps, step = [], bnat.train_step\n"
        "def mortal(*a, **k):\n"
        "    steps.append(1)\n"
        f"    if len(steps) > {1.5 * updates}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(*a, **k)\n"
        "bnat.train_step = mortal\n"
        f"runs.train(experiment('pretrain', **{settings}), bnat.load_data('digits'))"
    )
    for epochs in (1, 2):  # killed twice, each time inside an epoch
        process = python(root, "\n" + code, stderr=subprocess.DEVNULL)
        assert process.wait() == -signal.SIGKILL
        assert len(torch.load(checkpoint)["history"]) == epochs
    resumed = runs.train(exp, digits)[1]
    checkpoint.unlink()
    assert resumed == runs.train(exp, digits)[1]


def test_a_run_goes_on_from_its_checkpoint_where_the_parent_s_weights_are_gone(root, digits, unpruned):
    exp = experiment("finetune", profile="quick", epochs=1, pretrain_epochs=1)
    runs.make(exp.parent, digits)
    weights_of = runs.train(exp, digits)[1]["weights"]
    shutil.rmtree(exp.parent.out / "records")
    (exp.out / "checkpoints" / f"{exp.parent.name}.pt").unlink()
    runs.make(exp.parent, digits)
    assert runs.make(exp, digits)[1]["weights"] == weights_of
    assert digest(network(exp.name)) == weights_of


def test_what_is_announced_is_the_time_of_the_epochs_that_are_left(root, digits):
    exp = experiment("pretrain", profile="quick", epsilon=0, epochs=100)
    model, (images, labels) = runs.blank(exp), digits["train"]
    few, many = (runs.forecast(exp, model, images, labels, epochs) for epochs in (30, 3000))
    assert few < many / 10 and runs.forecast(exp, model, images, labels, 1) == 0


def test_a_measurement_of_another_type_is_refused():
    assert records.encode(torch.tensor([[1, -2]], dtype=torch.int8)) == dict(shape=(1, 2), int8="01fe")
    with pytest.raises(TypeError, match="^a measurement must be bool, int64, int8 or float32, got float64$"):
        records.encode(torch.zeros(2, dtype=torch.float64))


def test_a_record_with_a_flipped_bit_is_set_aside_and_made_again(root, capsys):
    exp, _ = made("pretrain")
    whole = files(folder_of(exp))
    flipped = bytearray(whole["run.json"])
    flipped[flipped.index(b"train_loss") + 15] ^= 1  # one bit of one digit
    (folder_of(exp) / "run.json").write_bytes(flipped)
    assert records.load_record(exp) is None
    assert "run.json.aside" in capsys.readouterr().err
    runs.run(exp)
    assert files(folder_of(exp)) == whole


def broken_checkpoints(content):
    """A bit flipped inside a tensor, which torch.load alone would not notice; cut off; empty."""
    payload = bytearray(content)
    payload[len(payload) // 2] ^= 1
    return bytes(payload), content[:1000], b""


@pytest.fixture
def unpruned(monkeypatch):
    """Runs keep their checkpoints, as those that were killed before they would have deleted them."""
    monkeypatch.setattr(runs, "prune", lambda exp: None)


@pytest.mark.parametrize("damage", [0, 1, 2])
def test_a_broken_checkpoint_is_set_aside_and_made_again(root, unpruned, capsys, damage):
    exp, _ = made("pretrain")
    whole, checkpoint = files(folder_of(exp)), exp.out / "checkpoints" / f"{exp.name}.pt"
    checkpoint.write_bytes(broken_checkpoints(checkpoint.read_bytes())[damage])
    for file in ("run.json", "weights.safetensors"):
        (folder_of(exp) / file).unlink()
    runs.run(exp)
    assert checkpoint.name + ".aside" in capsys.readouterr().err
    assert files(folder_of(exp)) == whole


def test_a_half_written_evaluation_is_made_again_from_the_kept_weights(root, monkeypatch):
    exp, _ = made("pretrain")
    whole = files(folder_of(exp))
    (folder_of(exp) / "pgd_eps32_steps20x1_n100.json").write_bytes(b'{"half": ')
    monkeypatch.setattr(bnat, "train_step", lambda *_, **__: pytest.fail("it was trained again"))
    runs.run(exp)
    assert files(folder_of(exp)) == whole


def test_evaluations_of_other_weights_are_not_read(root):
    exp, _ = made("pretrain")
    evaluation = next(folder_of(exp).glob("pgd*.json"))
    records.write_json(evaluation, dict(records.parse_json(evaluation), weights="0" * 64))
    assert records.load_record(exp) is None


def test_a_checkpoint_with_a_pickled_payload_is_refused(root, capsys):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(root / "executed"),)

    torch.save({"model": Payload()}, root / "x.pt")
    assert records.read(root / "x.pt", records.parse_checkpoint) is None
    assert not (root / "executed").exists() and "x.pt.aside" in capsys.readouterr().err


@pytest.mark.parametrize("stem, part", [("pgd", "settings"), ("run", "run")])
def test_records_of_older_code_are_passed_over_and_made_again(root, capsys, stem, part):
    exp, _ = made("pretrain")
    whole, path = files(folder_of(exp)), next(folder_of(exp).glob(f"{stem}*.json"))
    content = records.parse_json(path)
    content[part]["generation"] -= 1
    records.write_json(path, content)
    older = path.read_bytes()
    assert records.load_record(exp) is None and path.read_bytes() == older, "reading has moved it"
    said = capsys.readouterr().err
    assert f"{path.name} is passed over (code of generation" in said
    runs.run(exp)
    assert files(folder_of(exp)) == whole
    assert path.with_name(f"{path.name}.aside").read_bytes() == older, "it was written over"


def test_a_committed_evaluation_of_older_code_stays_and_is_made_again_here(root):
    exp, _ = made("pretrain")
    (exp.out / "records").rename(root / "records")  # as make render commits them
    path = next((root / "records" / exp.name).glob("pgd*.json"))
    content = records.parse_json(path)
    content["settings"]["generation"] -= 1
    records.write_json(path, content)
    committed = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    assert runs.run(exp)["pgd"] is not None
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == committed
    assert [p.name for p in folder_of(exp).iterdir()] == [path.name]


def test_what_was_set_aside_stays_when_the_next_file_is(root, capsys):
    path = root / "run.json"
    for content in (b"one", b"two", b"three"):
        path.write_bytes(content)
        assert records.read(path, records.parse_record) is None
    found = {p.name: p.read_bytes() for p in root.glob("*.aside")}
    assert found == {"run.json.aside": b"one", "run.json.2.aside": b"two", "run.json.3.aside": b"three"}
    assert "set aside as run.json.3.aside, to be made again" in capsys.readouterr().err


def test_the_record_of_another_run_is_not_taken_for_this_one(root, capsys):
    (one, _), (other, _) = made("pretrain"), made("pretrain", seed=1)
    (folder_of(other) / "run.json").write_bytes((folder_of(one) / "run.json").read_bytes())
    assert records.load_record(other) is None and "it is of the run" in capsys.readouterr().err


def test_of_two_processes_that_start_one_run_one_trains_and_the_other_reads(root):
    code = (
        "import time\n"
        "steps, step = [], bnat.train_step\n"
        "def counted(*a, **k):\n"
        f"    while not Path({str(root / 'go')!r}).exists():\n        time.sleep(0.02)\n"
        "    steps.append(1)\n    return step(*a, **k)\n"
        "bnat.train_step = counted\n"
        f"r = runs.run(experiment('pretrain', **{FAST | dict(epsilon=16, epochs=4)}))\n"
        "print(len(steps), r['weights'])"
    )
    outputs = [root / "one", root / "other"]
    both = [python(root, "\n" + code, stdout=path.open("w")) for path in outputs]
    # who trains goes on once the other has met the lock
    while not any("is at it; process" in path.read_text() for path in outputs):
        assert all(process.poll() is None for process in both)
        time.sleep(0.05)
    (root / "go").touch()
    assert [process.wait() for process in both] == [0, 0]
    said = [path.read_text() for path in outputs]
    trained, read = sorted((s.splitlines()[-1].split() for s in said), key=lambda s: -int(s[0]))
    assert (trained[0], read[0]) == (str(4 * 17), "0") and trained[1] == read[1], said
    assert sum(bool(re.search(r"is at it; process \d+ has waited for", s)) for s in said) == 1, said


def test_a_full_disk_is_one_error_and_nothing_is_lost(root, monkeypatch):
    """The next run ends with the record of an undisturbed one (on a real, small disk: trials.py disk)."""
    exp, _ = made("pretrain", epochs=2)
    whole, fsync, written = files(folder_of(exp)), os.fsync, []
    monkeypatch.setattr(parameters, "ROOT", root / "small")
    exp = experiment("pretrain", **FAST | dict(epochs=2))

    def full(descriptor):
        written.append(descriptor)
        if len(written) in (2, 4, 8):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for file in (f"{exp.name}.pt", "machine.json", "pgd"):  # an epoch's checkpoint, the record, an evaluation
        said = r".* could not be written \(No space left on device\); what was finished before is whole"
        with pytest.raises(OSError, match=re.escape(file) + said):
            runs.run(exp)
        assert not list(root.rglob(".*.part"))
    runs.run(exp)
    assert files(folder_of(exp)) == whole and not list(root.rglob("*.aside"))


def no_room(device):
    """An error as torch raises it where memory is too little: on a GPU its own, on a CPU a RuntimeError."""
    if device == "cpu":
        torch.empty(2**50, dtype=torch.uint8)
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "setting, victim, epochs",
    [
        ("batch_size=64", "train_step", 1),
        ("batch_size=64", "train_step", 20),  # so many are timed before they start
        ("BNAT_EVAL_BATCH=500", "evaluate", 1),
    ],
)
def test_too_little_memory_names_the_setting(root, monkeypatch, setting, victim, epochs, device):
    monkeypatch.setattr(bnat, victim, lambda *_, **__: no_room(device))
    name, images = setting.split("=")
    wanted = (
        rf"too little memory for {images} images at a time \({setting}\): set {name} to {int(images) // 2} "
    )
    with pytest.raises(MemoryError, match=wanted):
        made("pretrain", epochs=epochs)


def test_another_error_of_a_training_is_not_taken_for_too_little_memory(root, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(bnat, "train_step", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        made("pretrain")


GXX = """#!/bin/sh
[ "$1" = --version ] && echo 'g++ (Debian 14.2.0-19) 14.2.0' && exit
echo 'fatal error: Python.h: No such file or directory' >&2
exit 1
"""


def test_a_compiler_without_the_headers_of_python_is_no_reason_to_stop(root):
    compiler = root / "bin" / "g++"
    compiler.parent.mkdir()
    compiler.write_text(GXX)
    compiler.chmod(0o755)
    given = FAST | dict(epsilon=16, epochs=1)
    code = f"runs.COMPILE_ABOVE = 0\nprint(runs.run(experiment('pretrain', **{given}))['weights'])"
    environment = os.environ | dict(
        PATH=f"{compiler.parent}{os.pathsep}{os.environ['PATH']}",
        TORCHINDUCTOR_CACHE_DIR=str(root / "compiled"),
        TORCHINDUCTOR_COMPILE_THREADS="1",
    )
    process = python(root, "\n" + code, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    assert "its attack cannot be compiled (g++ finds no headers of Python; Debian: apt install" in said
    (folder_of(experiment("pretrain", **given)).parent).rename(root / "elsewhere")
    weights = made("pretrain", epsilon=16)[1]["weights"]  # of so few steps nothing is compiled
    assert said.splitlines()[-1] == weights


def test_too_little_memory_to_read_a_checkpoint_leaves_it_where_it_is(root, monkeypatch, digits):
    exp = experiment("pretrain", **FAST | dict(epochs=1))
    runs.train(exp, digits)
    checkpoint = exp.out / "checkpoints" / f"{exp.name}.pt"
    whole = checkpoint.read_bytes()
    monkeypatch.setattr(torch, "load", lambda *_, **__: no_room("cpu"))
    with pytest.raises(MemoryError, match=f"too little memory to read .*{exp.name}.pt; it is left as it is"):
        runs.run(exp)
    assert checkpoint.read_bytes() == whole and not list(root.rglob("*.aside"))


def test_too_little_memory_says_nothing_of_somebody_s_weights(root, monkeypatch, trained):
    torch.save(foreign(trained), root / "theirs.pt")
    monkeypatch.setattr(torch, "load", lambda *_, **__: no_room("cpu"))
    with pytest.raises(RuntimeError, match="you tried to allocate"):
        made("finetune", pretrain_weights=root / "theirs.pt")


def test_an_interrupted_autoattack_goes_on_and_leaves_nothing(root, monkeypatch):
    exp = experiment(
        "pretrain", **FAST | dict(epochs=1, aa_images=64)
    )  # of so many any network has some right
    write = records.write_json

    def killed(path, content):
        write(path, content)
        if "0" in content:  # the images from the first on
            raise KeyboardInterrupt

    monkeypatch.setattr(records, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.run(exp)
    state = next((exp.out / "checkpoints").glob("*autoattack*.json"))
    assert f".{plan.EVALUATION}." in state.name, "flags of other code would be taken up"
    monkeypatch.setattr(records, "write_json", write)
    monkeypatch.setattr(attacks, "autoattack", lambda *_, **__: pytest.fail("nothing is left to attack"))
    assert runs.run(exp)["autoattack"] and not state.exists()


def test_what_is_measured_in_parts_goes_on_after_a_kill_to_the_same_end(tmp_path, monkeypatch):
    x, y, seen = torch.rand(7, 3, 8, 8), torch.zeros(7), []

    def attack(images, labels):
        seen.append(len(images))
        return dict(robust=torch.rand(len(images)) > 0.5)

    def parts(state, **settings):
        return runs.in_parts(tmp_path / state, 10, attack, x, y, part=3, name="attack", **settings)["robust"]

    uncut = parts("uncut.json")
    assert seen == [3, 3, 1] and len(uncut) == 7
    write = records.write_json

    def killed(path, content):
        write(path, content)
        if "3" in content:
            raise KeyboardInterrupt

    monkeypatch.setattr(records, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        parts("cut.json")
    monkeypatch.setattr(records, "write_json", write)
    seen.clear()
    assert parts("cut.json").equal(uncut) and seen == [1], "the parts that were done are not done again"


def foreign(trained):
    """A state_dict with other names, in the same order."""
    return {f"net.{number}": value for number, value in enumerate(trained.state_dict().values())}


def test_weights_from_elsewhere_are_the_parent_bit_for_bit(root, trained):
    torch.save(foreign(trained), root / "theirs.pt")
    exp, record = made("finetune", pretrain_weights=root / "theirs.pt")
    parent = records.load_record(exp.parent)
    assert record["initial_weights"] == parent["weights"] == digest(trained) and parent["history"] == []


def test_weights_from_elsewhere_get_the_images_as_they_are(root, digits, trained):
    torch.save(foreign(trained), root / "theirs.pt")
    exp, _ = made("finetune", pretrain_weights=root / "theirs.pt")
    model = bnat.network("resnet8", "digits", normalize=False)
    model.load_state_dict(trained.state_dict())
    clean = bnat.evaluate(model.eval(), *[t[:100] for t in digits["test"]], eps=0)["clean"]
    assert records.load_record(exp.parent)["pgd"]["clean"].tolist() == clean.tolist()


@pytest.mark.parametrize("file", ["absent.pt", "broken.pt", "fewer.pt"])
def test_weights_that_do_not_fit_are_refused_in_a_sentence(root, trained, file):
    (root / "broken.pt").write_bytes(b"root:x:0:0")
    torch.save(dict(list(foreign(trained).items())[1:]), root / "fewer.pt")
    with pytest.raises(ValueError, match=rf"^pretrain_weights must .*got .*{file}'"):
        made("finetune", pretrain_weights=root / file)


def test_a_network_comes_back_from_its_record_bit_for_bit(root):
    exp, record = made("finetune", epsilon=16, pretrain_epochs=1)
    assert digest(network(exp.name)) == record["weights"]


def test_every_gamma_and_beta_stands_in_its_record_as_the_float32_that_it_is(root):
    exp, record = made("scratch", epsilon=16)
    modules = dict(network(exp.name).named_modules())
    assert len(record["bn"]) == len([m for m in modules.values() if isinstance(m, bnat.BN)])
    for path, layer in record["bn"].items():
        for numbers, parameter in (
            (layer["gamma"], modules[path].weight),
            (layer["beta"], modules[path].bias),
        ):
            assert torch.equal(torch.tensor(numbers, device=parameter.device), parameter.detach())
            assert [float(f"{number:.9g}") for number in numbers] == numbers  # no digit beyond float32's


def checkpoints(exp):
    """The names of what lies in the folder of checkpoints."""
    return sorted(path.name for path in (exp.out / "checkpoints").iterdir())


def test_the_checkpoints_of_a_finished_run_go_and_its_network_stays(root, monkeypatch):
    exp, record = made("finetune", epsilon=16, pretrain_epochs=1)
    assert checkpoints(exp) == []
    monkeypatch.setattr(bnat, "train_step", lambda *_, **__: pytest.fail("it was trained again"))
    assert digest(weights.trained(exp)) == record["weights"]
    again = made("finetune", epsilon=16, pretrain_epochs=1, eval_images=50)[1]  # measured from the record
    assert again["weights"] == record["weights"]


@pytest.mark.parametrize("damage", ["gone", "cut off", "of another run"])
def test_a_checkpoint_stays_where_the_record_does_not_give_its_network(root, monkeypatch, damage):
    save = runs.save_weights

    def damaged(model, start, path):
        save(model, start, path)
        if damage == "gone":
            path.unlink()
        elif damage == "cut off":
            path.write_bytes(path.read_bytes()[:-1])
        else:
            save(bnat.network("resnet8", "digits"), start, path)

    monkeypatch.setattr(runs, "save_weights", damaged)
    exp, record = made("pretrain")
    assert checkpoints(exp) == [f"{exp.name}.pt"]
    assert digest(weights.trained(exp)) == record["weights"]


@pytest.mark.parametrize("file", ["machine.json", "weights.safetensors", "run.json", "pgd", "curve"])
def test_a_kill_at_any_write_of_a_record_loses_no_training(root, monkeypatch, file):
    """The checkpoint is there until the record is whole; what was trained is not trained again."""
    exp, _ = made("pretrain")
    whole, write = files(folder_of(exp)), records.write
    monkeypatch.setattr(parameters, "ROOT", root / "killed")
    exp = experiment("pretrain", **FAST | dict(epochs=1))

    def killed(path, content):
        if path.name.startswith(file):
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(records, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.run(exp)
    monkeypatch.setattr(records, "write", write)
    monkeypatch.setattr(bnat, "train_step", lambda *_, **__: pytest.fail("it was trained again"))
    runs.run(exp)
    assert files(folder_of(exp)) == whole and checkpoints(exp) == []


def test_a_checkpoint_that_a_kill_has_left_goes_when_its_record_is_read(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runs, "prune", lambda exp: None)
        exp, _ = made("pretrain")
    assert checkpoints(exp) == [f"{exp.name}.pt"]
    made("pretrain")
    assert checkpoints(exp) == []


def test_a_half_trained_checkpoint_stays_beside_a_finished_record(root, digits):
    exp, _ = made("pretrain", epochs=2)
    half = dict(runs.train(exp, digits)[1], machine={}, seconds=[])
    torch.save(half | dict(history=half["history"][:1]), exp.out / "checkpoints" / f"{exp.name}.pt")
    runs.run(exp)
    assert checkpoints(exp) == [f"{exp.name}.pt"]


def test_what_an_attack_had_kept_for_other_weights_goes_with_its_evaluation(root):
    exp = experiment("pretrain", **FAST | dict(epochs=1, aa_images=4))
    folder = exp.out / "checkpoints"
    folder.mkdir(parents=True)
    old = folder / f"{exp.name}.autoattack_eps32_random4.0123456789.1.json"
    other = folder / f"{exp.name}.autoattack_eps32_random8.0123456789.1.json"  # still to be gone on with
    for path in (old, other):
        records.write_json(path, {})
    runs.run(exp)
    assert checkpoints(exp) == [other.name]


def test_only_what_differs_from_the_start_is_kept(root):
    exp, _ = made("finetune", epsilon=16, pretrain_epochs=1)
    kept = records.parse_weights(folder_of(exp) / "weights.safetensors")
    assert kept and all(("bn" in name or "downsample.1" in name) for name in kept)


def test_other_weights_than_the_record_s_are_not_given_out(root):
    exp, _ = made("pretrain")
    state = network(exp.name).state_dict()
    model = bnat.network("resnet8", "digits")
    model.load_state_dict({k: v + 1 if v.is_floating_point() else v for k, v in state.items()})
    start = bnat.network("resnet8", "digits").state_dict()
    runs.save_weights(model, start, folder_of(exp) / "weights.safetensors")
    with pytest.raises(ValueError, match="not the weights of the record: weights.safetensors .* damaged"):
        network(exp.name)


def test_an_initialisation_of_other_bits_is_refused_with_its_reason(root, monkeypatch):
    exp, _ = made("scratch", epsilon=16)
    build = weights.build

    def without_avx2(*arguments):
        model = build(*arguments)
        with torch.no_grad():
            next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d)).weight.mul_(1 + 4e-7)
        return model

    monkeypatch.setattr(weights, "build", without_avx2)
    reason = r"not the weights of the record: \d+ of its tensors .* made from its seed 0, and come out with "
    with pytest.raises(ValueError, match=f"{reason}other bits here .* than there .*AVX2"):
        network(exp.name)


def test_a_network_whose_weights_were_not_kept_says_so():
    with pytest.raises(FileNotFoundError, match="its weights were not kept"):
        network("pretrain_resnet20_all_eps0_seed0_b5a39353e2")


def test_two_trainings_that_left_other_weights_under_one_name_are_not_mixed(root):
    easy = dict(epochs=3, epsilon=16, eval_epsilon=4)
    exp, committed = made("pretrain", **easy)
    shutil.copytree(exp.out / "records", root / "records")
    for path in folder_of(exp).glob("*.json"):  # here the same run ended elsewhere, and nothing survived PGD
        content = records.parse_json(path)
        if "weights" in content:
            content["weights"] = "0" * 64
        if "robust" in content:
            content["robust"] = "0" * len(content["robust"])
        records.write_json(path, content)
    record = made("pretrain", **easy, margin_images=50)[1]
    assert record["weights"] == committed["weights"]
    assert record["margin"]["robust"].any() and record["pgd"]["robust"].any()


@pytest.mark.parametrize("without", ["none", "finetune"])
def test_weights_are_those_of_the_record_beside_them(root, monkeypatch, without):
    """A committed record and one of another training here, of one name; its weights may lie in one alone."""

    def other(*arguments):
        model = networks.build(*arguments)
        with torch.no_grad():
            model.conv1.weight.mul_(1.01)
        return model

    changes = dict(epsilon=16, pretrain_epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(parameters, "ROOT", root / "there")
        patch.setattr(weights, "build", other)
        made("finetune", **changes)
    exp, here = made("finetune", **changes)
    shutil.copytree(root / "there" / "out" / "quick" / "records", root / "records")
    for path in (root / "records").glob(f"{without}*/weights.safetensors"):
        path.unlink()
    committed = records.read_record(*records.folders(exp))
    assert committed["weights"] != here["weights"]
    expected = committed if without == "none" else here
    assert digest(network(exp.name)) == digest(weights.trained(exp)) == expected["weights"]
    monkeypatch.setattr(bnat, "train_step", lambda *_, **__: pytest.fail("it was trained again"))
    again = made("finetune", **changes, eval_images=50)[1]
    assert again["weights"] == digest(weights.trained(exp))


def test_a_committed_evaluation_is_not_made_again(root):
    exp, _ = made("pretrain")
    (exp.out / "records").rename(root / "records")  # as make render commits them
    made("pretrain", eval_images=50)
    assert [p.name for p in folder_of(exp).glob("pgd*")] == ["pgd_eps32_steps20x1_n50.json"]


def test_transfer_is_recorded_and_trains_nothing(root):
    (one, record), (other, _) = (made("pretrain", seed=seed, epsilon=32) for seed in (0, 1))
    found = transfer.transfer({"one": one, "other": other}, other, 100)
    assert found["other"].mean() <= found["one"].mean() <= record["pgd"]["clean"].mean(), (
        "foreign is no stronger"
    )
    for exp in (one, other):  # now it can only be read
        (folder_of(exp) / "weights.safetensors").unlink()
    again = transfer.transfer({"one": one, "other": other}, other, 100)
    assert all((again[label] == found[label]).all() for label in found)
    assert transfer.transfer({"one": one}, other, 99) == {}


def test_transfer_to_more_images_than_there_are_is_read_as_it_was_measured(root):
    exp, _ = made("pretrain", epsilon=32)
    found, again = (transfer.transfer({"one": exp}, exp, 10**6)["one"] for _ in range(2))
    assert found.size == again.size == bnat.DATASETS["digits"]["test"] and (found == again).all()


def test_outcomes_of_fewer_images_than_a_file_says_are_refused():
    with pytest.raises(ValueError, match="robust does not hold the outcomes of 500 images"):
        records.decode(dict(robust="ff", settings=dict(images=500)))


def test_transfer_of_what_was_not_run_is_empty(root):
    one, other = (experiment("pretrain", **FAST, seed=seed) for seed in (0, 1))
    assert transfer.transfer({"one": one}, other, 100) == {}


def test_r_is_what_survives_both_attacks(root):
    _, record = made("pretrain", epsilon=16, epochs=3, margin_images=80)
    r = record["margin"]["robust"]
    assert r.size == 80 and not (r & ~record["pgd"]["robust"][:80]).any()


@pytest.mark.parametrize("arch", ["linear", "perceptron"])
def test_a_network_without_bn_gets_every_evaluation_but_that_of_bn(root, arch):
    _, record = made("pretrain", arch=arch, epsilon=16, aa_images=10, check_images=10, margin_images=20)
    missing = [kind for kind in plan.MEASUREMENTS if record[kind] is None]
    # the small radii are for networks trained on clean images
    of_bn = ["condensation", "features", "gap", "perturbations", "statistics", "usefulness"]
    of_linear = [] if arch == "linear" else ["worst_case"]
    assert sorted(missing) == sorted([*of_bn, *of_linear, "small", "small_float32"])


def test_tuning_is_judged_on_the_last_tenth_of_the_training_images(root, digits):
    exp, record = made("pretrain", eval_split="tuning", eval_images=129, margin_images=129)
    chosen = plan.images_of(digits, plan.evaluations(exp)["pgd_eps32_steps20x1_n129_tuning"])[0]
    assert torch.equal(chosen, digits["held_out"][0][-129:])
    assert record["pgd"] is None and record["tuning_margin"]["robust"].size == 129


def test_every_file_of_the_committed_records_is_whole():
    paths = sorted((REPOSITORY / "records").glob("*/*.json"))
    assert len(paths) > 100
    for path in paths:
        records.parse_record(path)


def test_nothing_but_records_and_weights_is_committed_beside_them():
    kept = {path.name for path in (REPOSITORY / "records").glob("*/*") if path.suffix != ".json"}
    assert kept <= {"weights.safetensors"}


def test_weights_are_committed_of_every_network_that_the_report_judges_and_of_no_other():
    without, wanted = [], drop_weights.asked()
    for folder in (REPOSITORY / "records").iterdir():
        kept, goes = folder / "weights.safetensors", drop_weights.dispensable(folder, wanted)
        assert not (kept.exists() and goes), folder.name
        if not kept.exists() and not goes:
            without.append(json.loads((folder / "run.json").read_bytes())["run"]["seed"])
    assert set(without) <= {0, 1, 2}, "those of the first study, and no other"


def test_weights_of_c7_stay_where_a_run_started_from_them_or_an_evaluation_is_missing(tmp_path):
    wanted = drop_weights.asked()
    parent = experiment("pretrain", norm="group", epsilon=0)  # BN-only AT over it is recorded
    assert parent.name not in wanted and experiment("pretrain", epsilon=0).name not in wanted
    other = experiment("pretrain", norm="none", epsilon=0, lr=0.1, seed=12)
    folder = tmp_path / other.name
    folder.mkdir()
    assert {"small_eps8_steps20_random2000.json", "norms_eps8_n10000.json"} < wanted[other.name]
    for name in sorted(wanted[other.name]):
        assert not drop_weights.dispensable(folder, wanted)
        (folder / name).write_text("{}")
    assert drop_weights.dispensable(folder, wanted)


def test_weights_from_which_a_run_is_only_planned_may_go(tmp_path, monkeypatch):
    shutil.copy(REPOSITORY / "sweeps.yaml", tmp_path)
    monkeypatch.setattr(drop_weights, "ROOT", tmp_path)  # without a record
    parent = experiment("pretrain", norm="group", epsilon=0).name
    assert parent in drop_weights.asked()
    (tmp_path / "records" / "made").mkdir(parents=True)
    (tmp_path / "records" / "made" / "run.json").write_text(json.dumps(dict(run=dict(parent=parent))))
    assert parent not in drop_weights.asked()


def test_a_report_shows_the_evaluation_on_most_images_and_a_run_the_one_it_asked_for(root):
    few, record = made("pretrain", epsilon=0, small_images=5)
    many, _ = made("pretrain", epsilon=0, small_images=20)
    other, _ = made("pretrain", epsilon=0, small_images=40, eval_epsilon=16)
    assert few.name == many.name == other.name
    assert record["small"]["settings"]["images"] == 5
    assert records.load_record(few)["small"]["settings"]["images"] == 5
    chosen = select.all_records(few)[few.name]["small"]["settings"]
    assert (chosen["images"], max(chosen["radii"])) == (20, 8)  # a quarter of 32, not of 16


def test_autoattack_alone_at_a_smaller_epsilon_is_found_where_that_is_asked_for_and_nowhere_else(root):
    usual, _ = made("pretrain", epsilon=0)
    before = select.all_records(usual)[usual.name]
    made("pretrain", epsilon=0, eval_epsilon=4, eval_images=0, margin_images=0, aa_images=5)
    asked = FAST | dict(epochs=1, eval_epsilon=4, aa_images=10)  # with PGD, which was not made there
    found = select.study_rows(rows=dict(standard=ROWS["standard"]), **asked)["standard"]
    (record,) = found.values()
    assert record["autoattack"]["settings"]["epsilon"] == 4 and record["pgd"] is None
    after = select.all_records(usual)[usual.name]
    assert after["autoattack"] is None and (after["pgd"]["robust"] == before["pgd"]["robust"]).all()


def test_what_a_record_shows_side_by_side_is_of_one_epsilon(root):
    usual, _ = made("pretrain", epsilon=0, margin_images=10)
    small, record = made("pretrain", epsilon=0, eval_epsilon=16)  # without R at 16/255
    assert usual.name == small.name and record["pgd"]["settings"]["epsilon"] == 16
    assert record["margin"] is None and any("margin" in name for name in record["evaluations"])
    assert records.load_record(usual)["margin"]["settings"]["epsilon"] == 32


def test_settings_are_shown_whole(root):
    exp = experiment("scratch", **FAST)
    shown = tables.settings(exp).data
    assert ">0.0005<" in shown and f">{exp.name}<" in shown
    assert "radius of the training attack in 1/255" in shown
