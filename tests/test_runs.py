"""Runs and records: what is trained, what is refused, what survives."""
import errno
import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.io
import torch
from conftest import FAST, REPOSITORY, bnat

DATASETS = bnat.DATASETS


def files(folder):
    """The record's files without the machine's: they must not depend on when or how it was made."""
    return {p.name: p.read_bytes() for p in folder.glob("*.json") if p.name != "machine.json"}


def test_same_seed_same_record(root, monkeypatch):
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        monkeypatch.setattr(bnat, "ROOT", root / name)
        exp = bnat.experiment("finetune", epsilon=16, epochs=2, pretrain_epochs=1, seed=seed, **FAST)
        bnat.run_experiment(exp)
        made.append(files(exp["out"] / "records" / exp["name"]))
    assert len(made[0]) == 3 and made[0] == made[1]
    assert made[0] != made[2]


@pytest.mark.parametrize("part", bnat.TRAINABLE)
def test_only_the_chosen_part_moves(root, digits, part):
    exp = bnat.experiment("scratch", trainable=part, epochs=2, epsilon=16)
    torch.manual_seed(0)
    before = bnat.resnet("resnet8", "digits").state_dict()  # train() seeds its initialisation in the same way
    after = bnat.train(exp, digits)[0].state_dict()
    for key, old in before.items():
        old, new = old.float(), after[key].float()
        bn = "bn" in key or "downsample.1" in key
        statistic = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        learns = {"all": not statistic, "bn": bn and not statistic, "head": key.startswith("fc"), "bn_stats": False,
                  "bn+head": (bn and not statistic) or key.startswith("fc"), "conv_subset": False}[part]
        if learns and bn:
            assert (old != new).all(), f"a γ or β of {key} has not moved"
        elif learns or (statistic and part != "head"):
            assert not torch.equal(old, new), key
        elif part == "conv_subset" and old.dim() == 4:
            assert ((old != new).flatten(1).sum(1) == 2).all(), f"not two weights a channel of {key}, as γ and β would be"
        else:
            assert torch.equal(old, new), key


def test_finetuning_starts_from_the_parent(root, digits):
    exp = bnat.experiment("finetune", epochs=1, pretrain_epochs=2)
    parent = bnat.train(exp["parent"], digits)
    assert bnat.train(exp, digits)[1]["initial_weights"] == parent[1]["weights"]


def test_a_killed_run_resumes_to_the_same_numbers(root, digits):
    settings = dict(epsilon=16, epochs=6, lr=0.1)
    exp = bnat.experiment("pretrain", **settings)
    checkpoint = exp["out"] / "checkpoints" / f"{exp['name']}.pt"
    code = (f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import bnat_utils as b; from pathlib import Path; "
            f"b.ROOT = Path({str(root)!r}); b.train(b.experiment('pretrain', **{settings}), b.load_data('digits'))")
    for _ in range(2):  # killed twice, each time inside an epoch
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > seen):
            time.sleep(0.02)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
    assert 1 < len(torch.load(checkpoint)["history"]) < 6
    resumed = bnat.train(exp, digits)[1]
    checkpoint.unlink()
    assert resumed == bnat.train(exp, digits)[1]


def test_broken_files_are_set_aside_and_redone(root, capsys):
    exp = bnat.experiment("pretrain", epochs=1, **FAST)
    bnat.run_experiment(exp)
    folder = exp["out"] / "records" / exp["name"]
    whole = files(folder)
    checkpoint = exp["out"] / "checkpoints" / f"{exp['name']}.pt"

    flipped = bytearray(whole["run.json"])
    flipped[flipped.index(b"train_loss") + 15] ^= 1  # one bit of one digit
    (folder / "run.json").write_bytes(flipped)
    assert bnat.load_record(exp) is None
    assert "run.json.aside" in capsys.readouterr().err
    bnat.run_experiment(exp)
    assert files(folder) == whole

    payload = bytearray(checkpoint.read_bytes())
    payload[len(payload) // 2] ^= 1  # inside a tensor: torch.load alone would not notice
    for broken in (bytes(payload), checkpoint.read_bytes()[:1000], b""):
        checkpoint.write_bytes(broken)
        (folder / next(name for name in whole if name.startswith("pgd"))).write_bytes(b'{"half": ')
        bnat.run_experiment(exp)
        assert checkpoint.name + ".aside" in capsys.readouterr().err
        assert files(folder) == whole


def test_evaluations_of_other_weights_are_not_read(root):
    exp = bnat.experiment("pretrain", epochs=1, **FAST)
    bnat.run_experiment(exp)
    folder = exp["out"] / "records" / exp["name"]
    evaluation = next(folder.glob("pgd*.json"))
    content = bnat._read(evaluation, bnat._parse_json)
    bnat._write_json(evaluation, dict(content, weights="0" * 64))
    assert bnat.load_record(exp) is None


def test_a_checkpoint_with_a_pickled_payload_is_refused(root, capsys):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(root / "executed"),)

    torch.save({"model": Payload()}, root / "x.pt")
    assert bnat._read(root / "x.pt", bnat._parse_checkpoint) is None
    assert not (root / "executed").exists() and "x.pt.aside" in capsys.readouterr().err


