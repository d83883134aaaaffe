"""The paper's claims, C1 to C7: a rule each, and what the records say.

The rules were fixed on the project's design page before the second study's first evaluation on the test set,
and amended once, on 2026-11-24 at 20:46 UTC, when of the fresh seeds only seed 10 was known (04_robustness
has the ledger). Decided here: which seeds count, which difference carries a claim and what its interval must
clear. Not here: which runs are the study's (experiments.py, records.py), what R is (rates.py), how intervals
are computed (statistics.py), how claims are shown (tables.py).

All numbers are in points of accuracy. R is robust accuracy at the ε of training: what survives PGD-20 and
multi-targeted PGD. Every difference is paired by seed and taken on the same images; a rule looks at the
95 % t-interval over seeds, but where it says another test; "equivalent" is TOST at ± δ. A claim with several
parts is confirmed if each of them is, and contradicted if one is: one certain counterexample is enough.
"""

from dataclasses import dataclass

import numpy as np

from study import rates, statistics
from study.rates import CLEAN, ROBUST

DELTA = 2.0  # points: the smallest difference that is called meaningful
MOST_SEEDS = 50  # an estimate beyond it only says that seeds will not decide
ARMS = ("finetuned", "random")
NAMES = dict(  # of the rows, in the texts
    standard="std", at="AT", bn_clean="BN-only clean, random", linear_clean="linear, trained clean",
    finetuned="BN-only AT, trained", random="BN-only AT, random", linear="L",
    two_stages="BN-only AT after BN-only clean training, random",
    finetuned_head="BN + head AT, trained", random_head="BN + head AT, random",
    finetuned_nodecay="BN-only AT without weight decay, trained",
    random_nodecay="BN-only AT without weight decay, random",
    bn_stats="BN statistics alone", head="head alone", conv_subset="as many convolution weights",
    norm_batch="BN", norm_group="group normalisation", norm_instance="instance normalisation",
    norm_layer="layer normalisation", norm_none="no normalisation",
)  # fmt: skip


def planned(keys, first):
    """The seeds that count for a difference of these rows: six of both arms, three with any other row.

    first: the profile's first seed. No other seed enters a claim.
    """
    return range(first, first + (6 if set(keys) <= set(ARMS) else 3))


@dataclass(frozen=True)
class Part:
    """One number of a claim, by seed, with the bound that it has to clear."""

    text: str
    rows: tuple
    values: dict  # {seed: points}, of the planned seeds
    planned: tuple  # seeds
    bound: float = 0.0
    above: bool = True  # the side of the bound on which the claim is right
    lacking: tuple = ()  # rows with fewer than two of the planned seeds
    notes: tuple = ()

    def interval(self, seeds=None):
        """(mean, low, high) over seeds; with `seeds`, as it would be with so many."""
        return statistics.t_interval(self.values.values(), seeds=seeds)

    def equivalent(self, seeds=None):
        """Is it within ± δ?"""
        return statistics.equivalent(self.values.values(), DELTA, seeds)

    def missing(self):
        """The planned seeds that have not run."""
        return [seed for seed in self.planned if seed not in self.values]


@dataclass(frozen=True)
class Claim:
    """What the records say; of several parts, the numbers are of the one furthest from confirmed."""

    key: str
    statement: str
    rule: str
    statistic: str  # what is measured
    values: dict  # {seed: points}
    mean: float  # points; low and high are infinite below two seeds
    low: float
    high: float
    verdict: str  # "confirmed", "contradicted", "undecided", "not yet run", or "exploratory"
    size: str  # "", "small" or "meaningful"
    interim: str  # "4 of 6 seeds" while planned seeds are missing, else ""
    would_decide: str  # the runs that would decide it; "" if it is decided
    note: str

    @property
    def seeds(self):
        """The seeds that count and have run."""
        return list(self.values)


