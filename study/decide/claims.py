"""The paper's claims, C1 to C7: a rule each, and what the records say.

The rules were fixed on the project's design page before the second study's first evaluation on the test set,
and amended once, on 2026-11-24 at 20:46 UTC, when of the fresh seeds only seed 10 was known (04_robustness
has the ledger). Decided here: which seeds count, which difference carries a claim and by which rule. Not
here: what the rules are (verdicts.py), what a row is (define/rows.py), what R is (rates.py), how claims are
shown (show/claim_tables.py).

All numbers are in points of accuracy. R is robust accuracy at the ε of training: what survives PGD-20 and
multi-targeted PGD. Every difference is paired by seed and taken on the same images; a rule looks at the
95 % t-interval over seeds, but where it says another test; "equivalent" is TOST at ± δ. A claim with several
parts is confirmed if each of them is, and contradicted if one is: one certain counterexample is enough.
"""

import numpy as np

from study.decide import rates, statistics
from study.decide.rates import CLEAN, ROBUST
from study.decide.verdicts import (
    DELTA,
    Claim,
    Part,
    clears_after_holm,
    does_not_exceed,
    exceeds,
    exceeds_by_signs,
    judge,
    missing_runs,
    numbers,
    rows_lacking,
)
from study.define.normalisations import NORMS
from study.define.parameters import PROFILES
from study.define.rows import ARMS, short
from study.measure.plan import OF_C7

STUDY_BN = "standard"  # standard training with BN at its profile's rate; C7's has a rate of its own


def planned(keys, profile):
    """The seeds that count for a difference of these rows: six of both arms, three with any other row.

    They are counted from the profile's first on. No other seed enters a claim.
    """
    first = PROFILES[profile]["seed"]
    return range(first, first + (6 if set(keys) <= set(ARMS) else 3))


def on_most_images(rows, measure):
    """Of {key: {seed: record}} the seeds measured on as many images as any, and a note on each other seed."""
    sizes = {
        (key, seed): rates.flags(record, measure).size
        for key, seeds in rows.items()
        for seed, record in seeds.items()
        if rates.flags(record, measure) is not None
    }
    most = max(sizes.values(), default=0)
    fewer = {at: n for at, n in sizes.items() if n < most}
    kept = {
        key: {seed: record for seed, record in seeds.items() if (key, seed) not in fewer}
        for key, seeds in rows.items()
    }
    return kept, [
        f"{short(key)}, seed {seed}, on {n:,} images, is left out" for (key, seed), n in fewer.items()
    ]


def _part(rows, text, keys, profile, measure=ROBUST, **side):
    """The first row's accuracy, less the second's if there is one, by planned seed that the rows share."""
    seeds_planned = tuple(planned(keys, profile))
    runs = {
        key: {seed: record for seed, record in rows.get(key, {}).items() if seed in seeds_planned}
        for key in keys
    }
    runs, notes = on_most_images(runs, measure)
    measured = {key: rates.of_seeds(seeds, measure) for key, seeds in runs.items()}
    if len(keys) == 1:
        values, every = measured[keys[0]], rates.of_seeds(rows.get(keys[0], {}), measure)
    else:
        values = rates.differences(*runs.values(), measure)
        every = rates.differences(*(rows.get(key, {}) for key in keys), measure)
    if measure == ROBUST:
        notes += [
            f"R({short(key)}), seed {seed}, is corrected by AutoAttack"
            for seed in values
            for key in keys
            if rates.robust_accuracy(runs[key][seed])[1]
        ]
    lacking = tuple(key for key in keys if len(measured[key]) < 2)
    notes = tuple(notes)
    return Part(
        text, tuple(keys), values, seeds_planned, every, measure, lacking=lacking, notes=notes, **side
    )


def _difference(rows, minuend, subtrahend, profile, **side):
    """R of one row less R of another."""
    text = f"R({short(minuend)}) − R({short(subtrahend)})"
    return _part(rows, text, (minuend, subtrahend), profile, **side)


def _error_over_images(rows, part):
    """Standard error of a difference over the test images, in points; None without images."""
    return rates.error_over_images(*(rows.get(key, {}) for key in part.rows), part.values, part.measure)


def _near_delta(rows, part):
    """Whether other test images might change that a difference is small or meaningful.

    A bound of the interval over seeds lies within two standard errors over the images of δ.
    """
    error, (_, low, high) = _error_over_images(rows, part), part.interval()
    return error is not None and min(abs(low - DELTA), abs(high - DELTA)) < 2 * error


def _over_images(rows, part, sized=True):
    """How much of a difference hangs on the choice of the test images: a note, or none.

    sized: whether the claim asks if it is above δ.
    """
    error = _error_over_images(rows, part)
    if not error:
        return []
    text = f"standard error over the test images {error:.1f}"
    if sized and _near_delta(rows, part):
        text += f": whether it is above {DELTA:g} points might be otherwise on other images"
    return [text]


def _take_off(rows, part, key="random"):
    """Which AT of random features behind a part, runs of the row `key`, took off; a note, or none."""
    trainings = {seed: rows[key][seed] for seed in part.values if rows[key][seed].get("history")}
    _, stayed = rates.split(trainings)
    if not stayed:
        return []
    which = ", ".join(map(str, stayed))
    return [
        f"{len(trainings) - len(stayed)} of {len(trainings)} runs of random features took off; "
        f"this rests also on those that did not (seed {which})"
    ]


def _beside(part):
    """The same difference over every seed that both rows have: a note that decides nothing, or none."""
    if len(part.every) <= len(part.values):
        return []
    return [f"over all seeds that ran, which decides nothing: {rates.points(part.every)}"]


# -------------------------------------------------------------------------------------------- the claims
BY_SIGNS = "C6"  # the claim that the sign-flip test decides, not the t-interval


