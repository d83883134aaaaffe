"""What is measured of a network: the registry of measurements, and those that a run was asked for.

Decided here: which parameter asks for which measurement, on which images it is made, what its file is called.
Not here: how each measures (the other rooms of this floor), when it is made and kept
(run/runs.py). A new measurement is a function and an entry of MEASUREMENTS.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

import bnat_utils as bnat
from study.define.experiment import has_bn, tuning_images
from study.measure import attacks, channels, masking, norms, perturbations

EVALUATION = 2  # raise it when a change to the code changes what an evaluation says
GAP_IMAGES = 1280  # ten batches of training
CURVE = (0, 0.125, 0.25, 0.5, 0.75, 1, 1.5, 2, 4)  # radii, in the ε of the evaluation
PICTURED = 2  # images whose perturbation is shown
SMALL = (1 / 32, 1 / 16, 1 / 8, 1 / 4)  # those that break fragile features in part
OF_C7 = (1 / 16, 1 / 8)  # of these, those that the claim looks at: 0.5/255 and 1/255 where ε is 8/255
IN_FLOAT32 = 200  # random images on which these are attacked by gradients in float32, too
BY_EPOCH = 1 / 8  # and that which is looked at after each epoch
EPOCH_STEPS = 10  # of PGD after each epoch, on the held-out images


@dataclass(frozen=True)
class Beside:
    """What a measurement may look at beside the network and its images."""

    training: tuple  # images and labels
    earlier: dict  # {file name: evaluation} of the same weights
    in_parts: Callable  # makes a long attack part by part, so that a kill loses one part


@dataclass(frozen=True)
class Measurement:
    """One kind of evaluation."""

    kind: str
    asked_by: str  # the parameter without which, where it is 0, it is not made
    settings: Callable  # (Experiment) to its settings; images 0: not of this network
    measure: Callable  # (model, x, y, settings, Beside) to {name: tensor}


def radius(settings):
    """The ε of an evaluation, in [0, 1]."""
    return settings["epsilon"] / 255


# -------------------------------------------------------------------------------- settings of a kind
def random_images(exp, n):
    """n test images drawn at random: the same for every network, the smaller sets parts of the larger."""
    test = bnat.DATASETS[exp.run["data"]]["test"]
    return sorted(np.random.default_rng(2022).permutation(test)[:n].tolist())


def attack_of(settings):
    """What of an evaluation's settings does not say on which images it is made."""
    return {key: value for key, value in settings.items() if key not in ("images", "index", "split")}


def epsilon_of(settings):
    """The ε, in 1/255, that an evaluation belongs to, by its settings: that of the run that asked for it."""
    if "radii" in settings:
        return settings["radii"][0] / (OF_C7 if settings.get("kind") == "small_float32" else SMALL)[0]
    if "epsilons" in settings:
        return settings["epsilons"][CURVE.index(1)]
    return settings["epsilon"]


def looked_into(exp):
    """Whether what BN does inside is measured: of bnat's own networks with BN."""
    arch = exp.run["arch"]
    return arch in bnat.ARCHS and has_bn(arch) and "norm" not in exp.run


def pgd(exp):
    asked = exp.asked
    attack = dict(epsilon=asked.epsilon, steps=asked.steps, restarts=asked.restarts)
    return attack | dict(images=asked.eval_images)


def margin(exp):
    return pgd(exp) | dict(images=exp.asked.margin_images)


def curve(exp):
    radii = [exp.asked.epsilon * factor for factor in CURVE]
    radii = [radius for radius in radii if radius <= 255]  # beyond, every image is in the ball
    return dict(epsilons=radii, steps=exp.asked.steps, images=exp.asked.curve_images)


def autoattack(exp):
    n = exp.asked.aa_images
    return dict(epsilon=exp.asked.epsilon, images=n, index=random_images(exp, n))


def checks(exp):
    return dict(epsilon=exp.asked.epsilon, images=exp.asked.check_images)


def features(exp):
    return dict(epsilon=exp.asked.epsilon, images=exp.asked.curve_images if looked_into(exp) else 0)


