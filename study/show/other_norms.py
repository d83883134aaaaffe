"""What 07 says of standard training under other normalisations, in tables and sentences: fragility.

Decided here: how small radii are summed up, at which clean accuracies two normalisations are compared. Not
here: claim C7, part by part (c7.py), the measures (measure/), the figure (insights.py).
"""

import itertools

import numpy as np
import pandas as pd

import bnat_utils as bnat
from study.decide import rates
from study.decide.claims import STUDY_BN, on_most_images
from study.decide.statistics import mean_sd, percent, proportion, t_interval
from study.define.rows import NORMALISED, label, short
from study.show.tables import by_row

STUDY = "batch, the study's rate"  # STUDY_BN beside the networks of C7
RIGHT = ("small", "0")  # a measure (see rates): right on the clean image, of those on which C7 is measured


# ------------------------------------------------------------------------------------------ R at small radii
def name_of(key):
    """What a row is called where there is little room: its value of `norm`, if that is what it is about."""
    if key in NORMALISED:
        return NORMALISED[key].parameters["norm"]
    return STUDY if key == STUDY_BN else short(key)


def ends_by_rate(tuned):
    """The tuning runs {key: {lr: {seed: record}}} after their last epoch, on held-out images, in percent.

    {key: {lr: (accuracy under PGD-10 at ε/8, clean accuracy)}}, means over seeds.
    """
    ends = {}
    for key, points in tuned.items():
        ends[key] = {}
        for lr, seeds in points.items():
            last = [epochs[-1] for epochs in with_history(seeds).values()]
            if last:
                small, clean = ([100 * end[f"held_out_{of}"] for end in last] for of in ("small", "clean"))
                ends[key][lr] = float(np.mean(small)), float(np.mean(clean))
    return ends


def small_by_rate(tuned):
    """The tuning runs {key: {lr: {seed: record}}}: PGD-10 at ε/8, in brackets clean accuracy.

    Does the order of the normalisations hang on the learning rates?
    """
    table = {
        short(key): {
            f"learning rate {lr:g}": f"{small:.1f} (clean {clean:.1f})" for lr, (small, clean) in of.items()
        }
        for key, of in ends_by_rate(tuned).items()
    }
    runs = {(key, lr): seeds for key, points in tuned.items() for lr, seeds in points.items()}
    seeds = sorted({str(seed) for of_seed in runs.values() for seed in of_seed})
    title = f"PGD-10 % at ε/8, seed {'/'.join(seeds) or 'none'}, {held_out_images(runs)}"
    return pd.DataFrame.from_dict(table, orient="index").fillna("no result").rename_axis(title)


def said_of_small_by_rate(tuned):
    """How far PGD-10 moves over the rates of one normalisation, and from BN to none at one rate, in words."""
    small = {key: {lr: end[0] for lr, end in of.items()} for key, of in ends_by_rate(tuned).items()}
    moved = [max(of.values()) - min(of.values()) for of in small.values() if len(of) > 1]
    batch, none = small.get("norm_batch", {}), small.get("norm_none", {})
    apart = [f"{none[lr] - batch[lr]:+.1f} at {lr:g}" for lr in batch if lr in none]
    if not moved or not apart:
        return ""
    return (
        f"Over its rates a normalisation moves by {min(moved):.1f} to {max(moved):.1f} points; no "
        f"normalisation less BN at one rate: {', '.join(apart)}, at clean accuracies far apart."
    )


