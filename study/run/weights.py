"""A run's network and its weights: where it starts, what is kept of it, and how it is got back.

Decided here: what a committed weights.safetensors holds, and when a network counts as the record's own. Not
here: training (runs.py) and how a network is built (networks.py).
"""

import copy
import hashlib
from contextlib import suppress

import torch
from safetensors.torch import save

from study.define import brought, parameters
from study.run import machines, records
from study.run.networks import build, load_foreign, refuse_other_source
from study.run.records import read, read_record


def digest(model):
    """SHA-256 over the tensors of a model's state_dict, in order."""
    tensors = (t.cpu().contiguous().numpy().tobytes() for t in model.state_dict().values())
    return hashlib.sha256(b"".join(tensors)).hexdigest()


def blank(exp):
    """The network that an experiment starts from, but for its parent's weights."""
    return build(exp.run, exp.parent and exp.parent.run)


def checkpoint(exp):
    """The path of a run's checkpoint."""
    return exp.out / "checkpoints" / f"{exp.name}.pt"


def save_weights(model, start, path):
    """Write the tensors of `model` in which it differs from `start`, a state_dict.

    Each is a copy: safetensors refuses tensors that share memory, as tied weights do.
    """
    moved = {name: t for name, t in model.state_dict().items() if not torch.equal(t, start[name])}
    copies = {name: t.cpu().clone(memory_format=torch.contiguous_format) for name, t in moved.items()}
    records.write(path, save(copies))


def why_not(record, start, kept):
    """Why a network that was put together here is not the record's own, bit for bit, in a sentence.

    start: what it was put together from; kept: the names of the tensors that lie beside the record.
    """
    if digest(start) == record["initial_weights"]:
        return "weights.safetensors beside it is damaged, or of another training"
    made = len(start.state_dict().keys() - kept)
    there, here = record["machine"], machines.here()
    where = f"torch {there['torch']}, {machines.described(there)}" if there else "a machine unknown"
    return (
        f"{made} of its tensors are those that it started from, made from its seed {record['run']['seed']}, "
        f"and come out with other bits here (torch {here['torch']}, {here['cpu']}, {here['instructions']}) "
        f"than there ({where}), as they do without AVX2 or with another torch"
    )


def _kept(name, weights=None):
    """The record of a name and the file of its weights, or None. FileNotFoundError: no record, no weights.

    Two trainings may have left other weights under one name, committed and here: it is the record beside the
    weights, those with the digest `weights` before committed ones.
    """
    places = [root / name for root in (parameters.ROOT / "records", *parameters.ROOT.glob("out/*/records"))]
    having = [place for place in places if (place / "weights.safetensors").exists()]
    pairs = [(read_record(place, *places), place / "weights.safetensors") for place in having]
    pairs = [pair for pair in pairs if pair[0]] or [(read_record(*places), None)]
    meant = [pair for pair in pairs if pair[0] and pair[0]["weights"] == weights]
    record, file = (meant or pairs)[0]
    if record is None:
        raise FileNotFoundError(f"records/{name}: no such record")
    brought.recall(record)
    if file is None and "pretrain_weights" not in record["run"]:
        raise FileNotFoundError(
            f"records/{name}: its weights were not kept; the README says of which runs they were"
        )
    return record, file


def _filled(model, record, file):
    """The network that a run started from, brought to the weights of its record, in eval mode."""
    start, moved = copy.deepcopy(model), {}
    if file is None:
        load_foreign(model, "pyautoattack")
    else:
        moved = read(file, records.parse_weights) or {}
        model.load_state_dict(model.state_dict() | moved)
    if digest(model) != record["weights"]:
        reason = why_not(record, start, moved.keys())
        raise ValueError(f"records/{record['name']}: these are not the weights of the record: {reason}")
    return model.eval()


def network(name, trust_code=False, weights=None):
    """The trained network of a record, in eval mode, bit for bit (its digest is checked).

    name: of a folder of records/. Its weights.safetensors holds what differs from where the run started: a
    seed's initialisation or another record's network. trust_code: a record of somebody's own network names
    a function to import and to call, with arguments; only True does so, and only where its source is the
    one that is recorded. weights: a digest, of the network that is meant where a training here left another
    than the committed one under its name; else it is the committed one. FileNotFoundError: no such record,
    or a run of the first study or of tuning, whose weights were not kept. ValueError: other weights than the
    record's, as an initialisation of another torch, or on a processor without AVX2, makes (it says which);
    code that is not trusted, or another.
    """
    record, file = _kept(name, weights)
    run = record["run"]
    if brought.is_own(run["arch"]):
        if not trust_code:
            raise ValueError(
                f"records/{name}: its network is made by code of its own, {run['arch']!r} with "
                f"{run.get('arch_options')}; if you trust that, call network(..., trust_code=True)"
            )
        refuse_other_source(run)
    start = network(run["parent"], trust_code, record["initial_weights"]) if run["parent"] else build(run)
    return _filled(start, record, file)


def recorded(exp, weights=None):
    """The network of an experiment from its record, as `network` gives it and with its errors.

    Its code is what the experiment's own `arch` names: nothing that stands in the record is called.
    """
    record, file = _kept(exp.name, weights)
    start = recorded(exp.parent, record["initial_weights"]) if exp.parent else blank(exp)
    return _filled(start, record, file)


def _of_checkpoint(exp):
    """The network of a finished training from its checkpoint, in eval mode, or None."""
    saved = read(checkpoint(exp), records.parse_checkpoint)
    if not saved or len(saved["history"]) < exp.run["epochs"]:
        return None
    model = blank(exp)
    model.load_state_dict(saved["model"])
    return model.eval()


def trained(exp):
    """The network of a finished training, from its checkpoint or its record's weights, or None."""
    model = _of_checkpoint(exp)
    if model is not None:
        return model
    try:
        return recorded(exp)
    except (FileNotFoundError, ValueError):
        return None


def prune(exp):
    """Delete the checkpoint of a finished run, once its record gives the same network, bit for bit.

    Whatever is missing or differs, the checkpoint stays: it may be all that is left of a training.
    """
    if not checkpoint(exp).exists():
        return
    model = _of_checkpoint(exp)
    try:
        same = model is not None and digest(model) == digest(recorded(exp))
    except (FileNotFoundError, ValueError):
        return
    if same:
        with suppress(OSError):  # in a folder that cannot be written
            checkpoint(exp).unlink()
