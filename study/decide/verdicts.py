"""How numbers by seed become a verdict: the rules, and what a claim says when one is applied.

Decided here: what an interval over seeds must clear to confirm or to contradict, what is interim, how many
seeds would decide. Not here: which rows and seeds a claim is about (claims.py), how an interval is computed
(statistics.py).
"""

from collections import defaultdict
from dataclasses import dataclass, field

from study.decide import rates, statistics
from study.define.rows import label

DELTA = 2.0  # points: the smallest difference that is called meaningful
LEVEL = 0.05  # of a test; of several together where they are corrected for their number
MOST_SEEDS = 50  # an estimate beyond it only says that seeds will not decide


@dataclass(frozen=True)
class Part:
    """One number of a claim, by seed, with the bound that it has to clear."""

    text: str
    rows: tuple
    values: dict  # {seed: points}, of the planned seeds
    planned: tuple  # seeds
    every: dict = field(default_factory=dict)  # the same, of all seeds that ran
    measure: tuple = rates.ROBUST  # what it is a difference of
    bound: float = 0.0
    above: bool = True  # the side of the bound on which the claim is right
    lacking: tuple = ()  # rows with fewer than two of the planned seeds
    notes: tuple = ()

    @property
    def sign(self):
        """How its numbers are written: a difference of two rows with its sign, an accuracy without."""
        return "+" if len(self.rows) > 1 else ""

    def interval(self, seeds=None):
        """(mean, low, high) over seeds; with `seeds`, as it would be with so many, by all that ran."""
        return statistics.t_interval(self.of(seeds), seeds=seeds)

    def equivalent(self, seeds=None):
        """Is it within ± δ? With `seeds`, would it be?"""
        return statistics.equivalent(self.of(seeds), DELTA, seeds)

    def of(self, seeds):
        """The values that say how it is, or, with a number of seeds, how it would be."""
        return (self.every if seeds and self.every else self.values).values()

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
    size: str  # "meaningful", "small", "size undecided", or "" where the rule asks for none
    interim: str  # "4 of 6 seeds" while planned seeds are missing, else ""
    would_decide: str  # the runs that would decide it; "" if it is decided
    note: str
    lacking: tuple = ()  # keys of rows that it cannot do without and that have fewer than two seeds
    parts: tuple = ()  # those that it was judged by
    near: bool = False  # might its size be another on other test images?

    @property
    def seeds(self):
        """The seeds that count and have run; of a claim without numbers of its own those of any part."""
        return list(self.values) or sorted({seed for part in self.parts for seed in part.values})


# -------------------------------------------------------------------------------- rules: (verdict, size)
def clears(part, seeds=None):
    """Confirmed on the right side of the bound, contradicted on the wrong one."""
    _, low, high = part.interval(seeds)
    if low > part.bound:
        return ("confirmed" if part.above else "contradicted"), ""
    if high < part.bound:
        return ("contradicted" if part.above else "confirmed"), ""
    return "undecided", ""


def _size(part, seeds=None):
    """Of a difference above 0: "meaningful" if it is above δ, "small" if it is within δ, or neither."""
    if part.interval(seeds)[1] > DELTA:
        return "meaningful"
    return "small" if part.equivalent(seeds) else "size undecided"


def exceeds(part, seeds=None):
    """Confirmed above 0, with its size; contradicted below 0, or around 0 and equivalent within δ."""
    _, low, high = part.interval(seeds)
    if low > 0:
        return "confirmed", _size(part, seeds)
    if high < 0 or part.equivalent(seeds):
        return "contradicted", ""
    return "undecided", ""


def exceeds_by_signs(part):
    """As `exceeds`, the direction by the exact sign-flip test, the size by the t-interval."""
    mean, low, high = part.interval()
    if statistics.sign_flip(part.values.values()) <= LEVEL:
        return ("confirmed", _size(part)) if mean > 0 else ("contradicted", "")
    if low <= 0 <= high and part.equivalent():
        return "contradicted", ""
    return "undecided", ""


def does_not_exceed(part, seeds=None):
    """Confirmed below 0 or equivalent within δ; contradicted above δ."""
    _, low, high = part.interval(seeds)
    if high < 0 or part.equivalent(seeds):
        return "confirmed", ""
    return ("contradicted" if low > DELTA else "undecided"), ""


def after_holm(parts, seeds=None):
    """{text: p} of the parts with two seeds or more: t-tests over seeds, corrected for the number of all."""
    whole = [part for part in parts if len(part.values) > 1]
    corrected = statistics.holm([part.of(seeds) for part in whole], len(parts), seeds)
    return {part.text: float(p) for part, p in zip(whole, corrected, strict=True)}


def certain(parts):
    """Those of several parts that are certainly not 0, corrected for their number."""
    p_of = after_holm(parts)
    return [part for part in parts if p_of.get(part.text, 1) <= LEVEL]