def pictured(exp):
    n = min(exp.asked.curve_images, PICTURED) if looked_into(exp) else 0
    return dict(epsilon=exp.asked.epsilon, images=n)


def worst_case(exp):
    """Of the linear classifier, of which it is known."""
    n = exp.asked.margin_images if exp.run["arch"] == "linear" else 0
    return dict(epsilon=exp.asked.epsilon, images=n)


def small(exp):
    standard = exp.run["step"] == "pretrain" and not exp.run["epsilon"]
    n = exp.asked.small_images if standard else 0
    radii = [exp.asked.epsilon * factor for factor in SMALL]
    return dict(radii=radii, steps=exp.asked.steps, images=n, index=random_images(exp, n))


def small_float32(exp):
    """Of some of the images: bfloat16 rounds an image by no less than a small radius moves it."""
    n = min(small(exp)["images"], IN_FLOAT32)
    radii = [exp.asked.epsilon * factor for factor in OF_C7]
    return dict(radii=radii, steps=exp.asked.steps, images=n, index=random_images(exp, n))


def readouts(exp):
    """With the checks, and wherever the small radii are measured, beside which 07 shows LIGS."""
    wanted = exp.asked.check_images or small(exp)["images"]
    n = exp.asked.eval_images if wanted and exp.run["arch"] in bnat.ARCHS else 0
    return dict(epsilon=exp.asked.epsilon, images=n)


def gap(exp):
    info = bnat.DATASETS[exp.run["data"]]
    whole = min(exp.asked.eval_images, GAP_IMAGES) // norms.BATCH  # batches; one has none to be compared with
    n = whole * norms.BATCH if whole > 1 and looked_into(exp) else 0
    return dict(epsilon=exp.asked.epsilon, images=n, pad=info["pad"], flip=info["flip"])


def condensation(exp):
    return dict(epsilon=exp.asked.epsilon, images=gap(exp)["images"])


def statistics(exp):
    n = exp.asked.check_images if looked_into(exp) else 0
    return dict(epsilon=exp.asked.epsilon, images=n)


# --------------------------------------------------------------------------- a network to its numbers
def at_epsilon(function):
    """A measurement that wants to know of its settings ε alone."""

    def measured(model, x, y, settings, beside):
        return function(model, x, y, eps=radius(settings))

    return measured


def measure_pgd(model, x, y, settings, beside):
    steps, restarts = settings["steps"], settings["restarts"]
    attack = dict(eps=radius(settings), steps=steps, restarts=restarts, progress=f"PGD-{steps}")
    return bnat.evaluate(model, x, y, **attack)


def same_attack(pgd_settings, settings):
    """Whether a PGD evaluation is the one that a multi-targeted one goes on from, by their settings."""
    shared = ("epsilon", "steps", "restarts", "split")
    same = all(pgd_settings.get(key) == settings.get(key) for key in shared)
    return pgd_settings["kind"] == "pgd" and same and pgd_settings["images"] >= settings["images"]


def measure_margin(model, x, y, settings, beside):
    """On what PGD on the cross-entropy leaves."""
    before = next(e for e in beside.earlier.values() if same_attack(e["settings"], settings))
    alive = torch.from_numpy(before["robust"][: len(y)].copy())
    attack = dict(eps=radius(settings), steps=settings["steps"], alive=alive, progress="multi-targeted PGD")
    return dict(robust=bnat.multi_targeted(model, x, y, **attack))


def measure_curve(model, x, y, settings, beside):
    radii = [epsilon / 255 for epsilon in settings["epsilons"]]
    left = [bnat.evaluate(model, x, y, eps=eps, steps=settings["steps"])["robust"] for eps in radii]
    return dict(robust=torch.stack(left))


def measure_autoattack(model, x, y, settings, beside):
    def attack(images, labels):
        return attacks.autoattack(model, images, labels, eps=radius(settings))

    left = beside.in_parts(attack, x, y, part=100, name="AutoAttack")
    return left | dict(robust=list(left.values())[-1])