def _part(rows, text, keys, first, measure=ROBUST, **side):
    """The first row's accuracy, less the second's if there is one, by planned seed that the rows share."""
    seeds_planned = tuple(planned(keys, first))
    found = {
        key: {seed: record for seed, record in rows.get(key, {}).items() if seed in seeds_planned}
        for key in keys
    }
    measured = {key: rates.of_seeds(seeds, measure) for key, seeds in found.items()}
    if len(keys) == 1:
        values = measured[keys[0]]
    else:
        values = rates.differences(*found.values(), measure)
    notes = []
    if measure == ROBUST:
        notes = [
            f"R({NAMES[key]}), seed {seed}, is corrected by AutoAttack"
            for seed in values
            for key in keys
            if rates.robust_accuracy(found[key][seed])[1]
        ]
    lacking = tuple(key for key in keys if len(measured[key]) < 2)
    return Part(text, tuple(keys), values, seeds_planned, lacking=lacking, notes=tuple(notes), **side)


def _difference(rows, minuend, subtrahend, first, **side):
    """R of one row less R of another."""
    text = f"R({NAMES[minuend]}) − R({NAMES[subtrahend]})"
    return _part(rows, text, (minuend, subtrahend), first, **side)


def _take_off(rows, part):
    """Which of the adversarial trainings of random features behind a part took off; a note, or none."""
    found = {seed: rows["random"][seed] for seed in part.values if rows["random"][seed].get("history")}
    stayed = [seed for seed, record in found.items() if not rates.took_off(record)]
    if not stayed:
        return []
    which = ", ".join(map(str, stayed))
    return [
        f"{len(found) - len(stayed)} of {len(found)} runs of random features took off; "
        f"this rests also on those that did not (seed {which})"
    ]


# -------------------------------------------------------------------------------- rules: (verdict, size)
def _clears(part, seeds=None):
    """Confirmed on the right side of the bound, contradicted on the wrong one."""
    _, low, high = part.interval(seeds)
    if low > part.bound:
        return ("confirmed" if part.above else "contradicted"), ""
    if high < part.bound:
        return ("contradicted" if part.above else "confirmed"), ""
    return "undecided", ""


def _size(part, seeds=None):
    """Of a difference that is above 0: "meaningful" if it is above δ, "small" if it is within δ, else ""."""
    if part.interval(seeds)[1] > DELTA:
        return "meaningful"
    return "small" if part.equivalent(seeds) else ""


def _exceeds(part, seeds=None):
    """Confirmed above 0, with its size; contradicted below 0, or around 0 and equivalent within δ."""
    _, low, high = part.interval(seeds)
    if low > 0:
        return "confirmed", _size(part, seeds)
    if high < 0 or part.equivalent(seeds):
        return "contradicted", ""
    return "undecided", ""


def _exceeds_by_signs(part):
    """As `_exceeds`, the direction by the exact sign-flip test, the size by the t-interval."""
    mean, low, high = part.interval()
    if statistics.sign_flip(part.values.values()) <= 0.05:
        return ("confirmed", _size(part)) if mean > 0 else ("contradicted", "")
    if low <= 0 <= high and part.equivalent():
        return "contradicted", ""
    return "undecided", ""


def _does_not_exceed(part, seeds=None):
    """Confirmed below 0 or equivalent within δ; contradicted above δ."""
    _, low, high = part.interval(seeds)
    if high < 0 or part.equivalent(seeds):
        return "confirmed", ""
    return ("contradicted" if low > DELTA else "undecided"), ""


def _clears_after_holm(parts):
    """The rule that each of several parts is certainly below 0, or above, corrected for their number."""
    whole = [part for part in parts if len(part.values) > 1]
    corrected = statistics.holm([part.values.values() for part in whole]) if whole else []
    p_of = {part.text: p for part, p in zip(whole, corrected, strict=True)}

    def rule(part):
        if p_of[part.text] > 0.05:
            return "undecided", ""
        return ("confirmed" if part.interval()[0] < 0 else "contradicted"), ""

    return rule


ESTIMATED = (_clears, _exceeds, _does_not_exceed)  # rules that can say how many seeds would decide


# -------------------------------------------------------------------------------------- putting together
def _quoted(keys):
    return " and ".join(f'"{key}"' for key in keys)


