"""What 07 says of AT of affine parameters alone, in tables and sentences: is it BN?

Decided here: how the learning rates are compared, and how what is left of a signal is summed up. Not here:
other normalisations in standard training (other_norms.py), the measures (measure/norms.py).
"""

import numpy as np
import pandas as pd

from study.decide import rates
from study.decide.statistics import mean_sd
from study.define.rows import label
from study.show.bn_tables import flat
from study.show.norm_tables import excess, never_above_zero
from study.show.other_norms import held_out_images

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
    table = table or {"not yet run": {}}
    every = {(key, lr): seeds for key, points in points_of.items() for lr, seeds in points.items()}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(held_out_images(every))


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


def signal_table(rows):
    """What is left of the signal, a line a network of {key: {seed: record}} that was looked into."""
    table = {}
    for key, seeds in rows.items():
        for seed, record in seeds.items():
            if not (record["gap"] and record["norms"] and record["condensation"]):
                continue
            dead, _ = never_above_zero(record)
            off_by = excess(record["gap"], "deviation", "adversarial")
            table[f"{label(key)}, seed {seed}"] = {
                "median |γ|": f"{np.median(np.abs(flat(record, 'gamma'))):.2f}",
                "|σ of BN / σ of the batch − 1| beyond its noise, largest of a layer": f"{off_by.max():.3f}",
                "dead before a ReLU (%)": f"{100 * dead:.1f}",
                "cosine of two images at the head": f"{record['condensation']['clean'][-1]:.2f}",
            }
    table = table or {"not yet run": {}}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("network")
