"""What 07 says of standard training under other normalisations, in tables and sentences: fragility (C7).

Decided here: how small radii are summed up, at which clean accuracies two normalisations are compared. Not
here: the verdict on C7 (decide/claims.py), the measures (measure/), the figure (insights.py).
"""

import itertools

import numpy as np
import pandas as pd

import bnat_utils as bnat
from study.decide import rates, verdicts
from study.decide.claims import on_most_images
from study.decide.statistics import mean_sd, percent, proportion
from study.decide.trust import on_shared
from study.define.rows import NORMALISED, label, short

STUDY = "batch, the study's rate"  # "standard" beside the networks of C7
RIGHT = ("small", "0")  # a measure (see rates): right on the clean image, of those on which C7 is measured


# ------------------------------------------------------------------------------------------ R at small radii
def name_of(key):
    """What a row is called where there is little room: its value of `norm`, if that is what it is about."""
    if key in NORMALISED:
        return NORMALISED[key].parameters["norm"]
    return STUDY if key == "standard" else short(key)


def small_by_rate(tuned):
    """The tuning runs {key: {lr: {seed: record}}}: PGD-10 at ε/8 after the last epoch, on held-out images.

    In brackets clean accuracy. Does the order of the normalisations hang on the learning rates?
    """
    table, runs = {}, {}
    for key, points in tuned.items():
        row = table[short(key)] = {}
        for lr, seeds in points.items():
            runs[key, lr] = seeds
            ends = [epochs[-1] for epochs in with_history(seeds).values()]
            if ends:
                small, clean = (
                    100 * np.mean([end[f"held_out_{of}"] for end in ends]) for of in ("small", "clean")
                )
                row[f"learning rate {lr:g}"] = f"{small:.1f} (clean {clean:.1f})"
    seeds = sorted({str(seed) for of_seed in runs.values() for seed in of_seed})
    title = f"PGD-10 % at ε/8, seed {'/'.join(seeds) or 'none'}, {held_out_images(runs)}"
    return pd.DataFrame.from_dict(table, orient="index").fillna("no result").rename_axis(title)


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
        column["clean %"] = mean_sd([100 * one["0"].mean() for one in small])
        for radius in radii:
            column[f"R % at {radius}/255"] = mean_sd([100 * one[radius].mean() for one in small])
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


def of_those_right(first, second, part):
    """{seed: points} of a part of C7: the share of the images classified correctly that survives, paired."""
    shares = {}
    for seed in part.values:
        pair = [seeds[seed]["small"] for seeds in (first, second)]
        one, other = (100 * small[part.measure[1]].sum() / small["0"].sum() for small in pair)
        shares[seed] = one - other
    return shares