def fragility_table(rows):
    """Standard training under each normalisation {key: {seed: record}}: small radii, LIGS.

    A column a normalisation, a row a measure; of the seeds that were measured on the most images.
    """
    kept, _ = on_most_images(rows, RIGHT)
    table, images = {}, 0
    for key, seeds in kept.items():
        measured = [record for record in seeds.values() if record["small"]]
        if not measured:
            if rows[key]:
                fewer = any(record["small"] for record in rows[key].values())
                table[name_of(key)] = {"clean %": "on fewer images" if fewer else "not yet measured"}
            continue
        small = [record["small"] for record in measured]
        images = small[0]["settings"]["images"]  # as many in every column
        radii = [f"{radius:g}" for radius in small[0]["settings"]["radii"]]
        losses = [record["history"][-1]["train_loss"] for record in measured]
        column = table[name_of(key)] = {"training loss, last epoch": mean_sd(losses, 2)}
        column["clean %"] = rates.text(seeds, RIGHT)
        for radius in radii:
            column[f"R % at {radius}/255"] = rates.text(seeds, ("small", radius))
        for radius in radii:
            survived = [100 * one[radius].sum() / one["0"].sum() for one in small]
            column[f"of those right, % at {radius}/255"] = mean_sd(survived)
        smooth = [record["norms"]["ligs"] for record in measured if record["norms"]]
        if smooth:
            column[f"LIGS ({smooth[0].size:,} images)"] = mean_sd([each.mean() for each in smooth], 3)
    table = table or {"not yet run": {"clean %": "–"}}
    order = max(table.values(), key=len)
    title = f"{images:,} random test images, mean ± sd (seeds)"
    return pd.DataFrame(table).reindex(order).fillna("–").rename_axis(title)


def said_of_ligs(rows):
    """LIGS of BN, at its own rate and at the study's, less that of each other normalisation, in words."""
    smooth = {
        key: {seed: record["norms"]["ligs"].mean() for seed, record in seeds.items() if record["norms"]}
        for key, seeds in rows.items()
    }
    said, signs = [], {}
    for key in ("norm_batch", STUDY_BN):
        each = []
        for other in NORMALISED:
            shared = smooth.get(key, {}).keys() & smooth.get(other, {}).keys()
            if shared and other != "norm_batch":
                gaps = [smooth[key][seed] - smooth[other][seed] for seed in sorted(shared)]
                mean, low, high = t_interval(gaps)
                interval = f" [{low:+.3f}, {high:+.3f}]" if len(gaps) > 1 else ""
                each.append(f"{short(other)} {mean:+.3f}{interval} ({len(gaps)})")
                signs.setdefault(other, []).append(np.sign(low) if low * high > 0 else 0)
        if each:
            said.append(f"- {name_of(key)}: {', '.join(each)}")
    if not said:
        return ""
    alike = [short(other) for other, both in signs.items() if abs(sum(both)) == 2]
    return (
        "LIGS of BN less theirs [95 %] (seeds):\n\n" + "\n".join(said) + "\n\nOf one sign at both of BN's "
        f"rates, without 0 in either interval: {', '.join(alike) or 'none'}."
    )


def seen_by_both(attacked, rows):
    """What survives C7's attacks, and AutoAttack besides, on the random images that both saw.

    attacked: {key: {seed: record}} with AutoAttack at a small radius; rows: the same with small radii.
    Returns {name: (bool [n], bool [n], radius in 1/255)}.
    """
    outcomes = {}
    for key, seeds in attacked.items():
        for seed, record in seeds.items():
            small = rows[key].get(seed, {}).get("small")
            if not record["autoattack"] or not small:
                continue
            settings = record["autoattack"]["settings"]
            flags = small[f"{settings['epsilon']:g}"], small["settings"]["index"]
            shared = rates.on_shared(*flags, record["autoattack"]["robust"], settings["index"])
            if shared:
                before, survivors = shared
                name = f"{name_of(key)}, seed {seed}"
                outcomes[name] = before, before & survivors, settings["epsilon"]
    return outcomes


def under_autoattack(outcomes):
    """R at a small radius and what AutoAttack leaves of it, a line a network of `seen_by_both`."""
    table = {}
    for name, (before, after, epsilon) in outcomes.items():
        table[name] = {
            "at": f"{epsilon:g}/255",
            "R % (n)": percent(proportion(before)),
            "R and AutoAttack % (n)": percent(proportion(after)),
            "AutoAttack alone breaks % (n)": percent(proportion(before & ~after)),
        }
    return by_row(table, "[95 % interval over the images]")