def _missing_runs(parts):
    """What has to run before the rule can be applied."""
    lacking = list(dict.fromkeys(key for part in parts for key in part.lacking))
    if lacking:
        return f"Two seeds or more of {_quoted(lacking)}, with all that the claim measures."
    apart = [part for part in parts if len(part.values) < 2]
    return f"Two seeds or more that {_quoted(apart[0].rows)} share, on the same images."


def _more_seeds(part, rule):
    """Which seeds would decide a part: those planned; then as many as it takes if mean and sd stay."""
    if part.missing():
        return f"the planned seeds {', '.join(map(str, part.missing()))} of {_quoted(part.rows)}"
    run = len(part.values)
    if rule not in ESTIMATED:
        return f"more seeds of {_quoted(part.rows)} than the {run} planned"
    needed = run + 1
    while needed < MOST_SEEDS and rule(part, needed)[0] == "undecided":
        needed += 1
    about = f"{MOST_SEEDS} or more" if needed >= MOST_SEEDS else f"about {needed}"
    return f"{about} seeds of {_quoted(part.rows)} in place of {run}"


def _distance(part):
    """How far inside the right side its interval lies; negative where it reaches over the bound."""
    _, low, high = part.interval()
    return low - part.bound if part.above else part.bound - high


def _numbers(part):
    return f"{part.text}: {rates.points(part.values)}"


def _interim(parts):
    """How many of the planned seeds have run, where some are missing; else ""."""
    behind = [part for part in parts if part.missing()]
    if not behind:
        return ""
    last = min(behind, key=lambda part: len(part.values))
    return f"{len(last.values)} of {len(last.planned)} seeds"


def _verdict(parts, rule):
    """(verdict, size, what would decide it) of all parts together."""
    if any(len(part.values) < 2 for part in parts):
        return "not yet run", "", _missing_runs(parts)
    judged = [(part, *rule(part)) for part in parts]
    if any(verdict == "contradicted" for _, verdict, _ in judged):
        return "contradicted", "", ""
    open_parts = [part for part, verdict, _ in judged if verdict == "undecided"]
    if open_parts:
        return "undecided", "", f"{'; '.join(_more_seeds(part, rule) for part in open_parts)}."
    return "confirmed", judged[0][2], ""


def _judge(key, statement, docstring, parts, rule=_clears, notes=()):
    """Apply a rule to each part, and make a Claim of what it says."""
    verdict, size, would_decide = _verdict(parts, rule)
    weakest = min(parts, key=_distance)
    mean, low, high = weakest.interval()
    said = [_numbers(part) for part in parts if part.values] if len(parts) > 1 else []
    said += dict.fromkeys(note for part in parts for note in part.notes)  # each once
    return Claim(
        key=key, statement=statement, rule=" ".join(docstring.split()),
        statistic="; ".join(part.text for part in parts), values=weakest.values,
        mean=mean, low=low, high=high, verdict=verdict, size=size,
        interim=_interim(parts) if verdict != "not yet run" else "", would_decide=would_decide,
        note="; ".join([*said, *notes]),
    )  # fmt: skip


def _beside(rows, part):
    """The same difference over every seed that both rows have: a note that decides nothing, or none."""
    every = rates.differences(*(rows.get(key, {}) for key in part.rows))
    if len(every) <= len(part.values):
        return []
    return [f"over all seeds that ran, which decides nothing: {rates.points(every)}"]


# -------------------------------------------------------------------------------------------- the claims
def c1(rows, first):
    """Confirmed: clean > 80 and R < 1. Contradicted: one of them certainly not."""
    parts = [
        _part(rows, "clean(std)", ["standard"], first, CLEAN, bound=80.0),
        _part(rows, "R(std)", ["standard"], first, bound=1.0, above=False),
    ]
    return _judge("C1", "Standard training learns fragile features", c1.__doc__, parts)


def c2(rows, first):
    """Confirmed: interval > 0. Contradicted: < 0."""
    parts = [_difference(rows, "at", "finetuned", first)]
    return _judge("C2", "AT of all weights is the robust reference", c2.__doc__, parts)


