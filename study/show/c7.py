"""What 07 says of claim C7, BN against other normalisations, part by part: in tables and sentences.

Decided here: which words a sign over seeds gets, how survival among the images classified correctly stands
beside R. Not here: the verdict (decide/claims.py), the networks' own numbers (other_norms.py), BN less the
others at every radius (small_radii.py).
"""

import dataclasses

import numpy as np

from study.decide import rates, verdicts
from study.decide.claims import STUDY_BN
from study.decide.statistics import t_interval
from study.define.rows import short
from study.show import other_norms
from study.show.tables import by_row


def survival(part, rows, both=False):
    """A part of C7 with, in place of R, the share that survives of the images each network has right.

    rows: {key: {seed: record}} that C7 is judged on. both: of the images that both networks have right.
    """
    values = {}
    for seed in part.values:
        one, other = (rows[key][seed]["small"] for key in part.rows)
        shared = one["0"] & other["0"]
        shares = [small[part.measure[1]][shared if both else small["0"]].mean() for small in (one, other)]
        values[seed] = 100 * float(shares[0] - shares[1])
    return dataclasses.replace(part, values=values)


def parts(claim, rows):
    """Each difference of C7, a row each; rows: {key: {seed: record}} that it was judged on."""
    own = [survival(part, rows) for part in claim.parts]
    shared = [survival(part, rows, both=True) for part in claim.parts]
    p_of, p_of_own, p_of_shared = (verdicts.after_holm(parts) for parts in (claim.parts, own, shared))
    table = {}
    for part, of_own, of_shared in zip(claim.parts, own, shared, strict=True):
        pair = [rows.get(key, {}) for key in part.rows]
        error = rates.error_over_images(*pair, part.values, part.measure)
        table[part.text] = {
            "points [95 %] (seeds)": rates.points(part.values, part.sign),
            "seed by seed": ", ".join(f"{points:+.1f}" for points in part.values.values()) or "–",
            "p, after Holm": p_text(p_of.get(part.text)),
            "standard error over images": "–" if error is None else f"{error:.1f}",
            "of those right, points [95 %] (seeds)": rates.points(of_own.values),
            "of those right: p, after Holm": p_text(p_of_own.get(part.text)),
            "of those that both have right, points [95 %] (seeds)": rates.points(of_shared.values),
            "of those that both have right: p, after Holm": p_text(p_of_shared.get(part.text)),
        }
    return by_row(table, "difference")


def p_text(p):
    """A p-value as text, "–" where there is none."""
    return "–" if p is None else f"{p:.3f}"


def said_of_norms(claim, rows):
    """In how many of C7's differences BN is below the other, and in how many that is certain."""
    ran = [part for part in claim.parts if part.values]
    if not ran:
        return "Not yet run."
    below = [part for part in ran if part.interval()[0] < 0]
    single = [part for part in ran if len(part.values) < 2]
    less, more = verdicts.counted_certain(claim.parts)
    text = (
        f"On average over the seeds that ran, BN is the less robust in {len(below)} of {len(ran)} "
        f"differences, a radius and another normalisation each; certainly less (5 %, after Holm) in {less}, "
        f"certainly more in {more}."
    )
    if single:
        return f"{text} {len(single)} of the {len(ran)} have one seed, of which nothing is certain."
    each, both = ([survival(part, rows, both) for part in claim.parts] for both in (False, True))
    return (
        f"{text} {on_every_seed(claim.parts)} By the same tests of survival, corrected within their eight "
        f"alone: among the images that each network has right BN is {sides(verdicts.certain(each))}; among "
        f"those that both have right, {sides(verdicts.certain(both))}."
    )


def sides(of_c7):
    """Than which normalisations BN is less robust on average, and than which more: of some parts of C7."""
    said = []
    for words, sign in (("less", -1), ("more", 1)):
        radii = {}
        for part in of_c7:
            if sign * part.interval()[0] > 0:
                radii.setdefault(short(part.rows[1]), []).append(part.measure[1])
        named = [f"{name} (at {' and '.join(at)}/255)" for name, at in radii.items()]
        said.append(f"{words} robust than {', '.join(named) or 'none'}")
    return "; ".join(said)


