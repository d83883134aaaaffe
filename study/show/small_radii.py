"""What 07 says of standard training under small radii, beside C7: every radius, and gradients in float32.

Decided here: how BN is set against each other normalisation by radius, and what a finer attack leaves. Not
here: the claim, at two radii (c7.py), the networks' own numbers and AutoAttack (other_norms.py).
"""

import numpy as np

from study.decide import rates
from study.decide.claims import on_most_images
from study.decide.statistics import mean_sd
from study.define.rows import NORMALISED, short
from study.show.other_norms import RIGHT, name_of
from study.show.tables import by_row


def over_radii(rows):
    """Accuracy of BN less each other normalisation's by radius: {key: {"0": {seed: points}, "0.25": ...}}.

    rows: {key: {seed: record}}; "0" is clean accuracy, of the random images on which the small radii are.
    """
    kept, _ = on_most_images(rows, RIGHT)
    batch = kept.get("norm_batch", {})
    measured = [record["small"]["settings"]["radii"] for record in batch.values() if record["small"]]
    radii = ["0", *(f"{radius:g}" for radius in measured[0])] if measured else []
    gaps = {}
    for key in NORMALISED:
        if key != "norm_batch":
            by_radius = {at: rates.differences(batch, kept.get(key, {}), ("small", at)) for at in radii}
            if any(by_radius.values()):
                gaps[key] = by_radius
    return gaps


def over_radii_table(gaps):
    """`over_radii` as a table: points with their intervals, which are not corrected."""
    table = {
        short(key): {
            f"at {radius}/255" if radius != "0" else "clean": rates.points(points)
            for radius, points in by_radius.items()
        }
        for key, by_radius in gaps.items()
    }
    return by_row(table, "BN less it, points [95 %] (seeds)")


def said_over_radii(gaps):
    """At which radii BN is on average more robust than each other normalisation, and less, in words."""
    each = []
    for key, by_radius in gaps.items():
        means = {radius: np.mean(list(points.values())) for radius, points in by_radius.items()}
        above = [radius for radius, mean in means.items() if mean > 0 and radius != "0"]
        below = [radius for radius, mean in means.items() if mean <= 0 and radius != "0"]
        sides_of = [
            f"{words} at {', '.join(at)}/255" for words, at in (("above", above), ("below", below)) if at
        ]
        each.append(f"{short(key)}: {', '.join(sides_of)}")
    return f"R of BN, on average over seeds, beside that of {'; '.join(each)}." if each else ""


def in_float32(rows):
    """What survives C7's attacks, and the same by gradients in float32, on the images that both saw.

    rows: {key: {seed: record}}. Returns {key: {radius: {seed: (bool [n], bool [n])}}}, the second of both.
    """
    outcomes = {}
    for key, seeds in rows.items():
        for seed, record in seeds.items():
            small, exact = record["small"], record["small_float32"]
            for radius in exact["settings"]["radii"] if small and exact else ():
                name = f"{radius:g}"
                shared = rates.on_shared(*rates.outcomes_of(small, name), *rates.outcomes_of(exact, name))
                if shared:
                    before, survivors = shared
                    outcomes.setdefault(key, {}).setdefault(name, {})[seed] = before, before & survivors
    return outcomes


def float32_table(outcomes):
    """R at C7's radii, and what gradients in float32 leave of it, a line a row of `in_float32`."""
    table = {}
    for key, by_radius in outcomes.items():
        row = table[name_of(key)] = {}
        for radius, pairs in by_radius.items():
            before, after = (
                [100 * flags.mean() for flags in each] for each in zip(*pairs.values(), strict=True)
            )
            broken = sum(int((one & ~left).sum()) for one, left in pairs.values())
            right = sum(int(one.sum()) for one, _ in pairs.values())
            row[f"R % at {radius}/255"] = mean_sd(before)
            row[f"and by float32, at {radius}/255"] = mean_sd(after)
            row[f"float32 alone breaks, at {radius}/255"] = f"{broken} of {right:,}"
    return by_row(table, "mean ± sd (seeds)")


def said_of_float32(outcomes):
    """BN less each other normalisation on these images, before and after gradients in float32, in words."""
    each = []
    for radius, bn in outcomes.get("norm_batch", {}).items():
        said = []
        for key in NORMALISED:
            other = outcomes.get(key, {}).get(radius, {})
            seeds = sorted(bn.keys() & other.keys())
            if key != "norm_batch" and seeds:
                gaps = ([100 * (bn[s][i].mean() - other[s][i].mean()) for s in seeds] for i in (0, 1))
                before, after = (float(np.mean(gap)) for gap in gaps)
                said.append(f"{short(key)} {before:+.1f} → {after:+.1f} ({len(seeds)})")
        if said:
            each.append(f"at {radius}/255 {', '.join(said)}")
    if not each:
        return ""
    return f"Attacked in float32, too, BN less it, points of R → of both (seeds): {'; '.join(each)}."
