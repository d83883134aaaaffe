"""Trials that are too long for every test run: python tests/trials.py kill | fuzz | disk   [--n N] [--seed S]

kill: a quick run through papermill is killed (SIGKILL to all its processes) at N random moments, each time on an empty repository, and
started again: every record must equal that of an undisturbed run. fuzz: N random parameter sets through papermill: each runs with what
it was given, or its last word is one sentence that names the parameter. disk: the quick run on a disk (tmpfs, needs root) that is full
after so many kB: one clear error, then, with room, the same records.
"""
import argparse
import html
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from papermill.cli import _resolve_type

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import bnat_utils as bnat  # noqa: E402

STEPS = {"01_pretrain": "pretrain", "02_bn_finetune": "finetune", "03_bn_scratch": "scratch"}
REPOSITORY = Path(__file__).resolve().parent.parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
RUN = ["papermill", "notebooks/02_bn_finetune.ipynb", "out/run.ipynb", "-p", "epsilon", "16", "-p", "epochs", "4", "-p", "pretrain_epochs", "3",
       "-p", "aa_images", "8", "-p", "check_images", "0", "-p", "eval_images", "100"]


def repository(folder):
    """A repository without records, as small as papermill needs it."""
    shutil.copytree(REPOSITORY / "notebooks", folder / "notebooks")
    shutil.copy(REPOSITORY / "bnat_utils.py", folder)
    (folder / "out").mkdir()
    return folder


def start(folder, command=RUN):
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def records(folder):
    """{file: content} of all records, without what the machine says of itself; anything beside them is an error."""
    files = [path for path in (folder / "out").rglob("records/*/*")]
    assert all(re.fullmatch(r"[^.].*\.json|\..*\.part", path.name) for path in files), files
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix == ".json" and path.name != "machine.json"}


def finished(folder):
    """The records and the rendered results of a run that must succeed."""
    process = start(folder)
    said = process.communicate()[0]
    assert process.returncode == 0, said[-2000:]
    cells = nbformat.read(folder / "out" / "run.ipynb", as_version=4).cells
    shown = [output.data.get("text/html") for cell in cells for output in cell.get("outputs", []) if "data" in output]
    return records(folder), [html for html in shown if html]


def stage(folder):
    """How far a killed run had come."""
    found = records(folder)
    checkpoints = len(list((folder / "out").rglob("*.pt")))
    half = [path.name for path in (folder / "out").rglob(".*.part")]
    where = "before the first checkpoint" if not checkpoints else "parent" if checkpoints == 1 and len(found) < 5 else "training or evaluation"
    return f"{where}; {checkpoints} checkpoints, {len(found)} files of records" + f", inside the write of {half}" * bool(half)


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
            running = process.poll() is None
            kill_all(process)
            at = stage(folder)
            assert finished(folder) == wanted, f"trial {trial}: other records after a kill at {moment:.1f} s"
            assert not list((folder / "out").rglob("*.aside")) and not list((folder / "out").rglob(".*.part")), "left behind"
            print(f"{trial + 1:3}  {'killed' if running else 'had ended'} at {moment:5.1f} s ({at}): identical", flush=True)
            shutil.rmtree(folder)
    print(f"{n} of {n} runs ended with identical records and tables")


