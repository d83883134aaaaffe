"""The network of a run, as it is initialised: one of bnat's, or a user's own by its import path.

Decided here: how a name becomes a network, what is put in front of a user's own and what it must give back,
how a file of somebody else's weights fills it. Not here: the weights of records (weights.py), what identifies
a user's code and file (define/brought.py).
"""

import copy
import importlib.util
import inspect
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

import bnat_utils as bnat
from study.define import normalisations
from study.define.brought import is_own, resolve, sha256, source, weights_file
from study.run.memory import is_lack_of_memory


def _files(path):
    """The Python files that the function of an import path may stand in, found without running any of them.

    Of a module in one file that file, of a package all of its files, since a package may pass on what stands
    in another. Asked is for the topmost name alone: to find a.b, importlib would import a.
    """
    top = path.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module without a place, as __main__
        spec = None
    if spec is None:
        return []
    folders = spec.submodule_search_locations
    if folders is None:
        return [Path(spec.origin)] if spec.has_location else []
    return [file for folder in folders for file in sorted(Path(folder).rglob("*.py"))]


def refuse_other_source(run):
    """ValueError unless the code that `arch` of a record's run names is the code that the run was made with.

    First nothing is imported: some file of that name must have the recorded hash. Then the module is
    imported, and the very function must stand in such a file. It is not called here.
    """
    path, recorded = run["arch"], run.get("source")
    here = any(sha256(file) == recorded for file in _files(path))
    if not here or source(path) != recorded:
        raise ValueError(
            f"arch must be the code that the record was made with, got another source of {path!r}"
        )


def _options(function, options, classes):
    """The keyword arguments of a call: those given, and num_classes where the function takes it."""
    taken = inspect.signature(function).parameters
    takes = "num_classes" in taken or any(p.kind is p.VAR_KEYWORD for p in taken.values())
    return (dict(num_classes=classes) if takes else {}) | options


JUDGED, ATTACKED, TRAINED = "", " as it is attacked", " in train mode"  # how a run uses a network


def _logits(model, images, use):
    """What a network, in one of these uses, makes of images; a lazy layer gets its size when it is judged."""
    if use == JUDGED:
        with bnat.eval_mode(model):
            return model(images)
    with torch.random.fork_rng():  # dropout draws, and what is drawn next must not depend on that
        if use == TRAINED:
            return copy.deepcopy(model).train()(images)
        # a training warns; a filter here would make Python forget that it has, and it would warn again
        return bnat.fold_bn(model, bnat.fast_dtype(), warn=False)(images)


def _own(path, data, normalize, options, trains):
    """A user's network, the normalisation of `data` before it. trains: the run does not judge it alone.

    ValueError: in some use it does not give the logits of two images.
    """
    info, function = bnat.DATASETS[data], resolve(path)
    mean, std = (info["mean"], info["std"]) if normalize else ((0.0,), (1.0,))
    use, made = JUDGED, {}
    try:
        net = function(**_options(function, options, info["classes"]))
        model = torch.nn.Sequential(OrderedDict(normalize=bnat.Normalize(mean, std), net=net))
        model.normalize.memory_format = bnat.layout(net)
        model = model.to(bnat.DEVICE)
        images = torch.zeros(2, len(info["mean"]), info["size"], info["size"], device=bnat.DEVICE)
        for use in (JUDGED, ATTACKED, TRAINED) if trains else (JUDGED, ATTACKED):
            with torch.no_grad():
                made[use] = _logits(model, images, use)
    except Exception as error:  # whatever somebody's network raises
        if is_lack_of_memory(error):
            raise
        why = (str(error) or repr(error)).split("\n")[0]
        raise ValueError(f"arch must take images of {data}{use}, got {path!r}: {why}") from error
    for use, logits in made.items():
        shape = tuple(logits.shape) if torch.is_tensor(logits) else None
        if shape != (2, info["classes"]):
            what = type(logits).__name__ if shape is None else shape[1:]
            raise ValueError(f"arch must give {info['classes']} logits an image{use}, got {path!r}: {what}")
    return model


def build(run, parent=None):
    """The network of a run as its seed initialises it. run, parent: those of a record, or an experiment's."""
    torch.manual_seed(run["seed"])
    if is_own(run["arch"]):
        settings = run.get("normalize", True), run.get("arch_options", {})
        model = _own(run["arch"], run["data"], *settings, trains=run["epochs"] > 0)
    else:
        foreign = "pretrain_weights" in (parent or run)  # trained elsewhere, on images as they are
        settings = dict(normalize=run.get("normalize", not foreign), norm=run.get("norm", "batch"))
        model = normalisations.network(run["arch"], run["data"], **settings)
    for module in model.modules():
        if run.get("gamma_start") == "uniform" and isinstance(module, bnat.BN):
            torch.nn.init.uniform_(module.weight)
        if run.get("gamma_start") == "zero" and isinstance(module, bnat.BasicBlock):
            torch.nn.init.zeros_(module.bn2.weight)
    return model


# ----------------------------------------------------------------------------------- somebody else's weights
def load_foreign(model, name):
    """Fill a network with the state_dict of a file (.safetensors, or torch's without code).

    By names, or in their order where it has none of the network's; returns whether in their order.
    ValueError: the first that does not fit.
    """
    path, target = weights_file(name), getattr(model, "net", model)  # a user's own, without what is before it
    try:
        safe = path.suffix == ".safetensors"
        foreign = load_file(path) if safe else torch.load(path, "cpu", weights_only=True)
        foreign = {key: tensor.detach() for key, tensor in foreign.items()}
    except Exception as error:  # whatever a file that is no such thing makes them raise
        if is_lack_of_memory(error):
            raise
        raise ValueError(f"pretrain_weights must be a state_dict of tensors, got {str(name)!r}") from None
    own = target.state_dict()
    by_order = not own.keys() & foreign.keys() and len(own) == len(foreign)
    if by_order:
        foreign = dict(zip(own, foreign.values(), strict=True))
    for key in [*own, *foreign]:
        has, needs = (list(t[key].shape) if key in t else "missing" for t in (foreign, own))
        if has != needs:
            why = f"{key} is {has}, not {needs}"
            raise ValueError(f"pretrain_weights must have the tensors of `arch`, got {str(name)!r}: {why}")
    target.load_state_dict(foreign)
    return by_order