def test_records_of_older_code_are_set_aside_and_redone(root, capsys):
    exp = bnat.experiment("pretrain", epochs=1, **FAST)
    bnat.run_experiment(exp)
    folder = exp["out"] / "records" / exp["name"]
    whole = files(folder)
    for name, part in ((next(n for n in whole if n.startswith("pgd")), "settings"), ("run.json", "run")):
        content = bnat._parse_json(folder / name)
        content[part]["generation"] -= 1
        bnat._write_json(folder / name, content)
        bnat.run_experiment(exp)
        assert f"{name} cannot be used (code of generation" in (said := capsys.readouterr().err) and f"{name}.aside" in said
        assert files(folder) == whole and (folder / f"{name}.aside").exists()
    other = bnat.experiment("pretrain", epochs=1, seed=1, **FAST)
    bnat.run_experiment(other)
    (exp["out"] / "records" / other["name"] / "run.json").write_bytes(whole["run.json"])
    assert bnat.load_record(other) is None and "it is of the run" in capsys.readouterr().err


def test_two_processes_that_start_one_run(root):
    """One trains, the other says that it waits, and then reads."""
    code = (f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import bnat_utils as b; from pathlib import Path\n"
            f"b.ROOT, steps, step = Path({str(root)!r}), [], b.train_step\n"
            "b.train_step = lambda *a: steps.append(1) or step(*a)\n"
            f"print('ready', flush=True); sys.stdin.readline(); r = b.run_experiment(b.experiment('pretrain', epsilon=16, epochs=4, **{FAST}))\n"
            "print(len(steps), r['weights'])")
    both = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=os.environ | {"OMP_NUM_THREADS": "1"}) for _ in range(2)]
    for process in both:  # both have imported what they need
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in both]
    trained, read = sorted((s.splitlines()[-1].split() for s in said), key=lambda s: -int(s[0]))
    assert (trained[0], read[0]) == (str(4 * 17), "0") and trained[1] == read[1], said
    assert sum("another process is at it; waiting" in s for s in said) == 1, said


def test_a_full_disk_is_one_error_and_nothing_is_lost(root, monkeypatch):
    """Wherever the disk is full, the next run ends with the record of an undisturbed one. (On a real, small disk: trials.py disk.)"""
    exp = bnat.experiment("pretrain", epochs=2, **FAST)
    whole, fsync, written = bnat.run_experiment(exp), os.fsync, []
    whole = files(exp["out"] / "records" / exp["name"])
    monkeypatch.setattr(bnat, "ROOT", root / "small")
    exp = bnat.experiment("pretrain", epochs=2, **FAST)

    def full(descriptor):
        written.append(descriptor)
        if len(written) in (2, 4, 7):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for file in (f"{exp['name']}.pt", "machine.json", "pgd"):  # the checkpoint of the second epoch, the record, an evaluation
        with pytest.raises(OSError, match=rf"{re.escape(file)}.* could not be written \(No space left on device\); what was finished before is whole"):
            bnat.run_experiment(exp)
        assert not list(root.rglob(".*.part"))
    bnat.run_experiment(exp)
    assert files(exp["out"] / "records" / exp["name"]) == whole and not list(root.rglob("*.aside"))