def parts(claim, rows):
    """Each difference of C7, a row each; rows: {key: {seed: record}} that it was judged on."""
    p_of, table = verdicts.after_holm(claim.parts), {}
    for part in claim.parts:
        pair, p = [rows.get(key, {}) for key in part.rows], p_of.get(part.text)
        error = rates.error_over_images(*pair, part.values, part.measure)
        table[part.text] = {
            "points [95 %] (seeds)": rates.points(part.values, part.sign),
            "p, after Holm": "–" if p is None else f"{p:.3f}",
            "standard error over images": "–" if error is None else f"{error:.1f}",
            "of those right, points [95 %] (seeds)": rates.points(of_those_right(*pair, part)),
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("difference")


def said_of_norms(claim):
    """In how many of C7's differences BN is below the other, and in how many that is certain."""
    ran = [part for part in claim.parts if part.values]
    if not ran:
        return "Not yet run."
    below = [part for part in ran if part.interval()[0] < 0]
    single = [part for part in ran if len(part.values) < 2]
    less, more = verdicts.certain(claim.parts)
    text = (
        f"On average over the seeds that ran, BN is the less robust in {len(below)} of {len(ran)} "
        f"differences, a radius and another normalisation each; certainly less (5 %, after Holm) in {less}, "
        f"certainly more in {more}."
    )
    if single:
        text += f" {len(single)} of the {len(ran)} have one seed, of which nothing is certain."
    differences = {(part.rows[1], part.measure[1]): part.values for part in ran}
    return f"{text} {on_every_seed(differences)}"


def on_every_seed(differences):
    """Than which normalisations BN is less robust on every seed, and than which more, in a sentence.

    differences: BN less another, {(its key, radius): {seed: points}}.
    """
    said = []
    for words, sign in (("less", -1), ("more", 1)):
        radii = {}
        for (key, radius), of_seed in differences.items():
            if all(sign * points > 0 for points in of_seed.values()):
                radii.setdefault(short(key), []).append(radius)
        named = [f"{name} (at {' and '.join(at)}/255)" for name, at in radii.items()]
        said.append(f"{words} robust than {', '.join(named) or 'none'}")
    return f"On every seed BN is {'; '.join(said)}."


def said_of_bn_rates(claim, rows):
    """By how much BN's learning rate alone moves R at C7's radii, and C7's differences at the study's rate.

    In words; "" where one has no run.

    rows: {key: {seed: record}} with "norm_batch", which C7 is judged on, and "standard", the study's BN.
    """
    both = rows["norm_batch"], rows["standard"]
    measures = dict.fromkeys(part.measure for part in claim.parts)  # each once, in their order
    moved = {measure[1]: rates.differences(*both, measure) for measure in measures}
    each = [f"{rates.points(points)} at {radius}/255" for radius, points in moved.items() if points]
    if not each:
        return ""
    lr, usual = (next(iter(seeds.values()))["run"]["lr"] for seeds in both)
    beside = {
        (part.rows[1], part.measure[1]): rates.differences(both[1], rows.get(part.rows[1], {}), part.measure)
        for part in claim.parts
    }
    beside = {at: of_seed for at, of_seed in beside.items() if of_seed}
    below = [of_seed for of_seed in beside.values() if np.mean(list(of_seed.values())) < 0]
    return (
        f"R of BN at {lr:g} less that at {usual:g}, points [95 %] (seeds): {', '.join(each)}. "
        f"With BN at {usual:g}, the study's, it is the less robust in {len(below)} of {len(beside)} "
        f"differences. {on_every_seed(beside)}"
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
            shared = on_shared(*flags, record["autoattack"]["robust"], settings["index"])
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
    table = table or {"not yet run": {}}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("[95 % interval over the images]")


def said_of_autoattack(outcomes):
    """By how much AutoAttack leaves less, how often certainly, and whether in R's order, in words.

    Certainly from one image on: what AutoAttack leaves is part of what R leaves, so the share that it breaks
    is a proportion, whose interval excludes 0 then.
    """
    if len(outcomes) < 2:
        return ""
    lost = [100 * (before.mean() - after.mean()) for before, after, _ in outcomes.values()]
    both = [(before.mean(), after.mean()) for before, after, _ in outcomes.values()]
    pairs = itertools.combinations(both, 2)
    swapped = any((r - other_r) * (left - other_left) < 0 for (r, left), (other_r, other_left) in pairs)
    order = "another" if swapped else "the same"
    certain = [name for name, (before, after, _) in outcomes.items() if (before & ~after).any()]
    too_high = ": there R is too high, and C7's is not corrected for it" if certain else ""
    return (
        f"On these images AutoAttack leaves {min(lost):.1f} to {max(lost):.1f} points less than C7's "
        f"attacks, certainly less in {len(certain)} of these {len(outcomes)} networks{too_high}. It puts "
        f"them in {order} order; the images are few, so how two networks that lie close are ordered is not "
        "certain. Of further networks it says nothing."
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


def nearest(epochs, clean):
    """The one of several epochs whose held-out clean accuracy is nearest to this."""
    return min(epochs, key=lambda epoch: abs(epoch["held_out_clean"] - clean))


def meetings(rows):
    """BN beside each other normalisation, {key: {seed: record}}, near one clean accuracy on the way.

    Seed by seed: it is the highest that both reach, and each is looked at after the epoch whose clean
    accuracy is nearest to it. Returns {key: {seed: (that accuracy, BN's epoch, the other's)}}.
    """
    batch, met = with_history(rows.get("norm_batch", {})), {}
    for key, seeds in rows.items():
        other = with_history(seeds)
        for seed in sorted(batch.keys() & other.keys()) if key != "norm_batch" else ():
            both = batch[seed], other[seed]
            common = min(max(epoch["held_out_clean"] for epoch in epochs) for epochs in both)
            met.setdefault(key, {})[seed] = common, *(nearest(epochs, common) for epochs in both)
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
    table = table or {"not yet run": {}}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(held_out_images(rows))


def said_of_equal_accuracy(rows):
    """By how much BN is ahead of each other normalisation near one clean accuracy, or behind, in a line."""
    each = [f"{short(key)} {rates.points(ahead(met))}" for key, met in meetings(rows).items()]
    if not each:
        return "Not yet run."
    return f"PGD-10 accuracy at ε/8, BN less it, points [95 %] (seeds): {'; '.join(each)}."