def said_of_autoattack(outcomes):
    """How many images AutoAttack breaks besides, how far that moves a difference, the order; in words."""
    if len(outcomes) < 2:
        return ""
    broken = [(before & ~after).sum() for before, after, _ in outcomes.values()]
    each = [f"{n} of {before.size}" for n, (before, _, _) in zip(broken, outcomes.values(), strict=True)]
    lost = [100 * n / before.size for n, (before, _, _) in zip(broken, outcomes.values(), strict=True)]
    both = [(before.mean(), after.mean()) for before, after, _ in outcomes.values()]
    pairs = itertools.combinations(both, 2)
    swapped = any((r - other_r) * (left - other_left) < 0 for (r, left), (other_r, other_left) in pairs)
    order = "another" if swapped else "the same"
    too_high = "there R is too high, and C7's is not corrected for it" if any(broken) else "no more"
    return (
        f"Of its images AutoAttack breaks {', '.join(each)} that C7's attacks leave: {too_high}. A "
        f"difference of two of these networks moves by at most {max(lost) - min(lost):.1f} points, and they "
        f"stay in {order} order; the images are few, and of further networks it says nothing."
    )


# ----------------------------------------------------------------------------------- at equal clean accuracy
def held_out_images(rows):
    """On how many images a training is judged after each epoch, of {key: {seed: record}}, as text."""
    held_out = {bnat.DATASETS[r["run"]["data"]]["held_out"] for of in rows.values() for r in of.values()}
    return f"{'/'.join(f'{n:,}' for n in sorted(held_out)) or 'no'} held-out images"


def with_history(seeds):
    """{seed: [epoch, ...]} of the records {seed: record} whose small radius was measured epoch by epoch."""
    of_seed = {
        seed: [epoch for epoch in record["history"] if "held_out_small" in epoch]
        for seed, record in seeds.items()
    }
    return {seed: epochs for seed, epochs in of_seed.items() if epochs}


def nearest(epochs, value, by):
    """The one of several epochs that is nearest to a value by a key of theirs, as "held_out_clean"."""
    return min(epochs, key=lambda epoch: abs(epoch[by] - value))


def meetings(rows, by="held_out_clean"):
    """BN beside each other normalisation, {key: {seed: record}}, near one clean accuracy on the way.

    Seed by seed: it is the highest that both reach, and each is looked at after the epoch whose clean
    accuracy is nearest to it. by: "train_loss" for the lowest training loss that both reach, in its place.
    Returns {key: {seed: (that accuracy, BN's epoch, the other's)}}.
    """
    sign = -1 if by == "train_loss" else 1  # the best is the lowest
    batch, met = with_history(rows.get("norm_batch", {})), {}
    for key, seeds in rows.items():
        other = with_history(seeds)
        for seed in sorted(batch.keys() & other.keys()) if key != "norm_batch" else ():
            both = batch[seed], other[seed]
            common = sign * min(max(sign * epoch[by] for epoch in epochs) for epochs in both)
            met.setdefault(key, {})[seed] = common, *(nearest(epochs, common, by) for epochs in both)
    return met


def ahead(met):
    """PGD-10 accuracy at ε/8 of BN less another's, {seed: points} of its `meetings`."""
    return {
        seed: 100 * (bn["held_out_small"] - other["held_out_small"]) for seed, (_, bn, other) in met.items()
    }


def at_equal_accuracy(rows):
    """The `meetings` as a table: clean, and under PGD-10 of an eighth of ε, on held-out images."""
    table = {}
    for key, met in meetings(rows).items():
        row = table[label(key)] = {"near %": "/".join(f"{100 * common:.0f}" for common, _, _ in met.values())}
        for name, place in (("BN", 1), ("it", 2)):
            epochs = [each[place] for each in met.values()]
            row[f"{name}: after epoch"] = "/".join(str(epoch["epoch"]) for epoch in epochs)
            row[f"{name}: clean %"] = mean_sd([100 * epoch["held_out_clean"] for epoch in epochs])
            row[f"{name}: PGD-10 % at ε/8"] = mean_sd([100 * epoch["held_out_small"] for epoch in epochs])
    return by_row(table, held_out_images(rows))


def said_of_equal_accuracy(rows):
    """By how much BN is ahead of each other normalisation near one clean accuracy, or behind, in a line."""
    each = [f"{short(key)} {rates.points(ahead(met))}" for key, met in meetings(rows).items()]
    if not each:
        return "Not yet run."
    return f"PGD-10 accuracy at ε/8, BN less it, points [95 %] (seeds): {'; '.join(each)}."