@pytest.mark.parametrize("setting, victim", [("batch_size=64", "train_step"), ("BNAT_EVAL_BATCH=500", "evaluate")])
def test_too_little_gpu_memory_names_the_setting(root, monkeypatch, setting, victim):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...")

    monkeypatch.setattr(bnat, victim, full)
    name, images = setting.split("=")
    with pytest.raises(MemoryError, match=rf"too little memory for {images} images at a time \({setting}\): set {name} to {int(images) // 2} and run again$"):
        bnat.run_experiment(bnat.experiment("pretrain", epochs=1, **FAST))


def test_an_interrupted_autoattack_goes_on_and_leaves_nothing(root, monkeypatch):
    exp = bnat.experiment("pretrain", epochs=1, **FAST | dict(aa_images=64))  # of so many, the network of any machine has some right
    write = bnat._write_json

    def killed(path, content):
        write(path, content)
        if "apgd-ce 0" in content:
            raise KeyboardInterrupt

    monkeypatch.setattr(bnat, "_write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        bnat.run_experiment(exp)
    state, = (exp["out"] / "checkpoints").glob("*autoattack*.json")
    assert f".{bnat.EVALUATION}.{bnat.EVAL_BATCH}." in state.name, "flags of other code or other batches would be taken up"
    monkeypatch.setattr(bnat, "_write_json", write)
    assert bnat.run_experiment(exp)["autoattack"] and not state.exists()


def test_a_diverging_run_stops_and_says_where(root, digits):
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) at epoch 1, step \d+ of 17, learning rate .*choose an lr below 1e\+20"):
        bnat.train(bnat.experiment("pretrain", epochs=2, lr=1e20), digits)


@pytest.mark.parametrize("name, value", [
    *[("epsilon", v) for v in (-1, 256, float("nan"), float("inf"), "eight", True, [8])],
    *[(name, v) for name in ("epochs", "batch_size", "attack_steps", "eval_steps", "eval_restarts", "pretrain_epochs", "train_images")
      for v in (0, -1, 1.5, "x", 10**12)],
    *[("seed", v) for v in (-1, 0.5, "a", 2**31, 10**40)], *[("lr", v) for v in (0, -0.1, float("nan"))],
    ("profile", "fast"), ("arch", "vgg"), ("trainable", "weights"), ("schedule", "cosine"), ("weight_decay", -1),
    ("data", "imagenet"), ("pretrain_weights", ""),("eval_epsilon", 0), ("attack_step_size", 0), ("aa_images", -1), ("eval_images", 10**6), ("batch_size", 10**6),
    ("pretrain_epsilon", -1),
])
def test_bad_parameters_are_refused_in_one_sentence(name, value):
    with pytest.raises(ValueError) as error:
        bnat.experiment("finetune", **{name: value})
    message = str(error.value)
    assert name in message and f"got {value!r}" in message and "must be" in message and "\n" not in message


def test_data_of_another_profile():
    for profile in bnat.PROFILES:
        for data, info in DATASETS.items():
            exp = bnat.experiment("scratch", profile=profile, data=data)
            assert exp["run"]["train_images"] == info["images"] - info["held_out"] and exp["run"]["data"] == data
            assert max(settings["images"] for settings in exp["evaluations"].values()) <= info["test"]


def test_every_setting_is_part_of_the_identity():
    base = bnat.experiment("finetune")
    changes = dict(epsilon=4, pretrain_epsilon=8, pretrain_epochs=3, seed=1, epochs=3, batch_size=32, lr=0.3, weight_decay=0,
                   schedule="steps", attack_steps=3, attack_step_size=1, train_images=500, trainable="head", arch="resnet20")
    names = {bnat.experiment("finetune", **{key: value})["name"] for key, value in changes.items()}
    assert len(names | {base["name"]}) == len(changes) + 1
    assert bnat.experiment("finetune", eval_images=10, aa_images=0)["name"] == base["name"]  # evaluation decides no weights


def test_weights_from_elsewhere_are_not_trained_here():
    for changes in (dict(pretrain_epochs=3), dict(pretrain_epsilon=8)):
        with pytest.raises(ValueError, match="must be left out with pretrain_weights"):
            bnat.experiment("finetune", pretrain_weights="pyautoattack", **changes)


def test_parameters_of_a_notebook():
    cells = ["", 'profile = "quick"  # ...\nseed = 0  # ...\n', "# Parameters\nseed = 3\n", "import sys\nother = 1"]
    assert bnat.parameters(cells, dict(profile="quick", seed=3, other=1)) == dict(profile="quick", seed=3)
    with pytest.raises(ValueError, match="^a parameter of this notebook must be one of profile, seed; got 'sed'$"):
        bnat.parameters([*cells[:2], "# Parameters\nsed = 3\n"], {})


