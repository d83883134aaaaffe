"""The paper's claims, C1 to C7: a rule each, and what the records say.

The rules were fixed on the project's design page before the second study's first evaluation on the test
set. Decided here: which difference carries a claim and what its interval must clear. Not here: which runs and
seeds are the study's (experiments.py, records.py), how intervals are computed (statistics.py), how claims are
shown (tables.py).

All numbers are in points of accuracy. R is robust accuracy at the ε of training: what survives PGD-20 and
multi-targeted PGD. Every difference is paired by seed and taken on the same images; a rule looks at the
95 % t-interval over seeds, "equivalent" is TOST at ± δ. A claim with several parts is confirmed if each of
them is, and contradicted if one is: one certain counterexample is enough.
"""

from dataclasses import dataclass

import numpy as np

from study import statistics

DELTA = 2.0  # points: the smallest difference that is called meaningful
MOST_SEEDS = 50  # an estimate beyond it only says that seeds will not decide
CLEAN, ROBUST = ("pgd", "clean"), ("margin", "robust")  # (kind of evaluation, its flags)
NAMES = dict(  # of the rows, in the texts
    standard="std", at="AT", bn_clean="BN-only clean, random", linear_clean="linear, trained clean",
    finetuned="BN-only AT, trained", random="BN-only AT, random", linear="L",
    finetuned_head="BN + head AT, trained", random_head="BN + head AT, random",
    finetuned_nodecay="BN-only AT without weight decay, trained",
    random_nodecay="BN-only AT without weight decay, random",
    bn_stats="BN statistics alone", head="head alone", conv_subset="as many convolution weights",
    norm_batch="BN", norm_group="group normalisation", norm_instance="instance normalisation",
    norm_layer="layer normalisation", norm_none="no normalisation",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One number of a claim, by seed, with the bound that it has to clear."""

    text: str
    rows: tuple
    values: dict  # {seed: points}
    bound: float = 0.0
    above: bool = True  # the side of the bound on which the claim is right
    lacking: tuple = ()  # rows with fewer than two seeds
    notes: tuple = ()

    def interval(self, seeds=None):
        """(mean, low, high) over seeds; with `seeds`, as it would be with so many."""
        return statistics.t_interval(self.values.values(), seeds=seeds)

    def equivalent(self, seeds=None):
        """Is it within ± δ?"""
        return statistics.equivalent(self.values.values(), DELTA, seeds)


@dataclass(frozen=True)
class Claim:
    """What the records say; of several parts, the numbers are of the one furthest from confirmed."""

    key: str
    statement: str
    rule: str
    statistic: str  # what is measured
    seeds: list
    mean: float  # points; low and high are infinite below two seeds
    low: float
    high: float
    verdict: str  # "confirmed", "contradicted", "undecided" or "not yet run"
    size: str  # "", "small" or "meaningful"
    would_decide: str  # the runs that would decide it; "" if it is decided
    note: str


# ------------------------------------------------------------------------------------ numbers of records
def robust_accuracy(record):
    """R in points, and whether AutoAttack corrected it: (R, bool). record: one with a margin evaluation.

    Where AutoAttack on a random subset disagrees, the paired interval there leaving out 0, R becomes the
    two-phase estimate.
    """
    robust, autoattack = np.asarray(record["margin"]["robust"]), record.get("autoattack")
    index = np.asarray(autoattack["settings"].get("index", [])) if autoattack else np.array([])
    if index.size == 0 or index.max() >= robust.size:  # no subset, or not a random one of these images
        return 100 * float(robust.mean()), False
    _, low, high, _ = statistics.paired(autoattack["robust"], robust[index])
    if low <= 0 <= high:
        return 100 * float(robust.mean()), False
    return 100 * statistics.two_phase(robust, index, autoattack["robust"]).rate, True


def _flags(record, measure):
    """The flags, bool [n], of (kind of evaluation, name); None where they are missing."""
    kind, name = measure
    evaluation = record.get(kind)
    return None if evaluation is None else evaluation.get(name)


def _accuracy(record, measure):
    """In points, and whether AutoAttack corrected it."""
    if measure == ROBUST:
        return robust_accuracy(record)
    return 100 * float(np.mean(_flags(record, measure))), False


def _part(rows, text, keys, measure=ROBUST, **side):
    """The first row's accuracy, less the second's if there is one, for each seed that the rows share.

    A seed counts where every row has the evaluation, and on the same number of images.
    """
    images = {}  # {row: {seed: number of images}}
    for key in keys:
        found = {seed: _flags(record, measure) for seed, record in rows.get(key, {}).items()}
        images[key] = {seed: len(flags) for seed, flags in found.items() if flags is not None}
    values, notes = {}, []
    for seed in sorted(images[keys[0]]):
        if any(images[key].get(seed) != images[keys[0]][seed] for key in keys):
            continue
        measured = {key: _accuracy(rows[key][seed], measure) for key in keys}
        first, *others = [accuracy for accuracy, _ in measured.values()]
        values[seed] = first - sum(others)
        for key, (_, corrected) in measured.items():
            if corrected:
                notes.append(f"R({NAMES[key]}), seed {seed}, is corrected by AutoAttack")
    lacking = tuple(key for key in keys if len(images[key]) < 2)
    return Part(text, tuple(keys), values, lacking=lacking, notes=tuple(notes), **side)


def _difference(rows, first, second, **side):
    """R of one row less R of another."""
    return _part(rows, f"R({NAMES[first]}) − R({NAMES[second]})", (first, second), **side)


# -------------------------------------------------------------------------------- rules: (verdict, size)
def _clears(part, seeds=None):
    """Confirmed on the right side of the bound, contradicted on the wrong one."""
    _, low, high = part.interval(seeds)
    if low > part.bound:
        return ("confirmed" if part.above else "contradicted"), ""
    if high < part.bound:
        return ("contradicted" if part.above else "confirmed"), ""
    return "undecided", ""


def _exceeds(part, seeds=None):
    """Confirmed above 0, with its size; contradicted below 0, or around 0 and equivalent within δ."""
    _, low, high = part.interval(seeds)
    same = part.equivalent(seeds)
    if low > DELTA:
        return "confirmed", "meaningful"
    if low > 0:
        return "confirmed", ("small" if same else "")
    return ("contradicted" if high < 0 or same else "undecided"), ""


def _does_not_exceed(part, seeds=None):
    """Confirmed below 0 or equivalent within δ; contradicted above δ."""
    _, low, high = part.interval(seeds)
    if high < 0 or part.equivalent(seeds):
        return "confirmed", ""
    return ("contradicted" if low > DELTA else "undecided"), ""


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
    """How many seeds would decide a part, if mean and sd stayed what they are."""
    run = len(part.values)
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
    if len(part.values) < 2:
        return f"{part.text}: not yet run"
    mean, low, high = part.interval()
    return f"{part.text}: {mean:.1f} [{low:.1f}, {high:.1f}]"


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


def _judge(key, statement, docstring, parts, rule=_clears):
    """Apply a rule to each part, and make a Claim of what it says."""
    verdict, size, would_decide = _verdict(parts, rule)
    weakest = min(parts, key=_distance)
    mean, low, high = weakest.interval()
    notes = [_numbers(part) for part in parts] if len(parts) > 1 else []
    notes += dict.fromkeys(note for part in parts for note in part.notes)  # each once
    return Claim(
        key=key, statement=statement, rule=" ".join(docstring.split()),
        statistic="; ".join(part.text for part in parts), seeds=list(weakest.values),
        mean=mean, low=low, high=high, verdict=verdict, size=size, would_decide=would_decide,
        note="; ".join(notes),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- the claims
def c1(rows):
    """Confirmed: clean > 80 and R < 1. Contradicted: one of them certainly not."""
    parts = [
        _part(rows, "clean(std)", ["standard"], CLEAN, bound=80.0),
        _part(rows, "R(std)", ["standard"], bound=1.0, above=False),
    ]
    return _judge("C1", "Standard training learns fragile features", c1.__doc__, parts)


def c2(rows):
    """Confirmed: interval > 0. Contradicted: < 0."""
    parts = [_difference(rows, "at", "finetuned")]
    return _judge("C2", "AT of all weights is the robust reference", c2.__doc__, parts)


def c3(rows):
    """Confirmed: interval > δ. Contradicted: < δ."""
    text = f"clean({NAMES['bn_clean']}) − clean({NAMES['linear_clean']})"
    parts = [_part(rows, text, ("bn_clean", "linear_clean"), CLEAN, bound=DELTA)]
    return _judge("C3", "BN alone is expressive over random features", c3.__doc__, parts)


def c4(rows):
    """Confirmed: interval > 0 (small if within δ, meaningful if > δ). Contradicted: < 0, or equivalent
    within δ with 0 inside."""
    statement = "BN-only AT gives fragile features non-trivial robustness"
    return _judge("C4", statement, c4.__doc__, [_difference(rows, "finetuned", "linear")], _exceeds)


def c5(rows):
    """Confirmed: interval < 0, or equivalent within δ. Contradicted: > δ."""
    statement = "BN-only AT of random features gives no meaningful robustness"
    return _judge("C5", statement, c5.__doc__, [_difference(rows, "random", "linear")], _does_not_exceed)


def c6(rows):
    """Confirmed: interval > 0 (small if within δ, meaningful if > δ). Contradicted: < 0, or equivalent
    within δ with 0 inside."""
    statement = "It is the features (primary)"
    return _judge("C6", statement, c6.__doc__, [_difference(rows, "finetuned", "random")], _exceeds)


def c6b(rows):
    """Confirmed: the first two > 0, the others < 0. Contradicted: the opposite of one of them."""
    parts = [
        _difference(rows, "finetuned_head", "random_head"),
        _difference(rows, "finetuned_nodecay", "random_nodecay"),
        _difference(rows, "bn_stats", "linear", above=False),
        _difference(rows, "head", "linear", above=False),
        _difference(rows, "conv_subset", "linear", above=False),
    ]
    return _judge("C6b", "... and nothing else", c6b.__doc__, parts)


def c7(rows):
    """Confirmed: every interval < 0. Contradicted: one of them > 0."""
    parts = []
    for eps in (0.5, 1):
        for other in ("norm_group", "norm_instance", "norm_layer", "norm_none"):
            text = f"R at {eps:g}/255, {NAMES['norm_batch']} − {NAMES[other]}"
            keys = ("norm_batch", other)
            parts.append(_part(rows, text, keys, ("small", f"{eps:g}"), above=False))
    return _judge("C7", "BN helps to learn fragile features", c7.__doc__, parts)


CLAIMS = (c1, c2, c3, c4, c5, c6, c6b, c7)


def decide(rows):
    """What the records, {row: {seed: record}}, say of each claim: a list of Claim, in their order."""
    return [claim(rows) for claim in CLAIMS]
