"""Trials too long for every test run: python trials/trials.py kill | fuzz | disk   [--n N] [--seed S]

kill: a quick run through papermill is killed (SIGKILL to all its processes) at N random moments, each
time on an empty repository, and started again: every record must equal that of an undisturbed run. fuzz:
N random parameter sets through papermill: each runs with what it was given, or its last word is one
sentence that names the parameter. disk: the quick run on a disk (tmpfs, needs root) that is full after so
many kB: one clear error, then, with room, the same records.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import nbformat
from papermill.cli import _resolve_type

from study.define.experiment import experiment
from study.define.notebook import NOTEBOOKS, STARTS
from study.measure.plan import evaluations

REPOSITORY = Path(__file__).resolve().parent.parent
OWN_PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PATH": OWN_PROGRAMS}
SMALL = dict(profile="quick", aa_images=8, check_images=0, eval_images=100)  # a run of seconds


def command(notebook, parameters):
    """A papermill call that executes a notebook as out/run.ipynb."""
    words = [word for key, value in parameters.items() for word in ("-p", key, str(value))]
    return ["papermill", f"notebooks/{notebook}.ipynb", "out/run.ipynb", *words]


RUN = command("02_bn_finetune", SMALL | dict(epsilon=16, epochs=4, pretrain_epochs=3))


def repository(folder):
    """A repository without records, as small as papermill needs it."""
    for name in ("notebooks", "study"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "bnat_utils.py", folder)
    (folder / "out").mkdir()
    return folder


def start(folder, words=RUN):
    """A process that runs a command in a folder, a session of its own."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen(words, cwd=folder, env=ENVIRONMENT, start_new_session=True, **pipes)


def last_line(said):
    return [line for line in said.splitlines() if line.strip()][-1]


def records(folder):
    """{file: content} of all records, without what the machine says of itself; anything else is an error."""
    files = list((folder / "out").rglob("records/*/*"))
    assert all(re.fullmatch(r"[^.].*\.json|weights\.safetensors|\..*\.part", path.name) for path in files), (
        files
    )
    whole = [path for path in files if path.suffix != ".part" and path.name != "machine.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in whole}


def finished(folder):
    """The records and the rendered results of a run that must succeed."""
    process = start(folder)
    said = process.communicate()[0]
    assert process.returncode == 0, said[-2000:]
    cells = nbformat.read(folder / "out" / "run.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", []) if "data" in output]
    return records(folder), [output.data["text/html"] for output in outputs if "text/html" in output.data]


# ----------------------------------------------------------------------------------------------------- kill
def stage(folder):
    """How far a killed run had come."""
    checkpoints = len(list((folder / "out").rglob("*.pt")))
    trained = len(list((folder / "out").rglob("run.json")))
    where = "evaluation"  # a finished training has no checkpoint
    if trained == 0:
        where = "training of the parent" if checkpoints else "before the first checkpoint"
    elif trained == 1:
        where = "training" if checkpoints else "evaluation of the parent"
    half = [path.name for path in (folder / "out").rglob(".*.part")]
    return f"{where}, inside the write of {half}" if half else where


def kill(n, rng):
    with tempfile.TemporaryDirectory() as place:
        whole = repository(Path(place, "whole"))
        begun = time.time()
        wanted = finished(whole)
        length = time.time() - begun
        print(f"an undisturbed run: {length:.0f} s, {len(wanted[0])} files of records", flush=True)
        for trial in range(n):
            folder, moment = repository(Path(place, str(trial))), rng.uniform(0, length)
            process = start(folder)
            time.sleep(moment)
            state = "killed" if process.poll() is None else "had ended"
            kill_all(process)
            at = stage(folder)
            assert finished(folder) == wanted, f"trial {trial}: other records after a kill at {moment:.1f} s"
            left = [*(folder / "out").rglob("*.aside"), *(folder / "out").rglob(".*.part")]
            assert not left, f"left behind: {left}"
            print(f"{trial + 1:3}  {state} at {moment:5.1f} s ({at}): identical", flush=True)
            shutil.rmtree(folder)
    print(f"{n} of {n} runs ended with identical records and tables")