def c3(rows, first):
    """Confirmed: interval > δ. Contradicted: < δ."""
    text = f"clean({NAMES['bn_clean']}) − clean({NAMES['linear_clean']})"
    parts = [_part(rows, text, ("bn_clean", "linear_clean"), first, CLEAN, bound=DELTA)]
    return _judge("C3", "BN alone is expressive over random features", c3.__doc__, parts)


def c4(rows, first):
    """Confirmed: interval > 0 (small if within δ, meaningful if > δ). Contradicted: < 0, or equivalent
    within δ with 0 inside."""
    statement = "BN-only AT gives fragile features non-trivial robustness"
    part = _difference(rows, "finetuned", "linear", first)
    return _judge("C4", statement, c4.__doc__, [part], _exceeds, _beside(rows, part))


def c5(rows, first):
    """Confirmed: interval < 0, or equivalent within δ. Contradicted: > δ."""
    statement = "BN-only AT of random features gives no meaningful robustness"
    part = _difference(rows, "random", "linear", first)
    notes = _take_off(rows, part) + _beside(rows, part)
    return _judge("C5", statement, c5.__doc__, [part], _does_not_exceed, notes)


def c6(rows, first):
    """Confirmed: > 0 by the exact sign-flip test over the paired differences of all seeds, runs that did not
    take off included (two-sided, 5 %; small if within δ, meaningful if > δ, by the t-interval).
    Contradicted: < 0, or equivalent within δ with 0 inside."""
    statement = "It is the features (primary)"
    part = _difference(rows, "finetuned", "random", first)
    notes = [f"sign-flip test: p = {statistics.sign_flip(part.values.values()):.3f}"] if part.values else []
    notes += _take_off(rows, part)
    return _judge("C6", statement, c6.__doc__, [part], _exceeds_by_signs, notes)


def c6s(rows, first):
    """Confirmed: interval > 0 (small if within δ, meaningful if > δ). Contradicted: < 0, or equivalent
    within δ with 0 inside."""
    statement = "... with the same two stages"
    part = _difference(rows, "finetuned", "two_stages", first)
    return _judge("C6s", statement, c6s.__doc__, [part], _exceeds)


def c6b(rows, first):
    """Exploratory: each difference with its interval over seeds, and no verdict."""
    pairs = (
        ("finetuned_head", "random_head"),
        ("finetuned_nodecay", "random_nodecay"),
        ("bn_stats", "linear"),
        ("head", "linear"),
        ("conv_subset", "linear"),
    )
    parts = [_difference(rows, *pair, first) for pair in pairs]
    ran = [_numbers(part) for part in parts if part.values]
    return Claim(
        key="C6b", statement="... and nothing else", rule=" ".join(c6b.__doc__.split()),
        statistic="; ".join(part.text for part in parts), values={}, mean=np.nan, low=-np.inf, high=np.inf,
        verdict="exploratory" if ran else "not yet run", size="", interim="",
        would_decide="" if ran else _missing_runs(parts), note="; ".join(ran),
    )  # fmt: skip


def c7(rows, first):
    """Confirmed: every difference < 0, by t-tests over seeds, corrected for their number after Holm (5 %).
    Contradicted: one of them > 0, corrected alike."""
    parts = []
    for eps in (0.5, 1):
        for other in ("norm_group", "norm_instance", "norm_layer", "norm_none"):
            text = f"R at {eps:g}/255, {NAMES['norm_batch']} − {NAMES[other]}"
            keys = ("norm_batch", other)
            parts.append(_part(rows, text, keys, first, ("small", f"{eps:g}"), above=False))
    statement = "BN helps to learn fragile features"
    return _judge("C7", statement, c7.__doc__, parts, _clears_after_holm(parts))


CLAIMS = (c1, c2, c3, c4, c5, c6, c6s, c6b, c7)


def decide(rows, first):
    """What the records, {row: {seed: record}}, say of each claim: a list of Claim, in their order.

    first: the profile's first seed; the seeds that count are planned from it on.
    """
    return [claim(rows, first) for claim in CLAIMS]
