"""What a run is: its identity, what it starts from, and what was asked to be measured of it.

Decided here: what a missing parameter becomes, what belongs to a run's identity (the hash of all that decides
its weights), what a network shares with the one that it starts from. Not here: the parameters' ranges
(parameters.py), how a run is made (run/), what is measured in answer to what was asked (measure/plan.py).
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import bnat_utils as bnat
from study.define import brought, parameters
from study.define.normalisations import NORMS
from study.define.parameters import BN_PARTS, PRETRAINED, PROFILES, YARDSTICK_RATES, checked

GENERATION = 1  # raise it when a change to the code changes, beyond rounding, the weights of a run

# what 02_bn_finetune shares with the network that it starts from: the same network and data, judged on the
# same images; and what it says of that one alone, with that one's own name for it
SHARED = (
    "profile", "data", "data_dir", "image_size", "arch", "arch_options", "norm", "normalize", "seed",
    "pretrain_weights", "eval_epsilon", "eval_steps", "eval_restarts", "eval_images", "margin_images",
    "eval_split", "aa_images", "check_images", "small_images",
)  # fmt: skip
OF_THE_PARENT = dict(pretrain_epsilon="epsilon", pretrain_epochs="epochs", pretrain_images="train_images")
# what a run of before a parameter was there would have said of it, since it did so: left out of the
# identity, so that a parameter which is added changes no older name
BEFORE = dict(
    norm="batch", gamma_decay="zero", gamma_start="one", normalize=None, source=None, arch_options=None
)


@dataclass(frozen=True)
class Asked:
    """What is to be measured of a network, as numbers; it decides no weights."""

    epsilon: float  # in 1/255
    steps: int  # of PGD
    restarts: int
    split: str  # "test", or "tuning": the last tenth of the training images
    eval_images: int
    margin_images: int
    curve_images: int
    aa_images: int
    check_images: int
    small_images: int


@dataclass(frozen=True)
class Experiment:
    """One run: what decides its weights (`run`), what it starts from, and what is to be measured of it."""

    step: str
    profile: str
    run: dict
    name: str  # ends in the hash of `run`
    parent: "Experiment | None"
    asked: Asked
    out: Path
    data_dir: str | Path | None
    weights: str | Path | None  # those of `pretrain_weights`, for the run that takes them as they are
    note: str  # what a user is told before a training: a default that the images do not allow
    held_out_epsilon: float  # in 1/255


def at_most(name, value, limit):
    """The value, or a ValueError where it is above what the data has."""
    if value > limit:
        raise ValueError(f"{name} must be at most {limit}, got {value}")
    return value


def has_bn(arch):
    """Whether BN layers can be looked for in a network: bnat's own without any are the yardsticks."""
    return bnat.ARCHS.get(arch, "own") is not None


def digest_of(run):
    """The hash of all that decides a run's weights."""
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:10]


def identity(run):
    """The name of a run; it ends in `digest_of` it."""
    arch = re.sub(r"\W+", "-", run["arch"])  # of an import path
    return f"{run['step']}_{arch}_{run['trainable']}_eps{run['epsilon']:g}_seed{run['seed']}_{digest_of(run)}"


