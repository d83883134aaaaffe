"""What 07 says of AT of affine parameters alone, in tables and sentences: is it BN?

Decided here: how the learning rates are compared, and how what is left of a signal is summed up. Not here:
other normalisations in standard training (other_norms.py), the measures (measure/norms.py).
"""

import numpy as np

from study.decide import rates
from study.decide.statistics import mean_sd
from study.define.rows import label
from study.show.bn_tables import flat
from study.show.norm_tables import excess, never_above_zero
from study.show.other_norms import held_out_images
from study.show.tables import by_row

RATES_TRIED = 3  # learning rates that the held-out images decide on


def held_out_rates(points_of):
    """{key: {lr: {seed: record}}} after the last epoch, on the held-out images: mean ± sd (seeds)."""
    table = {}
    for key, points in points_of.items():
        for lr, seeds in points.items():
            ends = [record["history"][-1] for record in seeds.values()]
            table[f"{label(key)}, learning rate {lr:g}"] = {
                "clean %": mean_sd([100 * end["held_out_clean"] for end in ends]),
                "PGD-10 %": mean_sd([100 * end["held_out_robust"] for end in ends]),
            }
    every = {(key, lr): seeds for key, points in points_of.items() for lr, seeds in points.items()}
    return by_row(table, held_out_images(every))


def said_of_rates(points_of):
    """Which rows of {key: {lr: {seed: record}}} have not run at as many learning rates as decide, or ""."""
    few = [f"{label(key)} ({len(points)})" for key, points in points_of.items() if len(points) < RATES_TRIED]
    return f"Of {RATES_TRIED} rates not yet run at each: {', '.join(few)}." if few else ""


def said_of_affine(affine, reference):
    """How far AT of other affine parameters gets, less `reference`, {seed: record}; the best first."""
    robust = {key: rates.differences(seeds, reference) for key, seeds in affine.items()}
    robust = {key: of_seeds for key, of_seeds in robust.items() if of_seeds}
    if not robust:
        return ""  # which `not_run` has said
    means = {key: np.mean(list(of_seeds.values())) for key, of_seeds in robust.items()}
    each = []
    for key in sorted(robust, key=means.get, reverse=True):
        clean = rates.differences(affine[key], reference, rates.CLEAN)
        each.append(f"{label(key)} {rates.points(robust[key])}, clean {rates.points(clean)}")
    text = f"R less that of BN-only AT of trained features, points [95 %] (seeds): {'; '.join(each)}."
    if max(len(of_seeds) for of_seeds in robust.values()) > 1:
        return text
    return f"{text} One seed each, and not all from one network: no answer yet."


def said_of_signal(before, after):
    """What AT makes of the signal in the networks that it starts from, {seed: record} each, in words."""
    measures = {"median |γ|": [], "dead channels (%)": [], "cosine at the head": []}
    for seed in sorted(before.keys() & after.keys()):
        both = [before[seed], after[seed]]
        if all(record["norms"] and record["condensation"] for record in both):
            for name, values in zip(measures, zip(*map(signal, both), strict=True), strict=True):
                measures[name].append(values)
    each = [
        f"{name} {' → '.join(mean_sd(values, 2) for values in zip(*pairs, strict=True))}"
        for name, pairs in measures.items()
        if pairs
    ]
    return f"From standard training to BN-only AT, mean ± sd (seeds): {'; '.join(each)}." if each else ""


def signal(record):
    """Median |γ|, dead channels in percent, and the mean cosine of two images at the head, of a network."""
    cosine = record["condensation"]["clean"][-1]
    return float(np.median(np.abs(flat(record, "gamma")))), 100 * never_above_zero(record)[0], float(cosine)


def signal_table(rows):
    """What is left of the signal, a line a network of {key: {seed: record}} that was looked into."""
    table = {}
    for key, seeds in rows.items():
        for seed, record in seeds.items():
            if not (record["gap"] and record["norms"] and record["condensation"]):
                continue
            gamma, dead, cosine = signal(record)
            off_by = excess(record["gap"], "deviation", "adversarial")
            table[f"{label(key)}, seed {seed}"] = {
                "median |γ|": f"{gamma:.2f}",
                "|σ of BN / σ of the batch − 1| beyond its noise, largest of a layer": f"{off_by.max():.3f}",
                "dead before a ReLU (%)": f"{dead:.1f}",
                "cosine of two images at the head": f"{cosine:.2f}",
            }
    return by_row(table, "network")