def counted_certain(parts):
    """How many of several parts are certainly below 0, corrected for their number, and how many above."""
    means = [part.interval()[0] for part in certain(parts)]
    below = [mean for mean in means if mean < 0]
    return len(below), len(means) - len(below)


def clears_after_holm(parts):
    """The rule that each of several parts is certainly below 0, or above, corrected for their number."""

    def rule(part, seeds=None):
        if after_holm(parts, seeds)[part.text] > LEVEL:
            return "undecided", ""
        return ("confirmed" if part.interval(seeds)[0] < 0 else "contradicted"), ""

    return rule


# -------------------------------------------------------------------------------------- putting together
def quoted(keys):
    """The labels of one or more rows, in quotes, as a sentence lists them."""
    *first, last = (f'"{label(key)}"' for key in keys)
    return f"{', '.join(first)} and {last}" if first else last


def rows_lacking(parts):
    """The keys of rows with fewer than two of the planned seeds, each once."""
    return tuple(dict.fromkeys(key for part in parts for key in part.lacking))


def missing_runs(parts):
    """What has to run before the rule can be applied."""
    if lacking := rows_lacking(parts):
        return f"Two seeds or more of {quoted(lacking)}, with all that the claim measures."
    apart = [part for part in parts if len(part.values) < 2]
    return f"Two seeds or more that {quoted(apart[0].rows)} share, on the same images."


def _planned_seeds(parts):
    """The planned seeds that parts wait for, with the rows that lack them; "" where all have run."""
    rows_of = defaultdict(list)
    for part in parts:
        if part.missing():
            rows_of[tuple(part.missing())].extend(part.rows)
    said = []
    for seeds, keys in rows_of.items():
        which = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        said.append(f"the planned {which} of {quoted(dict.fromkeys(keys))}")
    return "; ".join(said)


def _would_be_decided(parts, rule, seeds):
    """Would the parts be decided together with so many seeds, if mean and sd stayed as they are?"""
    verdicts = [rule(part, seeds)[0] for part in parts]
    return "contradicted" in verdicts or "undecided" not in verdicts


def _more_seeds(parts, undecided, rule):
    """Which seeds would decide: those planned; then as many as it takes if mean and sd stay.

    parts: all of a claim; undecided: those of them that are.
    """
    if planned := _planned_seeds(undecided):
        return f"{planned}."
    rows = quoted(dict.fromkeys(key for part in undecided for key in part.rows))
    run = min(len(part.values) for part in undecided)
    if rule is exceeds_by_signs:  # it has no mean and sd to go by
        return f"more seeds of {rows} than the {run} planned."
    ran = min(len(part.of(run)) for part in undecided)
    if_so = f"if the {ran} that ran tell mean and spread, which so few hardly do"
    for needed in range(run + 1, MOST_SEEDS + 1):
        if _would_be_decided(parts, rule, needed):
            return f"about {needed} seeds of {rows} in place of {run}, {if_so}."
    return f"not even {MOST_SEEDS} seeds of {rows}, {if_so}."


def _distance(part):
    """How far inside the right side its interval lies; negative where it reaches over the bound."""
    _, low, high = part.interval()
    return low - part.bound if part.above else part.bound - high


def numbers(part):
    return f"{part.text}: {rates.points(part.values, part.sign)}"


def _interim(parts):
    """How many of the planned seeds have run, where some are missing; else ""."""
    behind = [part for part in parts if part.missing()]
    if not behind:
        return ""
    last = min(behind, key=lambda part: len(part.values))
    return f"{len(last.values)} of {len(last.planned)} seeds"


def _verdict(parts, rule):
    """(verdict, size, what would decide it) of all parts together."""
    whole = [part for part in parts if len(part.values) > 1]
    judged = [(part, *rule(part)) for part in whole]
    if any(verdict == "contradicted" for _, verdict, _ in judged):  # whatever the parts that have not run
        return "contradicted", "", ""
    if len(whole) < len(parts):
        return "not yet run", "", missing_runs(parts)
    undecided = [part for part, verdict, _ in judged if verdict == "undecided"]
    if undecided:
        return "undecided", "", _more_seeds(parts, undecided, rule)
    return "confirmed", judged[0][2], ""


def judge(key, statement, docstring, parts, rule=clears, notes=(), near=False):
    """Apply a rule to each part, and make a Claim of what it says."""
    verdict, size, would_decide = _verdict(parts, rule)
    weakest = min(parts, key=_distance)
    mean, low, high = weakest.interval()
    said = [numbers(part) for part in parts if part.values] if len(parts) > 1 else []
    said += dict.fromkeys(note for part in parts for note in part.notes)  # each once
    return Claim(
        key=key, statement=statement, rule=" ".join(docstring.split()),
        statistic="; ".join(part.text for part in parts), values=weakest.values,
        mean=mean, low=low, high=high, verdict=verdict, size=size,
        interim=_interim(parts) if verdict != "not yet run" else "", would_decide=would_decide,
        note="; ".join([*said, *notes]), lacking=rows_lacking(parts), parts=tuple(parts),
        near=near,
    )  # fmt: skip
