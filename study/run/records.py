"""What a finished run leaves: a folder of JSON files, written whole or not at all, checked when read.

Decided here: the format, which of several evaluations counts, when a file is set aside. Not here: what is
measured (measure/plan.py), which records the report shows (decide/select.py).
"""

import functools
import hashlib
import itertools
import json
import os
import sys
import zipfile
from contextlib import suppress

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from study.define import parameters
from study.define.experiment import GENERATION
from study.measure import plan
from study.run.memory import is_lack_of_memory
from study.run.processes import ReadOnly, is_read_only, lock


def folders(exp):
    """Where the record of a run may lie: committed, or made here."""
    return [root / "records" / exp.name for root in (parameters.ROOT, exp.out)]


def write(path, content):
    """Write bytes so that `path` is what it was or whole, whenever the process dies; one writer at a time.

    OSError: why not, as a full disk; ReadOnly where nothing may be written at all.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        kind = ReadOnly if is_read_only(error) else OSError
        raise kind(
            f"{path} could not be written ({error.strerror}); what was finished before is whole, "
            "and the next run goes on from there"
        ) from None


def keep(exp, files):
    """Write what a notebook shows, {name: bytes}, to out/<profile>/figures.

    A checkout that cannot be written shows it all the same, and says so.
    """
    try:
        with lock(exp, "figures"):  # runs side by side may make one figure
            for name, content in files.items():
                write(exp.out / "figures" / name, content)
    except ReadOnly as error:
        _warn(exp.out / "figures", f"is not written, what it would hold is shown: {error}")


class Outdated(ValueError):
    """A whole file of other code than this: not to be read here, but nothing is wrong with it."""


def set_aside(path):
    """Rename a file, to a name that no earlier one has taken; the new path, or None where it must stay."""
    target = path.with_name(f"{path.name}.aside")
    for number in itertools.count(2):
        if not target.exists():
            break
        target = path.with_name(f"{path.name}.{number}.aside")
    try:
        path.rename(target)
    except OSError:  # read-only, or gone meanwhile
        return None
    return target


@functools.cache
def _warn(path, text):
    """Print a sentence about a file to stderr, once a process."""
    print(f"{os.path.relpath(path, parameters.ROOT)} {text}", file=sys.stderr)


def read(path, parse):
    """parse(path), or None where there is no file; one that cannot be used is set aside.

    A file of other code is passed over and stays, since other code may still read it. OSError, MemoryError:
    those that say nothing of the file, which stays.
    """
    shown = os.path.relpath(path, parameters.ROOT)
    try:
        seen = path.stat()
        return parse(path)
    except (FileNotFoundError, NotADirectoryError):  # a plain file in records/ is no record
        return None
    except OSError:  # says nothing of the file
        raise
    except Outdated as error:
        _warn(path, f"is passed over ({error})")
        return None
    except Exception as error:  # whatever a broken file makes torch or json raise
        if is_lack_of_memory(error):  # says nothing of the file either
            raise MemoryError(f"too little memory to read {shown}; it is left as it is") from error
        reason = (str(error) or repr(error)).split("\n")[0]
        if not path.exists() or path.stat().st_mtime_ns != seen.st_mtime_ns:
            return read(path, parse)  # another process has made it anew
        target = set_aside(path)
        what = f"set aside as {target.name}, to be made again" if target else "it stays, not read"
        print(f"{shown} cannot be used ({reason}); {what}", file=sys.stderr)
        return None


def parse_checkpoint(path):
    """A file of torch.save's, tensors and plain values only, its checksums checked."""
    if broken := zipfile.ZipFile(path).testzip():  # torch.load itself ignores them
        raise ValueError(f"{broken} does not match its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def parse_weights(path):
    """{name: tensor} of a safetensors file."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def parse_json(path):
    """A file of `write_json`, whose content matches its checksum."""
    content = json.loads(path.read_bytes())
    if content.pop("sha256") != hashlib.sha256(json.dumps(content).encode()).hexdigest():
        raise ValueError("its content does not match its checksum")
    return content


@functools.cache
def _parse_once(path, version):
    """`parse_json`, an evaluation as arrays; `version` tells a file that was written anew."""
    content = parse_json(path)
    return decode(content) if "settings" in content else content


def parse_record(path):
    """A file of a record: of the run that its folder names, as the code makes it now, else Outdated.

    A notebook asks for every record many times, so all get one dict, which nobody may change.
    """
    seen = path.stat()
    content = _parse_once(path, (seen.st_ino, seen.st_mtime_ns, seen.st_size))
    for key, now in (("run", GENERATION), ("settings", plan.EVALUATION)):
        if key in content and content[key]["generation"] != now:
            raise Outdated(f"code of generation {content[key]['generation']} made it, this is {now}")
    if content.get("name", path.parent.name) != path.parent.name:
        raise ValueError(f"it is of the run {content['name']}")
    return content


def write_json(path, content):
    """Write a dict as JSON with its checksum."""
    content = dict(content, sha256=hashlib.sha256(json.dumps(content).encode()).hexdigest())
    write(path, json.dumps(content, separators=(",", ":")).encode())


def write_anew(path, content):
    """`write_json` where a file of other code or other weights may lie: that one is set aside, not lost."""
    if path.exists():
        set_aside(path)
    write_json(path, content)


def encode(value):
    """A measured tensor for JSON: bool as bits in hex; labels as counts; int8 in hex; float to 4 digits.

    TypeError: of another type.
    """
    array = value.numpy()
    if array.dtype == np.int64:
        return np.bincount(array, minlength=10).tolist()
    if array.dtype == np.float32:
        return np.char.mod("%.4g", array).astype(float).tolist()
    if array.dtype == bool:
        return np.packbits(array).tobytes().hex()
    if array.dtype == np.int8:
        return dict(shape=array.shape, int8=array.tobytes().hex())
    raise TypeError(f"a measurement must be bool, int64, int8 or float32, got {array.dtype}")


def decode(evaluation):
    """An evaluation's file as arrays: outcomes as bool [n] (curve: [ε, n]), the rest as `encode` says."""
    settings = evaluation["settings"]
    shape = (settings["images"],)
    if "epsilons" in settings:
        shape = (len(settings["epsilons"]), *shape)
    for key, value in evaluation.items():
        if isinstance(value, dict) and "int8" in value:
            array = np.frombuffer(bytes.fromhex(value["int8"]), np.int8)
            evaluation[key] = array.reshape(value["shape"])
        elif isinstance(value, str) and key != "weights":
            outcomes, content = int(np.prod(shape)), bytes.fromhex(value)
            if len(content) != -(-outcomes // 8):  # packed by eight, the last byte filled up
                raise ValueError(f"{key} does not hold the outcomes of {outcomes} images")
            bits = np.unpackbits(np.frombuffer(content, np.uint8), count=outcomes)
            evaluation[key] = bits.astype(bool).reshape(shape)
        elif isinstance(value, list):
            evaluation[key] = np.array(value)
    return evaluation


def prefix(split):
    """What stands before a kind that is judged on a split: nothing before that of test images."""
    return "tuning_" if split == "tuning" else ""


def kinds():
    """The kinds of evaluations that a record may hold; on images kept for tuning by names of their own."""
    return [*plan.MEASUREMENTS, *(prefix("tuning") + kind for kind in plan.FOR_A_CHOICE)]


def at_epsilon(record, epsilon):
    """The record without what it has under a kind at another ε (in 1/255) than this; "evaluations" stay."""
    kept = {kind: record[kind] for kind in kinds() if record[kind]}
    kept = {kind: e for kind, e in kept.items() if plan.epsilon_of(e["settings"]) == epsilon}
    return record | dict.fromkeys(kinds()) | kept


def read_record(*places, wanted=None, exactly=True):
    """The finished run in the first of these folders with one, with the evaluations of its weights in all.

    Returns None, or run.json's content with "machine", "evaluations" ({file name: evaluation}), and under
    each kind ("pgd", "margin", ...) one of them, or None: the one named in `wanted`, {file name: settings},
    which is passed over if not `exactly`; else one that is like a wanted one but for its images, of those
    the one on most; else that on most. Those on images held out for tuning stand under "tuning_pgd" and
    "tuning_margin". All are of one ε, since they stand side by side: that of `wanted`, or, if not
    `exactly`, of the first in it that was made, but for its images; else that of "pgd".
    """
    runs = [(read(place / "run.json", parse_record), place) for place in places]
    runs = [(run, place) for run, place in runs if run]
    if not runs:
        return None
    run, home = runs[0]
    files = {p: read(p, parse_record) for place in reversed(places) for p in sorted(place.glob("*.json"))}
    record = run | dict.fromkeys(kinds())
    record["evaluations"] = {
        p.stem: e for p, e in files.items() if e and "settings" in e and e["weights"] == record["weights"]
    }
    record["machine"] = files.get(home / "machine.json")

    wanted = wanted or {}
    alike = [plan.attack_of(settings) for settings in wanted.values()]

    def rank(item):
        name, settings = item[0], item[1]["settings"]
        return exactly and name in wanted, plan.attack_of(settings) in alike, settings["images"]

    for _, e in sorted(record["evaluations"].items(), key=rank):
        record[prefix(e["settings"].get("split")) + e["settings"]["kind"]] = e
    made = [plan.attack_of(e["settings"]) for e in record["evaluations"].values()]
    asked = next((s for s in wanted.values() if exactly or plan.attack_of(s) in made), None)
    if asked is None and record["pgd"]:
        asked = record["pgd"]["settings"]
    return at_epsilon(record, plan.epsilon_of(asked)) if asked else record


def load_record(exp):
    """The record of an experiment with all its evaluations, committed or made here, or None."""
    places, wanted = folders(exp), plan.evaluations(exp)
    for order in (places, places[::-1]):  # committed weights win, unless only others have been evaluated so
        record = read_record(*order, wanted=wanted)
        if record and wanted.keys() <= record["evaluations"].keys():
            return record
    return None
