"""What the answer depends on: learning rate and weight decay, budget, ε, capacity, pre-training.

Decided here: which values stand on an axis, and for which rows. Not here: what a row is (define/rows.py), how
an axis is drawn (show/insights.py).
"""

from dataclasses import replace

import bnat_utils as bnat
from study.decide import rates
from study.decide.select import study_rows
from study.define.experiment import tuning_images
from study.define.parameters import PROFILES
from study.define.rows import AFFINE, ARMS, CONTROLS, EVERY, FIRST_STUDY, ROWS
from study.run.records import prefix

TRAINED = (*ARMS, "at", "linear", "perceptron")
TUNED_ROWS = (*TRAINED, "two_stages", "linear_long", "perceptron_long")
RATES = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.0125, 0.03, 0.05, 0.1, 0.2, 0.8, 3.2)
RADII = (2, 4, 8)  # ε in 1/255
RADIUS_RATES = {"linear": {2: 0.001, 4: 0.003}}  # tuned at that ε; every other rate of `radius` was at 8/255
CLEAN_OF = {"random": "bn_clean", "two_stages": "bn_clean", "linear": "linear_clean"}  # at ε = 0
NO_DECAY = "no weight decay"
TUNED = dict(epochs=5, pretrain_epochs=15)  # the study's lengths, at which the rates were tuned; without AT
TUNED_CLEAN = dict(epochs=15)
TUNED_NORMS = dict(epochs=5)  # a third of what standard training has, for time's sake
TEST = {"clean": rates.CLEAN, "PGD-20": rates.PGD, "R": rates.ROBUST}
TUNING = {name: (prefix("tuning") + kind, flags) for name, (kind, flags) in TEST.items()}
TUNING_CLEAN = {name: TUNING[name] for name in ("clean", "PGD-20")}  # where clean accuracy is what chooses


def along(name, values, keys, **parameters):
    """{key: {value: {seed: record}}} of some rows at each value of a notebook parameter, where they ran."""
    axis, known, rows = {}, {}, {}
    for key in keys:
        own = {parameter: value for parameter, value in EVERY[key].parameters.items() if parameter != name}
        rows[key] = replace(EVERY[key], parameters=own)
    for value in values:
        for key, seeds in study_rows(rows=rows, known=known, **parameters | {name: value}).items():
            if seeds:
                axis.setdefault(key, {})[value] = seeds
    return axis


def first_study(**parameters):
    """{key: {seed: record}} of the first study, which was shorter and tuned otherwise."""
    rows = {
        key: replace(row, parameters=row.parameters | row.first_study)
        for key, row in (ROWS | CONTROLS).items()
        if row.first_study
    }
    return study_rows(rows=rows, **parameters)


# parameters, in what follows: those of a reading notebook, "profile" among them
def tuning(keys=TUNED_ROWS, lengths=TUNED, **parameters):
    """Accuracy on images kept for tuning alone, against the learning rate, with weight decay and without."""
    info = bnat.DATASETS[parameters.get("data") or PROFILES[parameters["profile"]]["data"]]
    kept = max(tuning_images(info["images"]), info["held_out"])  # for something else
    images = info["images"] - kept
    parameters |= dict(train_images=images, pretrain_images=images) | lengths
    without = along("lr", RATES, keys, weight_decay=0, **parameters)
    return along("lr", RATES, keys, **parameters) | {(key, NO_DECAY): runs for key, runs in without.items()}


def other_rates(**parameters):
    """Accuracy of the arms on the test images at the learning rates that ran; it chooses nothing.

    An arm that ran at several, on the seeds that it has at each: other seeds would show how seeds differ.
    """
    arms = along("lr", RATES, ARMS, **parameters)
    return {key: on_shared_seeds(points) for key, points in arms.items() if len(points) > 1}


def on_shared_seeds(points):
    """{value: {seed: record}} with the seeds alone that every value has."""
    shared = set.intersection(*(set(seeds) for seeds in points.values()))
    return {value: {seed: seeds[seed] for seed in sorted(shared)} for value, seeds in points.items()}


