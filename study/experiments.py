"""What a run is: its identity, what it starts from, and what is to be measured of it.

Decided here: what a missing parameter becomes, what belongs to a run's identity (the hash of all that decides
its weights), the rows of the main table. Not here: the parameters' ranges (parameters.py), how a run is made
(runs.py).
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import bnat_utils as bnat
from study import datasets, networks, parameters
from study.parameters import NOTEBOOKS, PRETRAINED, PROFILES, checked

GENERATION = 1  # raise it when a change to the code changes, beyond rounding, the weights of a run;
EVALUATION = 2  # this one, when it changes what an evaluation says
GAP_IMAGES = 1280  # ten batches of training
YARDSTICK_RATES = {"linear": 0.0003, "perceptron": 0.2}  # of the networks without features, tuned on seed 1


@dataclass(frozen=True)
class Experiment:
    """One run: what decides its weights (`run`), what it starts from, and what is to be measured of it."""

    step: str
    profile: str
    run: dict
    name: str  # ends in the hash of `run`
    parent: "Experiment | None"
    evaluations: dict  # {file name: settings}
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


def identity(run):
    """The name of a run; it ends in the hash of all that decides its weights."""
    digest = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:10]
    arch = re.sub(r"\W+", "-", run["arch"])  # of an import path
    return f"{run['step']}_{arch}_{run['trainable']}_eps{run['epsilon']:g}_seed{run['seed']}_{digest}"


def experiment(step, **given_parameters):
    """Check the parameters of one run and fill in the profile's defaults; does no work.

    step: "pretrain" or "scratch" (from random initialisation: all weights, a part) or "finetune" (a part,
    from a pretrain run, or from a scratch run of BN alone). The parameters are the fields of Parameters.
    Returns an Experiment. ValueError: what is allowed, and what it got.
    """
    filled = {name: field.default for name, field in parameters.Parameters.model_fields.items()}
    filled |= {
        name: value for name, value in given_parameters.items() if value is not None or name not in filled
    }
    p = checked(filled)
    defaults, data = PROFILES[p.profile], p.data or PROFILES[p.profile]["data"]
    if data == "folder":
        data = datasets.register(p.data_dir, p.image_size)
    if data not in bnat.DATASETS:
        raise ValueError(f"data must be folder, with data_dir, for a folder of images, got {data!r}")
    parent = _parent(p) if step == "finetune" else None
    run = _run(step, p, defaults, data, parent)
    own_weights = step == "pretrain" and p.pretrain_weights is not None
    if own_weights:  # taken as they are
        if p.epochs:
            raise ValueError(f"epochs must be 0 with pretrain_weights, which 02 trains on; got {p.epochs}")
        content = networks.weights_file(p.pretrain_weights).read_bytes()
        run |= dict(epochs=0, pretrain_weights=hashlib.sha256(content).hexdigest())
    return Experiment(
        step=step,
        profile=p.profile,
        run=run,
        name=identity(run),
        parent=parent,
        evaluations=_evaluations(p, defaults, data, run),
        out=parameters.ROOT / "out" / (p.profile if data == defaults["data"] else f"{p.profile}_{data}"),
        data_dir=p.data_dir,
        weights=p.pretrain_weights if own_weights else None,
        note=_note(p, defaults, run),
        held_out_epsilon=run["epsilon"] or float(defaults["epsilon"]),
    )


def _parent(p):
    """The run that a finetune run starts from: its own network, data and seed, judged as it is."""
    trained = (p.pretrain_trainable, p.pretrain_epochs, p.pretrain_images, p.pretrain_epsilon)
    if p.pretrain_weights is not None and trained != ("all", None, None, 0):
        raise ValueError(
            "pretrain_trainable, pretrain_epochs, pretrain_images and pretrain_epsilon must be left out with "
            f"pretrain_weights, which nobody trains here; got {trained}"
        )
    shared = (
        "profile",
        "data",
        "data_dir",
        "image_size",
        "arch",
        "arch_options",
        "norm",
        "normalize",
        "seed",
    )
    shared += ("eval_steps", "eval_restarts", "eval_images", "margin_images", "eval_split", "aa_images")
    shared += ("check_images", "pretrain_weights")
    kept = {name: getattr(p, name) for name in shared}
    attack = PROFILES[p.profile]["epsilon"] if p.epsilon is None else p.epsilon
    eps = p.eval_epsilon or attack or PROFILES[p.profile]["epsilon"]
    own = dict(epsilon=p.pretrain_epsilon, epochs=p.pretrain_epochs, train_images=p.pretrain_images)
    return experiment(PRETRAINED[p.pretrain_trainable], **kept, **own, eval_epsilon=eps)


def _run(step, p, defaults, data, parent):
    """All that decides the weights; its hash is the run's identity, so no key may change its meaning."""
    info, arch = bnat.DATASETS[data], p.arch or defaults["arch"]
    epsilon = float(defaults["epsilon"] if p.epsilon is None else p.epsilon)
    epochs, lr = defaults[f"{step}_at" if epsilon else step]
    all_images = info["images"] - info["held_out"]
    images = at_most("train_images", p.train_images or all_images, all_images)
    trainable = "all" if step == "pretrain" else p.trainable
    if arch in YARDSTICK_RATES and trainable != "all":
        raise ValueError(f"arch must be a network with BN where {trainable} is trained, got {arch!r}")
    if p.norm != "batch" and trainable.startswith("bn"):
        raise ValueError(
            f"trainable must be norm, for its γ and β, where norm is {p.norm}; got {trainable!r}"
        )
    return _network_of(p, arch) | dict(
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


def _note(p, defaults, run):
    """A sentence where the profile's batch does not fit into the training images; "" where it does."""
    usual = defaults["batch_size"]
    if p.batch_size or run["batch_size"] == usual:
        return ""
    return (
        f"batch_size is {run['batch_size']}, all the training images, in place of the usual {usual}: "
        "an epoch is one update"
    )


def _network_of(p, arch):
    """What decides the network, and its γ, beside `arch` and `data`; the main rows need none of it."""
    own = ":" in arch
    if p.arch_options and not own:
        raise ValueError(f"arch_options must be left out where arch is no import path, got {p.arch_options}")
    if p.norm != "batch" and (own or arch in YARDSTICK_RATES):
        raise ValueError(f"norm must be batch where arch is no ResNet of bnat's, got {p.norm!r}")
    given = dict(norm=p.norm) if p.norm != "batch" else {}
    if own:
        given |= dict(source=networks.source(arch), arch_options=p.arch_options or {})
    if p.gamma_decay == "one" and p.weight_decay:
        given["gamma_decay"] = "one"
    if p.gamma_start == "uniform":
        given["gamma_start"] = "uniform"
    if p.normalize is not None and p.normalize != (own or p.pretrain_weights is None):
        given["normalize"] = p.normalize
    return given


def _evaluations(p, defaults, data, run):
    """{file name: settings} of what is measured of the trained network; none decides its weights."""
    info = bnat.DATASETS[data]
    eps = float(p.eval_epsilon or run["epsilon"] or defaults["epsilon"])
    available = info["test"] if p.eval_split == "test" else info["images"] // 10
    wanted = {}
    for name in ("eval_images", "margin_images", "aa_images", "check_images"):
        value = getattr(p, name)
        wanted[name] = min(defaults[name], available) if value is None else at_most(name, value, available)
    n, steps, restarts = wanted["eval_images"], p.eval_steps, p.eval_restarts or defaults["eval_restarts"]
    margin = min(n, wanted["margin_images"])
    pgd = dict(epsilon=eps, steps=steps, restarts=restarts, images=n)
    plan = {f"pgd_eps{eps:g}_steps{steps}x{restarts}_n{n}": dict(kind="pgd") | pgd}
    plan[f"margin_eps{eps:g}_steps{steps}x{restarts}_n{margin}"] = (
        dict(kind="margin") | pgd | dict(images=margin)
    )
    if p.eval_split == "tuning":  # for a choice, nothing else is measured
        if run["train_images"] > info["images"] - available:
            limit = info["images"] - available
            raise ValueError(
                f"train_images must be at most {limit} with eval_split tuning, got {run['train_images']}"
            )
        plan = {f"{name}_tuning": settings | dict(split="tuning") for name, settings in plan.items()}
        return _with_generation(plan)
    n_aa, n_check, n_curve = wanted["aa_images"], wanted["check_images"], min(n, defaults["curve_images"])
    with_bn = run["arch"] in bnat.ARCHS and run["arch"] not in YARDSTICK_RATES and p.norm == "batch"
    n_features = n_curve if n_check and with_bn else 0  # of BN's channels
    radii = [eps * factor for factor in (0, 0.125, 0.25, 0.5, 0.75, 1, 1.5, 2, 4)]
    curve = dict(kind="curve", epsilons=radii, steps=steps, images=n_curve)
    # the same images for every network, the smaller sets parts of the larger
    order = np.random.default_rng(2022).permutation(info["test"])
    autoattack = dict(kind="autoattack", epsilon=eps, images=n_aa, index=sorted(order[:n_aa].tolist()))
    plan[f"curve_eps{eps:g}_steps{steps}_n{n_curve}"] = curve
    plan[f"autoattack_eps{eps:g}_random{n_aa}"] = autoattack
    plan[f"checks_eps{eps:g}_n{n_check}"] = dict(kind="checks", epsilon=eps, images=n_check)
    plan[f"features_eps{eps:g}_n{n_features}"] = dict(kind="features", epsilon=eps, images=n_features)
    if run["step"] == "pretrain" and not run["epsilon"]:  # R at radii that break fragile features in part
        radii = [eps * factor for factor in (1 / 32, 1 / 16, 1 / 8, 1 / 4)]
        index = sorted(order[:n_check].tolist())
        small = dict(kind="small", radii=radii, steps=steps, images=n_check, index=index)
        plan[f"small_eps{eps:g}_steps{steps}_random{n_check}"] = small
    n_norms = n if n_check and run["arch"] in bnat.ARCHS else 0
    plan[f"norms_eps{eps:g}_n{n_norms}"] = dict(kind="norms", epsilon=eps, images=n_norms)
    n_gap = min(n, GAP_IMAGES) if n_features else 0
    gap = dict(kind="gap", epsilon=eps, images=n_gap, pad=info["pad"], flip=info["flip"])
    plan[f"gap_eps{eps:g}_n{n_gap}"] = gap
    n_statistics = n_check if n_features else 0
    plan[f"statistics_eps{eps:g}_n{n_statistics}"] = dict(kind="statistics", epsilon=eps, images=n_statistics)
    return _with_generation(plan)


def _with_generation(plan):
    return {name: s | dict(generation=EVALUATION) for name, s in plan.items() if s["images"]}


def figure_name(exp):
    """The stem of a run's figures: with the run's hash, unless it is what the profile does at this ε."""
    run = exp.run
    same = {} if exp.step == "pretrain" else dict(trainable=run["trainable"])
    usual = experiment(exp.step, profile=exp.profile, data=run["data"], epsilon=run["epsilon"], **same)
    part = "" if exp.step == "pretrain" else f"_{run['trainable']}"
    stem = f"{NOTEBOOKS[exp.step].split('_')[0]}_{exp.step}{part}_eps{run['epsilon']:g}"
    return stem if exp.name == usual.name else f"{stem}_{exp.name[-10:]}"