def c1(rows, profile):
    """Confirmed: clean > 80 and R < 1. Contradicted: one of them certainly not."""
    parts = [
        _part(rows, f"clean({short('standard')})", ["standard"], profile, CLEAN, bound=80.0),
        _part(rows, f"R({short('standard')})", ["standard"], profile, bound=1.0, above=False),
    ]
    return judge("C1", "Standard training learns fragile features", c1.__doc__, parts)


def c2(rows, profile):
    """Confirmed: interval > 0. Contradicted: < 0."""
    part = _difference(rows, "at", "finetuned", profile)
    statement = "AT of all weights is the robust reference"
    return judge("C2", statement, c2.__doc__, [part], notes=_over_images(rows, part, sized=False))


def c3(rows, profile):
    """Confirmed: interval > δ. Contradicted: < δ."""
    text = f"clean({short('bn_clean')}) − clean({short('linear_clean')})"
    part = _part(rows, text, ("bn_clean", "linear_clean"), profile, CLEAN, bound=DELTA)
    statement = "BN alone is expressive over random features"
    return judge("C3", statement, c3.__doc__, [part], notes=_over_images(rows, part))


def c4(rows, profile):
    """Confirmed: interval > 0 (small if within δ, meaningful if > δ). Contradicted: < 0, or equivalent
    within δ with 0 inside."""
    statement = "BN-only AT gives fragile features non-trivial robustness"
    part = _difference(rows, "finetuned", "linear", profile)
    notes, near = _beside(part) + _over_images(rows, part), _near_delta(rows, part)
    return judge("C4", statement, c4.__doc__, [part], exceeds, notes, near)


def c5(rows, profile):
    """Confirmed: interval < 0, or equivalent within δ. Contradicted: > δ."""
    statement = "BN-only AT of random features gives no meaningful robustness"
    part = _difference(rows, "random", "linear", profile)
    notes = _take_off(rows, part) + _beside(part) + _over_images(rows, part)
    return judge("C5", statement, c5.__doc__, [part], does_not_exceed, notes)


def c6(rows, profile):
    """Confirmed: > 0 by the exact sign-flip test over the paired differences of all seeds, runs that did not
    take off included (two-sided, 5 %; small if within δ, meaningful if > δ, by the t-interval).
    Contradicted: < 0, or, where not confirmed, equivalent within δ with 0 inside."""
    statement = "BN-only AT gets further with trained than with random features (primary)"
    part = _difference(rows, "finetuned", "random", profile)
    notes = [f"sign-flip test: p = {statistics.sign_flip(part.values.values()):.3f}"] if part.values else []
    notes += _take_off(rows, part) + _over_images(rows, part)
    return judge("C6", statement, c6.__doc__, [part], exceeds_by_signs, notes, _near_delta(rows, part))


def c6s(rows, profile):
    """Confirmed: interval > 0 (small if within δ, meaningful if > δ). Contradicted: < 0, or equivalent
    within δ with 0 inside."""
    statement = "... and with the same two stages of training"
    part = _difference(rows, "finetuned", "two_stages", profile)
    notes = _take_off(rows, part, "two_stages") + _over_images(rows, part)
    return judge("C6s", statement, c6s.__doc__, [part], exceeds, notes, _near_delta(rows, part))


def c6b(rows, profile):
    """Exploratory: each difference with its interval over seeds, and no verdict."""
    pairs = (
        ("finetuned_head", "random_head"),
        ("finetuned_nodecay", "random_nodecay"),
        ("bn_stats", "linear"),
        ("head", "linear"),
        ("conv_subset", "linear"),
    )
    parts = [_difference(rows, *pair, profile) for pair in pairs]
    ran = []
    for part in parts:
        if part.values:
            ran.append(numbers(part))
        if part.rows[1] != "linear":  # an arm over random features, which may stay a constant classifier
            ran += _take_off(rows, part, part.rows[1])
    return Claim(
        key="C6b", statement="... and nothing else", rule=" ".join(c6b.__doc__.split()),
        statistic="; ".join(part.text for part in parts), values={}, mean=np.nan, low=-np.inf, high=np.inf,
        verdict="exploratory" if ran else "not yet run", size="", interim="",
        would_decide="" if ran else missing_runs(parts), note="; ".join(ran), lacking=rows_lacking(parts),
        parts=tuple(parts),
    )  # fmt: skip


def c7(rows, profile, bn="norm_batch"):
    """Confirmed: every difference < 0, by t-tests over seeds, corrected for their number after Holm (5 %).
    Contradicted: one of them > 0, corrected alike."""
    parts = []
    for eps in (PROFILES[profile]["epsilon"] * part for part in OF_C7):
        for other in (key for key, norm in NORMS.items() if norm.without_bn):
            keys = (bn, f"norm_{other}")
            text = f"R at {eps:g}/255, {short(keys[0])} − {short(keys[1])}"
            parts.append(_part(rows, text, keys, profile, ("small", f"{eps:g}"), above=False))
    statement = "BN helps to learn fragile features"
    notes = ["these intervals are not corrected for their number"] if any(p.values for p in parts) else []
    if bn != STUDY_BN and rows.get(STUDY_BN):
        notes.append(f"with BN at the rate of the rest of the study: {c7(rows, profile, STUDY_BN).verdict}")
    return judge("C7", statement, c7.__doc__, parts, clears_after_holm(parts), notes)


CLAIMS = (c1, c2, c3, c4, c5, c6, c6s, c6b, c7)


def decide(rows, profile):
    """What the records, {row: {seed: record}}, say of each claim: a list of Claim, in their order.

    profile: what says which seeds are planned, and the ε of which C7 takes parts.
    """
    return [claim(rows, profile) for claim in CLAIMS]