def experiment(step, **values):
    """Check the parameters of one run and fill in the profile's defaults; trains and writes nothing.

    step: "pretrain" or "scratch" (from random initialisation: all weights, a part) or "finetune" (a part,
    from a pretrain run, or from a scratch run of BN alone). The parameters are the fields of Parameters.
    A folder of images becomes one of bnat.DATASETS. Returns an Experiment. ValueError: what is allowed, and
    what it got.
    """
    filled = {name: field.default for name, field in parameters.Parameters.model_fields.items()}
    filled |= {name: value for name, value in values.items() if value is not None or name not in filled}
    p = checked(filled)
    defaults, data = PROFILES[p.profile], p.data or PROFILES[p.profile]["data"]
    if data == "folder":
        data = brought.register(p.data_dir, p.image_size)
    if data not in bnat.DATASETS:
        raise ValueError(f"data must be folder, with data_dir, for a folder of images, got {data!r}")
    parent = _parent(p, bnat.DATASETS[data]) if step == "finetune" else None
    run = _run(step, p, defaults, data, parent)
    own_weights = step == "pretrain" and p.pretrain_weights is not None
    if own_weights:  # taken as they are
        if p.epochs:
            raise ValueError(f"epochs must be 0 with pretrain_weights, which 02 trains on; got {p.epochs}")
        run |= dict(epochs=0, pretrain_weights=brought.sha256(brought.weights_file(p.pretrain_weights)))
    return Experiment(
        step=step,
        profile=p.profile,
        run=run,
        name=identity(run),
        parent=parent,
        asked=_asked(p, defaults, bnat.DATASETS[data], run),
        out=parameters.ROOT / "out" / (p.profile if data == defaults["data"] else f"{p.profile}_{data}"),
        data_dir=p.data_dir,
        weights=p.pretrain_weights if own_weights else None,
        note=_note(p, defaults, run),
        held_out_epsilon=run["epsilon"] or float(defaults["epsilon"]),
    )


def parent_of(values, usual):
    """The step and the parameters of the network that 02_bn_finetune starts from.

    values: the parameters of 02, those that are left out or None at their defaults; usual: the profile's ε.
    A parent is judged at the ε of what starts from it.
    """
    values = {name: value for name, value in values.items() if value is not None}
    parent = {"epsilon": values.get("pretrain_epsilon", 0)}
    parent |= {name: values[name] for name in SHARED if name in values}
    parent |= {theirs: values[own] for own, theirs in OF_THE_PARENT.items() if own in values}
    judged_at = values.get("epsilon") or usual
    if judged_at != (parent["epsilon"] or usual):
        parent.setdefault("eval_epsilon", judged_at)
    return PRETRAINED[values.get("pretrain_trainable", "all")], parent


def tuning_images(images):
    """How many of so many training images, the last, are kept for tuning where a run asks for it."""
    return images // 10


def _training_images(name, value, info, split):
    """How many images to train on, all but the held out unless given. ValueError: too many."""
    most = info["images"] - info["held_out"]
    images, limit = at_most(name, value or most, most), info["images"] - tuning_images(info["images"])
    if split == "tuning" and images > limit:
        raise ValueError(f"{name} must be at most {limit} with eval_split tuning, got {images}")
    return images


def _parent(p, info):
    """The run that a finetune run starts from."""
    trained = (p.pretrain_trainable, p.pretrain_epochs, p.pretrain_images, p.pretrain_epsilon)
    if p.pretrain_weights is not None and trained != ("all", None, None, 0):
        raise ValueError(
            "pretrain_trainable, pretrain_epochs, pretrain_images and pretrain_epsilon must be left out with "
            f"pretrain_weights, which nobody trains here; got {trained}"
        )
    step, values = parent_of(dict(p), PROFILES[p.profile]["epsilon"])
    if p.pretrain_weights is None:
        _training_images("pretrain_images", p.pretrain_images, info, p.eval_split)
    return experiment(step, **values)