def measure_small(model, x, y, settings, beside):
    dtype = torch.float32 if settings["kind"] == "small_float32" else None

    def attack(images, labels):
        return attacks.at_radii(model, images, labels, settings["radii"], settings["steps"], dtype)

    return beside.in_parts(attack, x, y, part=500, name="small radii")


def measure_readouts(model, x, y, settings, beside):
    return norms.readouts(model, x, y)


def measure_gap(model, x, y, settings, beside):
    augmented = dict(pad=settings["pad"], flip=settings["flip"])
    return norms.gap(model, x, y, eps=radius(settings), **augmented)


def measure_statistics(model, x, y, settings, beside):
    return norms.by_source(model, beside.training, x, y, eps=radius(settings))


MEASUREMENTS = {
    each.kind: each
    for each in (  # in the order in which they are made
        Measurement("pgd", "eval_images", pgd, measure_pgd),
        Measurement("margin", "margin_images", margin, measure_margin),
        Measurement("worst_case", "margin_images", worst_case, at_epsilon(attacks.worst_case)),
        Measurement("curve", "eval_images", curve, measure_curve),
        Measurement("autoattack", "aa_images", autoattack, measure_autoattack),
        Measurement("small", "small_images", small, measure_small),
        Measurement("small_float32", "small_images", small_float32, measure_small),
        Measurement("norms", "eval_images", readouts, measure_readouts),
        Measurement("features", "check_images", features, at_epsilon(channels.bn_features)),
        Measurement("usefulness", "check_images", features, at_epsilon(channels.usefulness)),
        Measurement("perturbations", "check_images", pictured, at_epsilon(perturbations.perturbations)),
        Measurement("gap", "check_images", gap, measure_gap),
        Measurement("condensation", "check_images", condensation, at_epsilon(norms.condensation)),
        Measurement("statistics", "check_images", statistics, measure_statistics),
        Measurement("checks", "check_images", checks, at_epsilon(masking.check_attacks)),  # the longest last
    )
}
FOR_A_CHOICE = ("pgd", "margin")  # all that is measured on images kept for tuning


# ------------------------------------------------------------------------------------- what a run is asked
def file_name(kind, epsilon, settings):
    """The name of an evaluation's file: kind, ε of the evaluation, attack, images."""
    attack = f"_steps{settings['steps']}" if "steps" in settings else ""
    attack += f"x{settings['restarts']}" if "restarts" in settings else ""
    which = "random" if "index" in settings else "n"
    split = f"_{settings['split']}" if "split" in settings else ""
    return f"{kind}_eps{epsilon:g}{attack}_{which}{settings['images']}{split}"


def evaluations(exp):
    """{file name: settings} of what is to be measured of an experiment's network, in their order."""
    tuning = exp.asked.split == "tuning"
    wanted = {}
    for kind in FOR_A_CHOICE if tuning else MEASUREMENTS:
        measurement = MEASUREMENTS[kind]
        settings = dict(kind=kind) | measurement.settings(exp)
        if tuning:
            settings["split"] = "tuning"
        if settings["images"] and getattr(exp.asked, measurement.asked_by):
            name = file_name(kind, exp.asked.epsilon, settings)
            wanted[name] = settings | dict(generation=EVALUATION)
    return wanted


def images_of(data, settings):
    """The images and labels that an evaluation is made on."""
    if settings.get("split") == "tuning":  # the last of the training images
        both = [torch.cat(pair) for pair in zip(data["train"], data["held_out"], strict=True)]
        first = len(both[1]) - tuning_images(len(both[1]))
        return [t[first : first + settings["images"]] for t in both]
    if "index" in settings:
        return [t[settings["index"]] for t in data["test"]]
    return [t[: settings["images"]] for t in data["test"]]


def measure(model, data, settings, *, earlier, in_parts):
    """One evaluation of a network, its settings to {name: tensor}. earlier, in_parts: see `Beside`."""
    x, y = images_of(data, settings)
    beside = Beside(data["train"], earlier, in_parts)
    return MEASUREMENTS[settings["kind"]].measure(model, x, y, settings, beside)