def kill_all(process):
    """SIGKILL to papermill and its kernel, which is a session of its own."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            fields = path.read_text().rsplit(")", 1)[1].split()
            parents[int(path.parent.name)] = int(fields[1])
    family, grown = set(), {process.pid}
    while grown:
        family |= grown
        grown = {pid for pid, parent in parents.items() if parent in family} - family
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


# ----------------------------------------------------------------------------------------------------- fuzz
# small runs are the base of every set, so that one that is accepted ends soon
BASE = SMALL | dict(epochs=1, train_images=64, batch_size=16, eval_images=20, aa_images=0)
GOOD = {
    "epsilon": [0, 1, 8, 32, 255, 0.5], "seed": [0, 7, 2**31 - 1], "epochs": [1, 2], "lr": [0.01, 0.2, 1],
    "batch_size": [2, 16, 64, 200], "weight_decay": [0, 5e-4, 1], "schedule": ["cycle", "steps"],
    "attack_steps": [1, 7], "attack_step_size": [0.5, 8, 255], "train_images": [2, 64, 200],
    "eval_epsilon": [4, 0.001, 255], "eval_steps": [1, 5], "eval_restarts": [1, 3], "eval_images": [0, 1, 50],
    "margin_images": [0, 1, 50], "eval_split": ["test", "tuning"], "aa_images": [0, 4],
    "check_images": [0, 4], "arch": ["resnet8"], "data": ["digits"],
    "trainable": ["all", "bn", "bn+head", "head", "bn_stats", "conv_subset"],
    "pretrain_epochs": [1, 2], "pretrain_images": [64, 200], "pretrain_epsilon": [0, 16],
}  # fmt: skip
BAD = [
    -1, 0, 1.5, "nan", "inf", "-inf", "x", "", "True", 1e400, 10**12, 256, "None", "[1]", "resnet8", "'", "é",
    "1e20", "../..", "{}", "0x10", " 3",
]  # fmt: skip
MISSPELT = ["eps", "Epsilon", "epoch", "learning_rate", "seeds", "trainables", "bn", "x", "pretrain"]
LEFT_OUT = {"pretrain": "trainable|pretrain_.*", "scratch": "pretrain_.*", "finetune": "none"}
AFTER_ALL = r"batch_size must be|loss is (nan|inf)"  # good values that do not go together


def draw(rng, kinds):
    """A step, its parameters, and their kind: good, bad (one value is), unknown (one name is)."""
    step, kind = rng.choice(list(NOTEBOOKS)), rng.choice(kinds)
    names = [name for name in GOOD if not re.fullmatch(LEFT_OUT[step], name)]
    given = dict(BASE, pretrain_epochs=1) if step == "finetune" else dict(BASE)
    given |= {name: rng.choice(GOOD[name]) for name in rng.sample(names, rng.randint(1, 5))}
    if kind == "bad":
        given[rng.choice(names)] = rng.choice(BAD)
    if kind == "unknown":
        given[rng.choice(MISSPELT)] = rng.choice([1, "x"])
    return step, given, kind


def is_refused_well(given, kind, last):
    """Assert that the last line is one sentence that names a parameter, for a reason."""
    assert kind != "good" or re.search(AFTER_ALL, last), f"refused: {last}"
    sentence = re.match(r"(ValueError|FloatingPointError): ([\w ]+)", last)
    assert sentence and len(last) < 600, f"ends with: {last}"
    assert any(name in last for name in given), f"names none of its parameters: {last}"


def ran_as_told(folder, step, given, kind):
    """Assert that the records are those of these parameters: their names hold the hash of all that counts."""
    assert kind != "unknown", "ran without what it was given"
    typed = {key: _resolve_type(str(value)) for key, value in given.items()}  # as papermill reads them
    exp = experiment(step, **STARTS.get(step, {}) | typed)
    wanted = {e.name: evaluations(e).keys() for e in (exp, exp.parent) if e}
    folders = list((folder / "out").rglob("records/*"))
    assert {path.name for path in folders} == wanted.keys(), f"{list(wanted)} became {folders}"
    for path in folders:
        made = {file.stem for file in path.glob("*.json")}
        assert made >= wanted[path.name], f"{sorted(wanted[path.name])} became {sorted(made)}"


def fuzz(n, rng):
    outcomes = []
    with tempfile.TemporaryDirectory() as place:
        folder = repository(Path(place, "fuzz"))
        for trial in range(n):
            step, given, kind = draw(rng, ["good", "bad", "bad", "unknown"] if trial % 4 else ["bad"])
            shutil.rmtree(folder / "out")
            (folder / "out").mkdir()
            words = command(NOTEBOOKS[step], given)
            print(f"{trial + 1:3} {' '.join(words)}", flush=True)
            process = start(folder, words)
            try:
                said = process.communicate(timeout=300)[0]
            finally:
                kill_all(process)  # whatever does not end: its kernel would go on for ever
            if process.returncode:
                is_refused_well(given, kind, last_line(said))
                outcomes.append(f"refused: {last_line(said)}")
            else:
                ran_as_told(folder, step, given, kind)
                outcomes.append("ran")
            print(f"    {outcomes[-1]}", flush=True)
    ran = outcomes.count("ran")
    print(f"{n} parameter sets: {ran} ran with what they were given, {n - ran} were refused in one sentence")


# ----------------------------------------------------------------------------------------------------- disk
def on_a_full_disk(folder, room, wanted):
    """Run on a disk of so many kB, then with room: the error, or None where there was enough."""
    small = folder / "out" / "quick"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}k", "tmpfs", small], check=True)
    try:
        process = start(folder)
        last = last_line(process.communicate()[0])
        assert not process.returncode or re.search(r"OSError: .*No space left on device", last), last
        before = records(folder)
        assert all(wanted[name] == content for name, content in before.items()), "a record is not what it was"
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        assert finished(folder)[0] == wanted
        return last if process.returncode else None
    finally:
        subprocess.run(["umount", small], check=True)


def disk(n, rng):
    """The limits in kB: from none for a checkpoint to none for the last evaluation."""
    errors = 0
    with tempfile.TemporaryDirectory() as place:
        wanted, _ = finished(repository(Path(place, "whole")))
        for trial in range(n):
            room = rng.randint(8, 300)
            error = on_a_full_disk(repository(Path(place, str(trial))), room, wanted)
            errors += error is not None
            print(
                f"{trial + 1:3} {room:4} kB: {error or 'was enough'}; with more room: identical", flush=True
            )
    print(f"{n} of {n} disks: {errors} full, none with a broken record; all ended with identical records")


if __name__ == "__main__":
    trials = {"kill": kill, "fuzz": fuzz, "disk": disk}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trial", choices=trials)
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    trials[arguments.trial](arguments.n, random.Random(arguments.seed))