def _run(step, p, defaults, data, parent):
    """All that decides the weights; its hash is the run's identity, so no key may change its meaning."""
    info, arch = bnat.DATASETS[data], p.arch or defaults["arch"]
    epsilon = float(defaults["epsilon"] if p.epsilon is None else p.epsilon)
    epochs, lr = defaults[f"{step}_at" if epsilon else step]
    if p.norm != "batch" and step == "pretrain" and not epsilon:
        lr = NORMS[p.norm].lr
    images = _training_images("train_images", p.train_images, info, p.eval_split)
    trainable = "all" if step == "pretrain" else p.trainable
    if not has_bn(arch) and trainable != "all":
        raise ValueError(f"arch must be a network with BN where {trainable} is trained, got {arch!r}")
    if p.norm != "batch" and trainable in BN_PARTS:
        raise ValueError(
            f"trainable must be norm, for its γ and β, where norm is {p.norm}; got {trainable!r}"
        )
    if p.norm == "none" and trainable == "norm":
        raise ValueError("trainable must not be norm where norm is none: there is no such layer")
    if p.gamma_start != "one" and parent:
        raise ValueError(
            f"gamma_start must be one where a trained network is the start, got {p.gamma_start!r}"
        )
    if p.gamma_start != "one" and not has_bn(arch):
        raise ValueError(f"gamma_start must be one where arch has no BN, got {p.gamma_start!r}")
    if p.gamma_start != "one" and p.norm != "batch":
        raise ValueError(f"gamma_start must be one where norm is {p.norm}, got {p.gamma_start!r}")
    if p.gamma_start == "zero" and arch not in bnat.ARCHS:
        raise ValueError(f"gamma_start must not be zero where arch is no ResNet of bnat's, got {arch!r}")
    if p.norm == "weight" and trainable == "conv_subset":
        raise ValueError(
            "trainable must not be conv_subset where norm is weight: its weights are made of others"
        )
    run = _network_of(p, arch) | dict(
        generation=GENERATION, step=step, data=data, arch=arch, parent=parent and parent.name,
        trainable=trainable, epsilon=epsilon, seed=defaults["seed"] if p.seed is None else p.seed,
        train_images=images, epochs=epochs if p.epochs is None else p.epochs,
        lr=float(p.lr or YARDSTICK_RATES.get(arch, lr)),
        batch_size=at_most("batch_size", p.batch_size or min(defaults["batch_size"], images), images),
        weight_decay=float(p.weight_decay), schedule=p.schedule,
        # without an attack its settings decide nothing
        attack_steps=p.attack_steps if epsilon else 0,
        attack_step_size=float(p.attack_step_size or epsilon / 4) if epsilon else 0.0,
    )  # fmt: skip
    return {key: value for key, value in run.items() if key not in BEFORE or value != BEFORE[key]}


def _network_of(p, arch):
    """What decides the network, and its γ, beside `arch` and `data`."""
    own = brought.is_own(arch)
    if p.arch_options and not own:
        raise ValueError(f"arch_options must be left out where arch is no import path, got {p.arch_options}")
    if p.norm != "batch" and (own or not has_bn(arch)):
        raise ValueError(f"norm must be batch where arch is no ResNet of bnat's, got {p.norm!r}")
    usual = own or p.pretrain_weights is None  # are images normalised unless something else is said?
    return dict(
        norm=p.norm,
        source=brought.source(arch) if own else None,
        arch_options=(p.arch_options or {}) if own else None,
        gamma_decay=p.gamma_decay if p.weight_decay else "zero",
        gamma_start=p.gamma_start,
        normalize=None if p.normalize == usual else p.normalize,
    )


def _note(p, defaults, run):
    """A sentence where the profile's batch does not fit into the training images; "" where it does."""
    usual = defaults["batch_size"]
    if p.batch_size or run["batch_size"] == usual:
        return ""
    return (
        f"batch_size is {run['batch_size']}, all the training images, in place of the usual {usual}: "
        "an epoch is one update"
    )


def _asked(p, defaults, info, run):
    """What is to be measured, the profile's numbers in place of None. ValueError: more than the data has."""
    available = info["test"] if p.eval_split == "test" else tuning_images(info["images"])
    images = {}
    for name in ("eval_images", "margin_images", "aa_images", "check_images", "small_images"):
        value = getattr(p, name)
        images[name] = min(defaults[name], available) if value is None else at_most(name, value, available)
    images["margin_images"] = min(images["margin_images"], images["eval_images"])
    return Asked(
        epsilon=float(p.eval_epsilon or run["epsilon"] or defaults["epsilon"]),
        steps=p.eval_steps,
        restarts=p.eval_restarts or defaults["eval_restarts"],
        split=p.eval_split,
        curve_images=min(defaults["curve_images"], images["eval_images"]),
        **images,
    )