def on_every_seed(of_c7):
    """Than which normalisations BN is less robust on every seed, and than which more, in a sentence."""
    signs = {part.text: {np.sign(points) for points in part.values.values()} for part in of_c7}
    return f"On every seed BN is {sides([part for part in of_c7 if len(signs[part.text]) == 1])}."


def _certain(points):
    """Whether the 95 % t-interval of {seed: points}, not corrected, is on one side of 0."""
    _, low, high = t_interval(points.values())
    return low > 0 or high < 0


def said_of_bn_rates(claim, usual, rows):
    """By how much BN's learning rate alone moves R at C7's radii, and C7's rule at the study's rate.

    In words; "" where one of the rates has no run.

    claim, usual: C7, and the same with `claims.STUDY_BN`; rows: {key: {seed: record}} with both.
    """
    both = rows["norm_batch"], rows[STUDY_BN]
    measures = dict.fromkeys(part.measure for part in claim.parts)  # each once, in their order
    moved = {measure[1]: rates.differences(*both, measure) for measure in measures}
    each = [f"{rates.points(points)} at {radius}/255" for radius, points in moved.items() if points]
    if not each:
        return ""
    lr, study_lr = (next(iter(seeds.values()))["run"]["lr"] for seeds in both)
    text = f"R of BN at {lr:g} less that at {study_lr:g}, points [95 %] (seeds): {', '.join(each)}."
    if "not yet run" in (claim.verdict, usual.verdict):
        return text
    text += (
        f" With BN at {study_lr:g}, the study's, C7's rule says *{usual.verdict}*: BN is certainly "
        f"{sides(verdicts.certain(usual.parts))}"
    )
    if usual.verdict != claim.verdict:
        text += "; so the verdict hangs on BN's learning rate"
        if not any(_certain(points) for points in moved.values()):
            text += (
                ", though R at the two rates differs certainly at neither radius: over so few seeds the "
                "spread moves the verdict, too"
            )
    return f"{text}. {on_every_seed(usual.parts)}"


# ------------------------------------------------------------------------------------------ what it comes to
def summary(claim, usual, rows):
    """BN less each other normalisation at the largest radius of C7, in points, by five measures.

    A list of (the other's key, {title: {seed: points}}), of those that ran; as in `said_of_bn_rates`.
    """
    largest = claim.parts[-1].measure
    by_accuracy, by_loss = other_norms.meetings(rows), other_norms.meetings(rows, "train_loss")
    pairs = [pair for pair in zip(claim.parts, usual.parts, strict=True) if pair[0].measure == largest]
    measured = []
    for part, at_usual in pairs:
        if part.values:
            by = {f"R at {largest[1]}/255": part.values, "R, BN at the study's rate": at_usual.values}
            by["of those right"] = survival(part, rows).values
            other = part.rows[1]
            by["PGD-10 at ε/8 near one clean accuracy"] = other_norms.ahead(by_accuracy.get(other, {}))
            by["PGD-10 at ε/8 near one training loss"] = other_norms.ahead(by_loss.get(other, {}))
            measured.append((part.rows[1], by))
    return measured


def summary_table(measured):
    """A `summary` as a table: points with their intervals, which are not corrected."""
    table = {
        short(key): {title: rates.points(values) for title, values in by.items()} for key, by in measured
    }
    return by_row(table, "BN less it, points [95 %] (seeds)")


def said_in_all(measured):
    """Than which normalisations BN is less robust by each measure of a `summary` on average, in words."""
    by_each, by_some = [], []
    for key, by in measured:
        means = [np.mean(list(values.values())) for values in by.values() if values]
        if len(means) < len(by):
            continue  # the table says which has not run
        (by_each if max(means) < 0 else by_some).append(short(key))
    if not by_each + by_some:
        return ""
    text = f"By each of these, on average, BN is less robust than {', '.join(by_each) or 'none of them'}"
    return f"{text}; not by each than {', '.join(by_some)}." if by_some else f"{text}."
