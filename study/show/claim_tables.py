"""The claims as tables and in words: what was measured, over how many seeds, the verdict, what would decide.

Decided here: how a claim's numbers, rule and verdict are written. Not here: the rules (decide/verdicts.py),
which rows a claim is about (decide/claims.py).
"""

import numpy as np

from study.decide.claims import BY_SIGNS
from study.decide.statistics import sign_flip
from study.decide.verdicts import counted_certain, quoted
from study.run import records
from study.show import tables

SHOWN = ["statement", "points [95 %]", "seeds", "verdict"]  # in a notebook; the file has them all


def verdict(claim):
    """A claim's verdict as text, with its size, and the number of seeds while planned ones are missing."""
    if claim.verdict == "not yet run" and any(part.values for part in claim.parts):
        return "not yet run: too few seeds"
    these = " on these images" if claim.near and claim.size in ("small", "meaningful") else ""
    size = f" ({claim.size}{these})" if claim.size else ""
    return f"{claim.verdict}{size}" + (f", interim: {claim.interim}" if claim.interim else "")


def counted(seeds):
    """How many seeds, and which: "3 (10 to 12)", or "2 (10, 11)" of two and of those that leave one out."""
    if not seeds:
        return "0"
    first, last = min(seeds), max(seeds)
    which = f"{first} to {last}" if last - first == len(seeds) - 1 > 1 else ", ".join(map(str, seeds))
    return f"{len(seeds)} ({which})"


def interval_of(part):
    """Of a part of a claim the mean and its interval, as text."""
    mean, low, high = part.interval()
    if not np.isfinite([mean, low, high]).all():
        return "–"
    return f"{mean:{part.sign}.1f} [{low:{part.sign}.1f}, {high:{part.sign}.1f}]"


def points_of(claim):
    """The numbers that a claim was judged by: up to two parts; of more, how many are certain after Holm.

    Of one that has no verdict: how many of its parts have run.
    """
    ran = [part for part in claim.parts if part.values]
    if claim.verdict == "exploratory":
        return f"{len(ran)} of {len(claim.parts)} differences have run"
    if claim.key == BY_SIGNS and len(claim.values) > 1:
        p = sign_flip(claim.values.values())
        return f"{interval_of(claim.parts[0])}; by signs p = {p:.3f}"
    if len(claim.parts) == 1:
        return interval_of(claim.parts[0])
    if len(claim.parts) == 2:
        return "; ".join(f"{part.text}: {interval_of(part)}" for part in claim.parts)
    if not np.isfinite([claim.mean, claim.low, claim.high]).all():
        return "–"
    below, above = counted_certain(claim.parts)
    below, above = (f"{number or 'none'} certainly" for number in (below, above))
    return f"of {len(claim.parts)} differences {below} below 0, {above} above"


def claims(decided):
    """The claims with their rules and verdicts, a row each."""
    table = {}
    for c in decided:
        table[c.key] = {"statement": c.statement, "rule": c.rule, "statistic": c.statistic}
        table[c.key] |= {"points [95 %]": points_of(c), "seeds": counted(c.seeds), "verdict": verdict(c)}
        table[c.key] |= {"beside": c.note or "–"}
    return tables.by_row(table, "claim")


def save(decided, exp, name):
    """Write the table of claims to out/<profile>/figures/<name>.csv; return what a notebook shows of it."""
    table = claims(decided)
    records.keep(exp, {f"{name}.csv": table.to_csv().encode()})
    return tables.styled(table[SHOWN], name, [claim.verdict for claim in decided])


def rules(decided):
    """Each claim's statistic, rule, and what stands beside its verdict, in a fold."""
    lines = []
    for c in decided:
        beside = f" *Beside*: {c.note}." if c.note else ""
        lines.append(f"- **{c.key}**, {c.statistic}. {c.rule}{beside}")
    return (
        "<details><summary>What each claim measures, its rule, and what stands beside the verdict</summary>"
        "\n\n" + "\n".join(lines) + "\n\n</details>"
    )


def open_questions(decided):
    """What would decide each claim that is not decided; those whose rows have not run in one line."""
    waiting = [claim for claim in decided if claim.verdict == "not yet run" and claim.lacking]
    lines = [
        f"- **{claim.key}** ({claim.verdict}): {claim.would_decide}"
        for claim in decided
        if claim.would_decide and claim not in waiting
    ]
    if waiting:
        wanted = [f"**{c.key}** {quoted(c.lacking)}" for c in waiting]
        lines.append(f"- Not yet run, two seeds or more of: {'; '.join(wanted)}.")
    return "\n".join(lines) or "Every claim is decided."