def kill_all(process):
    """SIGKILL to papermill and its kernel, which is a session of its own."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:  # gone meanwhile
            continue
        parents[int(path.parent.name)] = int(fields[1])
    family = {process.pid}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    for pid in family:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()


def fuzz(n, rng):
    """Every set has small runs as its base, so that one that is accepted ends soon."""
    good = {"epsilon": [0, 1, 8, 32, 255, 0.5], "seed": [0, 7, 2**31 - 1], "epochs": [1, 2], "batch_size": [2, 16, 64, 200], "lr": [0.01, 0.2, 1],
            "weight_decay": [0, 5e-4, 1], "schedule": ["cycle", "steps"], "attack_steps": [1, 7], "attack_step_size": [0.5, 8, 255],
            "train_images": [2, 64, 200], "eval_epsilon": [4, 0.001, 255], "eval_steps": [1, 5], "eval_restarts": [1, 3], "eval_images": [0, 1, 50],
            "aa_images": [0, 4], "check_images": [0, 4], "arch": ["resnet8"], "profile": ["quick"], "data": ["digits"],
            "trainable": ["all", "bn", "bn+head", "head", "bn_stats", "conv_subset"], "pretrain_epochs": [1, 2], "pretrain_epsilon": [0, 16]}
    bad = [-1, 0, 1.5, "nan", "inf", "-inf", "x", "", "True", 1e400, 10**12, 256, "None", "[1]", "resnet8", "'", "é", "1e20", "../..", "{}", "0x10", " 3"]
    base = dict(epochs=1, train_images=64, batch_size=16, eval_images=20, aa_images=0, check_images=0)
    notebooks = {"01_pretrain": [k for k in good if k not in ("trainable", "pretrain_epochs", "pretrain_epsilon")], "02_bn_finetune": list(good),
                 "03_bn_scratch": [k for k in good if "pretrain" not in k]}
    ran = refused = 0
    with tempfile.TemporaryDirectory() as place:
        folder = repository(Path(place, "fuzz"))
        for trial in range(n):
            notebook = rng.choice(list(notebooks))
            names = notebooks[notebook]
            given = base | ({"pretrain_epochs": 1} if notebook == "02_bn_finetune" else {})
            given |= {name: rng.choice(good[name]) for name in rng.sample(names, rng.randint(1, 5))}
            kind = rng.choice(["good", "bad", "bad", "unknown"] if trial % 4 else ["bad"])
            if kind == "bad":
                given[rng.choice(names)] = rng.choice(bad)
            if kind == "unknown":
                given[rng.choice(["eps", "Epsilon", "epoch", "learning_rate", "seeds", "trainables", "bn", "x", "pretrain"])] = rng.choice([1, "x"])
            words = [word for key, value in given.items() for word in ("-p", key, str(value))]
            process = start(folder, ["papermill", f"notebooks/{notebook}.ipynb", "out/run.ipynb", *words])
            try:
                said = process.communicate(timeout=300)[0]
            finally:
                kill_all(process)  # whatever does not end: its kernel would go on for ever
            last = [line for line in said.splitlines() if line.strip()][-1]
            label = f"{trial + 1:3} {notebook} {' '.join(words)}"
            if process.returncode:
                refused += 1
                assert kind != "good" or re.search(r"batch_size must be|loss is (nan|inf)", last), f"{label}\nrefused: {last}"
                named = re.match(r"(ValueError|FloatingPointError): ([\w ]+)", last)
                assert named and len(last) < 500, f"{label}\nends with: {last}"
                assert any(name in last for name in given), f"{label}\nnames none of its parameters: {last}"
                print(f"{label}\n    refused: {last}", flush=True)
            else:
                ran += 1
                assert kind != "unknown", f"{label}: ran without what it was given"
                own = {"epsilon": 0} if notebook == "01_pretrain" else {}  # what its parameters cell says otherwise than `experiment`
                exp = bnat.experiment(STEPS[notebook], **own | {key: _resolve_type(str(value)) for key, value in given.items()})
                used = settings(folder / "out" / "run.ipynb")
                assert all(same(used[key], value) for key, value in exp["run"].items()), f"{label}\n{exp['run']} became {used}"
                for e in filter(None, (exp, exp["parent"])):
                    made = {path.stem for path in (folder / "out" / "quick" / "records" / e["name"]).glob("*.json")}
                    assert made >= e["evaluations"].keys(), f"{label}\n{sorted(e['evaluations'])} became {sorted(made)}"
                print(f"{label}\n    ran", flush=True)
    print(f"{n} parameter sets: {ran} ran with what they were given, {refused} were refused in one sentence")


def settings(notebook):
    """What the table of settings of an executed notebook shows."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            if "<th>setting</th>" in (table := output.get("data", {}).get("text/html", "")):
                return dict(re.findall(r"<th>(\w+)</th>\s*<td>(.*?)</td>", table))
    raise AssertionError("no table of settings")


def same(shown, given):
    try:
        return float(shown) == float(given)
    except (ValueError, TypeError):
        return html.unescape(shown) == str(given)


def disk(n, rng):
    """The limits in kB: from none for a checkpoint to none for the last evaluation."""
    with tempfile.TemporaryDirectory() as place:
        wanted, _ = finished(repository(Path(place, "whole")))
        errors = 0
        for trial in range(n):
            folder, room = repository(Path(place, str(trial))), rng.randint(8, 300)
            small = folder / "out" / "quick"
            small.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}k", "tmpfs", small], check=True)
            try:
                process = start(folder)
                said = process.communicate()[0]
                last = [line for line in said.splitlines() if line.strip()][-1]
                if process.returncode:
                    errors += 1
                    assert re.search(r"OSError: .*(could not be written \(No space left on device\)|No space left on device)", last), last
                before = records(folder)
                assert all(wanted[name] == content for name, content in before.items()), "a record is not what it was"
                subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
                assert finished(folder)[0] == wanted
                print(f"{trial + 1:3} {room:4} kB: {last if process.returncode else 'was enough'}; with more room: identical", flush=True)
            finally:
                subprocess.run(["umount", small], check=True)
    print(f"{n} of {n} disks: {errors} full, none with a broken record; all ended with identical records")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=["kill", "fuzz", "disk"])
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    globals()[arguments.trial](arguments.n, random.Random(arguments.seed))
