"""What the answer depends on: learning rate and weight decay, budget, ε, capacity, pre-training.

Decided here: which values stand on an axis, and for which rows. Not here: what a row is (rows.py), how
an axis is drawn (figures.py).
"""

import numpy as np
import pandas as pd

import bnat_utils as bnat
from study import rates
from study.parameters import PROFILES
from study.records import study_rows
from study.rows import CONTROLS, FIRST_STUDY, LABELS, ROWS

ARMS = ("finetuned", "random")
TRAINED = (*ARMS, "at", "linear", "perceptron")
RATES = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.8, 3.2)
TUNED = dict(
    epochs=5, pretrain_epochs=15
)  # the study's lengths, at which the rates were tuned, and without AT
TUNED_CLEAN = dict(epochs=15)
TEST = {"clean": rates.CLEAN, "PGD-20": rates.PGD, "R": rates.ROBUST}
TUNING = {name: (f"tuning_{kind}", flags) for name, (kind, flags) in TEST.items()}


def along(name, values, rows, **given):
    """{label: {value: {seed: record}}} of some rows at each value of a notebook parameter, where they ran."""
    found, known, shown = {}, {}, {}
    for row in rows:
        label, step, own = ROWS[row]
        shown[row] = label, step, {key: value for key, value in own.items() if key != name}
    for value in values:
        some = study_rows(rows=shown, known=known, **given | {name: value})
        for row, seeds in some.items():
            if seeds:
                found.setdefault(LABELS[row], {})[value] = seeds
    return found


def first_study(**given):
    """{row: {seed: record}} of the first study, which was shorter and tuned otherwise."""
    rows = {
        key: (label, step, own | FIRST_STUDY[key])
        for key, (label, step, own) in (ROWS | CONTROLS).items()
        if key in FIRST_STUDY
    }
    return study_rows(rows=rows, **given)


def tuning(profile, data=None, rows=TRAINED, lengths=TUNED):
    """Accuracy on images kept for tuning alone, against the learning rate, with weight decay and without."""
    info = bnat.DATASETS[data or PROFILES[profile]["data"]]
    images = info["images"] - max(info["images"] // 10, info["held_out"])  # what nothing else is kept for
    given = dict(profile=profile, data=data, train_images=images, pretrain_images=images) | lengths
    without = along("lr", RATES, rows, weight_decay=0, **given)
    return along("lr", RATES, rows, **given) | {f"{k} (no weight decay)": v for k, v in without.items()}


def other_rates(profile, data=None):
    """Accuracy of the arms on the test images at every learning rate of the grid; it chooses nothing."""
    return along("lr", RATES, ARMS, profile=profile, data=data)


def budget(profile, data=None):
    """Accuracy against the adversarial epochs. Three are the first study's, at learning rates of its own."""
    own = {PROFILES[profile][f"{step}_at"][0] for step in ("pretrain", "finetune", "scratch")}
    found = along("epochs", sorted({1, 5, 10, 30} | own), TRAINED, profile=profile, data=data)
    for row, seeds in first_study(profile=profile, data=data).items():
        if seeds and row in TRAINED:
            found.setdefault(LABELS[row], {})[FIRST_STUDY[row]["epochs"]] = seeds
    return {label: dict(sorted(points.items())) for label, points in found.items()}


def radius(profile, data=None):
    """Accuracy under attacks of the ε (1/255) that the network was trained with."""
    return along("epsilon", (2, 4, 8), TRAINED[:-1], profile=profile, data=data)


def capacity(profile, data=None):
    """Accuracy of the arms and of AT against the number of BN's parameters, over width and depth."""
    archs = ("resnet20", "resnet20x2", "resnet20x4", "resnet56")
    found = {}
    for label, points in along("arch", archs, TRAINED[:3], profile=profile, data=data).items():
        sizes = {arch: bn_parameters(next(iter(seeds.values()))) for arch, seeds in points.items()}
        found[label] = {sizes[arch]: points[arch] for arch in sorted(points, key=sizes.get)}
    return found


def pretraining(profile, data=None):
    """Accuracy after one epoch of BN-only AT against the epochs of standard training before; 0: random."""
    given = dict(profile=profile, data=data, epochs=1)
    found = along("pretrain_epochs", (1, 2, 5, 8, 10, 15), ("finetuned",), lr=0.2, **given)
    random = study_rows(rows=dict(random=ROWS["random"]), lr=3.2, **given)["random"]
    return {label: ({0: random} if random else {}) | points for label, points in found.items()}


def bn_parameters(record):
    """The number of γ and β."""
    return sum(len(layer[key]) for layer in record["bn"].values() for key in ("gamma", "beta"))


def table(found, title, measures=TEST):
    """An axis as a table: mean ± sd (seeds) at each of its points, in percent."""
    made = {}
    for label, points in found.items():
        for value, seeds in points.items():
            row = {name: rates.text(seeds, measure) for name, measure in measures.items()}
            outcomes = [r[kind]["robust"] for r in seeds.values() for kind, _ in measures.values() if r[kind]]
            images = "/".join(sorted({f"{flags.size:,}" for flags in outcomes}))
            made[f"{label}, {title} {value:g}"] = row | {"images": images}
    if not made:
        made["not yet run"] = dict.fromkeys([*measures, "images"], "–")
    return pd.DataFrame.from_dict(made, orient="index").rename_axis("% mean ± sd (seeds)")


def best(found, judge="R"):
    """Which learning rate of a tuning is best by a key of TUNING, and whether at an edge: a line a row.

    The rates are compared on the seeds that all of them have; a rate with more seeds than that is not judged
    by the others.
    """
    lines = []
    for label, points in found.items():
        judged = {lr: rates.of_seeds(seeds, TUNING[judge]) for lr, seeds in points.items()}
        judged = {lr: of_seeds for lr, of_seeds in judged.items() if of_seeds}
        if not judged:
            continue
        shared = sorted(set.intersection(*(set(of_seeds) for of_seeds in judged.values())))
        if not shared:
            lines.append(f"- {label}: no seed has every rate")
            continue
        means = {lr: np.mean([of_seeds[seed] for seed in shared]) for lr, of_seeds in judged.items()}
        lr = max(means, key=means.get)
        note = ", at an edge of what was tried" if lr in (min(points), max(points)) else ""
        note = ", the only one tried" if len(points) == 1 else note
        seeds = f"seed{'s' if len(shared) > 1 else ''} {', '.join(map(str, shared))}"
        lines.append(f"- {label}: {lr:g} ({judge} {means[lr]:.1f} % on {seeds}{note})")
    return "\n".join(lines) or "Not yet run."