def affine_rates(**parameters):
    """The rows of AFFINE at every learning rate of the grid: of those that the held-out images decide on."""
    return along("lr", RATES, AFFINE, **parameters)


def budget(**parameters):
    """Accuracy against the adversarial epochs; apart, the first study's, at learning rates of its own."""
    own = {PROFILES[parameters["profile"]][f"{step}_at"][0] for step in ("pretrain", "finetune", "scratch")}
    axis = along("epochs", sorted({5, 10, 30} | own), TRAINED, **parameters)
    for key, seeds in first_study(**parameters).items():
        if seeds and key in TRAINED:
            axis[key, "first study"] = {FIRST_STUDY[key]["epochs"]: seeds}
    return axis


def radius(**parameters):
    """Accuracy under attacks of the ε (1/255) that the network was trained with.

    A row of RADIUS_RATES is shown at its rate there, if that has run.
    """
    axis = along("epsilon", RADII, (*ARMS, "two_stages", "at", "linear"), **parameters)
    for key, tuned in RADIUS_RATES.items():
        for eps, lr in tuned.items():
            points = along("epsilon", (eps,), (key,), **parameters | {"lr": lr}).get(key)
            if points:
                axis[key] = dict(sorted((axis.get(key, {}) | points).items()))
    return axis


def radius_tuning(**parameters):
    """As `tuning`, of the rows of RADIUS_RATES at the ε at which they have rates of their own."""
    found = {}
    for key, tuned in RADIUS_RATES.items():
        for eps in tuned:
            points = tuning((key,), **parameters | {"epsilon": eps}).get(key)
            if points:
                found[key, f"ε = {eps}/255"] = points
    return found


def explored(points_of):
    """Whether anything but the study's own value of an axis {key: {value: {seed: record}}} has run."""
    return any(len(points) > 1 for points in points_of.values())


def gaps(radii, rows):
    """By how much trained features are ahead, in points, by ε: {key: {ε: {seed: points}}}, of R by `radius`.

    At ε = 0, where nothing is attacked, of clean accuracy: standard training less what learns on clean images
    there, of the study's `rows`. Without what ran at one ε above 0 alone.
    """
    trained, ahead = radii.get("finetuned", {}), {}
    for key, clean in CLEAN_OF.items():
        above = {
            eps: rates.differences(trained[eps], seeds)
            for eps, seeds in radii.get(key, {}).items()
            if eps in trained
        }
        if len(above) > 1:
            ahead[key] = {0: rates.differences(rows["standard"], rows[clean], rates.CLEAN)} | above
    return ahead


def capacity(**parameters):
    """Accuracy of BN-only AT and of AT against the number of BN's parameters, over width and depth."""
    archs = ("resnet20x0.5", "resnet20", "resnet20x2", "resnet20x4", "resnet56")
    axis = {}
    for key, points in along(
        "arch", archs, (*ARMS, "two_stages", "at"), **parameters | dict(arch_options=None)
    ).items():
        sizes = {arch: bn_parameters(next(iter(seeds.values()))) for arch, seeds in points.items()}
        axis[key] = {sizes[arch]: points[arch] for arch in sorted(points, key=sizes.get)}
    return axis


def pretraining(**parameters):
    """Accuracy after one epoch of BN-only AT against the epochs of standard training before; 0: random."""
    parameters |= dict(epochs=1)
    parameters |= dict(lr=FIRST_STUDY["finetuned"]["lr"])  # of random features, too: one recipe
    axis = along("pretrain_epochs", (1, 2, 5, 8, 10, 15), ("finetuned",), **parameters)
    random = study_rows(rows=dict(random=ROWS["random"]), **parameters)["random"]
    return axis | ({"random": {0: random}} if random else {})


def bn_parameters(record):
    """The number of γ and β."""
    return sum(len(layer[key]) for layer in record["bn"].values() for key in ("gamma", "beta"))