def _write_dataset(name, folder, monkeypatch):
    """The files of a dataset of torchvision's, in its format, of 40 training and 10 test images; and its images."""
    rng = np.random.default_rng(0)
    splits = {split: (rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(n) % 10) for split, n in (("train", 40), ("test", 10))}
    if name == "svhn":  # images last; the digit 0 has the label 10
        for split, (images, labels) in splits.items():
            scipy.io.savemat(folder / f"{split}_32x32.mat", dict(X=images.transpose(1, 2, 3, 0), y=np.where(labels, labels, 10)[:, None]))
        monkeypatch.setattr(bnat.SVHN, "split_list", {split: ["", file, _md5(folder / file)] for split, file in (
            ("train", "train_32x32.mat"), ("test", "test_32x32.mat"))})
    else:
        source, key = (bnat.CIFAR100, "fine_labels") if name == "cifar100" else (bnat.CIFAR10, "labels")
        base = folder / source.base_folder
        base.mkdir()
        for split, (images, labels) in splits.items():
            (base / split).write_bytes(pickle.dumps({"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), key: labels.tolist()}))
        names = [str(c) for c in range(DATASETS[name]["classes"])]
        meta = {"filename": "meta", "key": "names"}
        (base / "meta").write_bytes(pickle.dumps({"names": names}))
        for key, value in dict(train_list=[["train", _md5(base / "train")]], test_list=[["test", _md5(base / "test")]],
                               meta=meta | {"md5": _md5(base / "meta")}).items():
            monkeypatch.setattr(source, key, value)
    return splits


def _md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_datasets_of_torchvision(name, tmp_path, root, monkeypatch):
    splits = _write_dataset(name, tmp_path, monkeypatch)
    monkeypatch.setitem(DATASETS[name], "held_out", 8)
    data = bnat.load_data(name, tmp_path, download=False)
    assert {key: tuple(x.shape) for key, (x, _) in data.items()} == {"train": (32, 3, 32, 32), "held_out": (8, 3, 32, 32), "test": (10, 3, 32, 32)}
    for key, split, part in (("train", "train", slice(32)), ("held_out", "train", slice(32, 40)), ("test", "test", slice(10))):
        images, labels = (torch.from_numpy(array[part]) for array in splits[split])
        assert data[key][0].dtype == torch.uint8 and torch.equal(data[key][0].cpu(), images.permute(0, 3, 1, 2)) and torch.equal(data[key][1].cpu(), labels)
    exp = bnat.experiment("finetune", profile="cpu", data=name, data_dir=tmp_path, arch="resnet8", train_images=32, batch_size=16, epochs=1,
                          pretrain_epochs=1, eval_images=10, aa_images=0, check_images=0, attack_steps=1)
    exp["parent"]["run"]["batch_size"] = exp["parent"]["run"]["train_images"] = 32  # its profile's are for the whole of it
    table = bnat.results_table({"it": bnat.run_experiment(exp)})
    assert exp["run"]["data"] == exp["parent"]["run"]["data"] == name and table.loc["it", "clean % (n)"].endswith("(10)")
    assert bnat.resnet("resnet8", name).fc.out_features == DATASETS[name]["classes"]


def test_missing_data_is_said(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(bnat.CIFAR10, "download", offline)
    with pytest.raises(ValueError, match=r"data_dir .*must be a folder that holds cifar-10-batches-py, got .*, and the download failed \(no network\)$"):
        bnat.load_data("cifar10", tmp_path)
    with pytest.raises(ValueError, match=rf"data_dir .*must be a folder that holds cifar-10-batches-py, got '{tmp_path}'$"):
        bnat.load_data("cifar10", tmp_path, download=False)


def test_a_truncated_batch_is_named(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_3").write_bytes(b"short")
    with pytest.raises(ValueError, match="data_dir must hold .*data_batch_3"):
        bnat.load_data("cifar10", tmp_path)


def test_augmentation_crops_and_flips():
    torch.manual_seed(0)
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8)
    out = bnat.augment(image.repeat(200, 1, 1, 1), pad=1, flip=True)
    crops = [torch.nn.functional.pad(image, [1] * 4)[..., i:i + 8, j:j + 8] for i in range(3) for j in range(3)]
    allowed = {tuple(c.flatten().tolist()) for crop in crops for c in (crop, crop.flip(3))}
    assert {tuple(o.flatten().tolist()) for o in out} == allowed  # all 18 appear, and nothing else


def test_wilson_interval():
    p = bnat.proportion(np.arange(100) < 15)  # reference values: Wilson 1927 with z = 1.96, e.g. Newcombe 1998
    assert (p.rate, p.n) == (0.15, 100) and p.low == pytest.approx(0.0931, abs=1e-4) and p.high == pytest.approx(0.2328, abs=1e-4)


def test_mcnemar():
    a, b = np.zeros((2, 100), dtype=bool)
    a[:60], b[:50], b[60:62] = True, True, True  # 10 images only a, 2 only b: p = 2 (1 + 12 + 66) / 2^12
    difference, low, high, p = bnat.mcnemar(a, b)
    assert difference == 0.08 and p == pytest.approx(0.03857, abs=1e-5)
    assert (low, high) == pytest.approx((0.0108, 0.1460), abs=1e-4)  # 8/102 ± 1.96 sqrt(10.5 + 2.5 - 8^2/102) / 102, Agresti & Min 2005
    assert bnat.mcnemar(a, a)[0::3] == (0, 1) and bnat.mcnemar(a, a)[1] < 0 < bnat.mcnemar(a, a)[2]


def test_weights_from_elsewhere(root, digits, trained):
    foreign = {f"net.{number}": value for number, value in enumerate(trained.state_dict().values())}  # other names, the same order
    torch.save(foreign, root / "theirs.pt")
    exp = bnat.experiment("finetune", pretrain_weights=root / "theirs.pt", epochs=1, **FAST)
    record = bnat.run_experiment(exp)
    parent = bnat.load_record(exp["parent"])
    assert record["initial_weights"] == parent["weights"] == bnat._digest(trained) and parent["history"] == []
    model = bnat.resnet("resnet8", "digits", normalize=False)
    model.load_state_dict(trained.state_dict())
    x, y = digits["test"]
    assert parent["pgd"]["clean"].tolist() == bnat.evaluate(model.eval(), x[:100], y[:100], eps=0)["clean"].tolist()

    torch.save(foreign | {"net.0": foreign["net.0"] + 1}, root / "others.pt")
    assert bnat.experiment("finetune", pretrain_weights=root / "others.pt", epochs=1)["name"] != exp["name"]
    (root / "broken.pt").write_bytes(b"root:x:0:0")
    torch.save(dict(list(foreign.items())[1:]), root / "fewer.pt")
    for file in ("absent.pt", "broken.pt", "fewer.pt"):
        with pytest.raises(ValueError, match=rf"^pretrain_weights must be .*got .*{file}'$"):
            bnat.run_experiment(bnat.experiment("finetune", pretrain_weights=root / file, **FAST))


def test_evaluations_unite_over_both_folders(root):
    exp = bnat.experiment("pretrain", epochs=1, **FAST)
    bnat.run_experiment(exp)
    (exp["out"] / "records").rename(root / "records")  # as make render commits them
    more = bnat.experiment("pretrain", epochs=1, **FAST | dict(eval_images=50))
    bnat.run_experiment(more)
    made = exp["out"] / "records" / exp["name"]
    assert [p.name for p in made.glob("pgd*")] == ["pgd_eps32_steps20x1_n50.json"], "a committed evaluation was made again"
    assert bnat.load_record(exp)["pgd"]["robust"].size == 100 and bnat.load_record(more)["pgd"]["robust"].size == 50


def test_transfer_is_recorded_and_trains_nothing(root, digits):
    one, other = (bnat.experiment("pretrain", epochs=1, seed=seed, epsilon=32, **FAST) for seed in (0, 1))
    assert bnat.transfer({"one": one}, other, 100) == {}  # nothing has been run
    bnat.run_experiment(one), bnat.run_experiment(other)
    found = bnat.transfer({"one": one, "other": other}, other, 100)
    clean = bnat.load_record(one)["pgd"]["clean"].mean()
    assert found["other"].mean() <= found["one"].mean() <= clean, "foreign gradients are no stronger than a network's own"
    for file in (one["out"] / "checkpoints").glob("*"):
        file.unlink()
    again = bnat.transfer({"one": one, "other": other}, other, 100)
    assert all((again[label] == found[label]).all() for label in found)
    assert bnat.transfer({"one": one}, other, 99) == {} and not list((one["out"] / "checkpoints").glob("*"))


def test_controls_share_their_budget_and_choose_lr_on_held_out_images():
    for profile in bnat.PROFILES:
        made = {label: bnat.experiment(step, profile=profile, **settings) for label in bnat.CONTROLS for step, settings in [bnat.control(label, profile)]}
        assert len({exp["name"] for exp in made.values()}) == len(made)
        budget = bnat.PROFILES[profile]["control_epochs"]
        assert {label: exp["run"]["epochs"] for label, exp in made.items() if exp["run"]["epochs"] != budget} == {
            "BN, random features, 3 x epochs": 3 * budget}
        assert all(not exp["evaluations"] for label, exp in made.items() if "lr x" in label)
        for step, part, factors in (("finetune", "bn", [0.25, 1, 4, 16]), ("scratch", "bn", [0.0625, 0.25, 1, 4]), ("finetune", "bn+head", [1]),
                                    ("finetune", "head", [0.0625, 0.25, 1, 4]), ("finetune", "conv_subset", [0.0625, 0.25, 1, 4, 16, 64])):
            rates = {exp["run"]["lr"] / bnat.PROFILES[profile][f"{step}_at"][1] for exp in made.values()
                     if (exp["run"]["step"], exp["run"]["trainable"]) == (step, part) and exp["run"]["epsilon"]}
            assert sorted(rates) == pytest.approx(factors)
        assert made["BN, clean, robust features"]["parent"]["run"]["epsilon"] == bnat.PROFILES[profile]["epsilon"]


@pytest.mark.skipif(not os.environ.get("BNAT_DATA") and not (REPOSITORY / "data" / "cifar-10-batches-py").exists(),
                    reason="no CIFAR-10: set BNAT_DATA")
def test_cifar10(root):
    data = bnat.load_data("cifar10", os.environ.get("BNAT_DATA") or REPOSITORY / "data")
    assert {k: tuple(x.shape) for k, (x, _) in data.items()} == {
        "train": (49000, 3, 32, 32), "held_out": (1000, 3, 32, 32), "test": (10000, 3, 32, 32)}
    mean = data["train"][0].float().mean((0, 2, 3)) / 255
    torch.testing.assert_close(mean.cpu(), torch.tensor(bnat.DATASETS["cifar10"]["mean"]), atol=2e-3, rtol=0)
    exp = bnat.experiment("scratch", profile="cpu", epochs=1, train_images=256)
    _, record, _ = bnat.train(exp, {k: (x[:256], y[:256]) for k, (x, y) in data.items()})
    assert len(record["history"]) == 1 and np.isfinite(record["history"][0]["train_loss"])


def test_results_table_without_a_record(root, recwarn):
    exp = bnat.experiment("pretrain", epochs=1, **FAST)
    table = bnat.results_table({"there": bnat.run_experiment(exp), "missing": None})
    assert table.loc["there", "epochs"] == "1" and table.loc["there", "PGD"] == "20x1" and table.loc["missing", "epochs"] == "–"
    assert table.loc["missing", "AutoAttack % (n)"] == "not yet run" and not recwarn.list


def test_pgd_alone_denies_robustness_and_never_confirms_it():
    run = bnat.experiment("pretrain")["run"]
    def verdict(pgd, aa=None):
        outcome = {rate: dict(robust=np.arange(1000) < rate, clean=np.arange(1000) < 900, adversarial_predictions=[1],
                              settings=dict(epsilon=8, steps=20, restarts=1)) for rate in (pgd, aa) if rate}
        return bnat.results_table({"x": dict(run=run, pgd=outcome[pgd], autoattack=outcome.get(aa))}).robustness["x"]
    assert (verdict(50), verdict(300), verdict(300, 290), verdict(300, 50)) == ("none", "undecided", "non-trivial", "none")


def test_committed_records_are_whole():
    """Every file of records/ parses, matches its checksum and belongs to its folder."""
    assert all(path.suffix == ".json" for path in (REPOSITORY / "records").glob("*/*"))
    for path in sorted((REPOSITORY / "records").glob("*/*.json")):
        content = bnat._parse_json(path)
        if path.name == "run.json":
            assert content["name"] == path.parent.name
            assert json.dumps(content["run"])
