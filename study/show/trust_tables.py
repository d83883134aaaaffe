"""Tables of 05: the checks side by side, AutoAttack part by part, examples of one network shown to others.

Decided here: columns and their formats. Not here: when a network is suspect (decide/trust.py).
"""

import numpy as np
import pandas as pd

from study.decide import rates
from study.decide.statistics import mean_sd
from study.decide.trust import BROKEN, CONSTANT, EXPECTED, NOT_RUN, SUSPECT, UNJUDGED, trust
from study.define.rows import label
from study.show.tables import by_row, compared

MARKS = {EXPECTED: "✓", SUSPECT: "✗", CONSTANT: CONSTANT, BROKEN: "·"} | dict.fromkeys(UNJUDGED, "–")


def tables_of(networks, transfers=None):
    """{key: table of `trust`} of networks {key: record}. transfers: see `trust.from_others`; None: no row."""
    if transfers is None:
        transfers = dict.fromkeys(networks)
    return {key: trust(record, transfers.get(key, ())) for key, record in networks.items()}


def numbers(checked):
    """The checks side by side, of `tables_of`: what was measured, in percent, and the verdict."""
    table = {}
    for key, own in checked.items():
        marks = own.verdict.map(MARKS | {verdict: verdict for verdict in UNJUDGED})
        table[label(key)] = (own.measured.replace("–", "") + " " + marks).str.strip()
    return _with_pattern(pd.DataFrame(table), checked)


def mostly_run(own):
    """Whether at least half of a network's checks were run, so that it is worth a column."""
    return (~own.verdict.isin(UNJUDGED)).mean() >= 0.5


def grid(checked):
    """The checks side by side, of `tables_of`: the verdicts alone, as marks, of networks `mostly_run`.

    A check that has a verdict on none of them is left out.
    """
    shown = {key: own for key, own in checked.items() if mostly_run(own)}
    table = pd.DataFrame({label(key): own.verdict.map(MARKS) for key, own in shown.items()})
    if len(table.columns):
        table = table[(table != MARKS[NOT_RUN]).any(axis=1)]
    return _with_pattern(table, checked)


def _with_pattern(table, checked):
    """A table with the pattern that is expected, and the number of images, before its columns."""
    if checked:
        table.insert(0, "expected", next(iter(checked.values())).expected)
        table.insert(1, "n", pd.concat([own.n for own in checked.values()], axis=1).max(axis=1))
    return table.rename_axis("check")


PARTS = {"apgd-ce": "APGD-CE", "apgd-t": "APGD-T", "fab-t": "FAB-T", "square": "Square"}


def _left(record):
    """What is right of the images that AutoAttack saw, {column: bool [n]}; {} where it did not run.

    A part that needs more classes than the data has did not run, and is no column where no network has it.
    """
    if not record or rates.same_images(record, "pgd") is None:
        return {}
    left = {"clean": rates.same_images(record, "pgd", "clean"), "PGD": rates.same_images(record, "pgd")}
    left["R"] = rates.same_images(record, "margin")
    left |= {name: record["autoattack"].get(part) for part, name in PARTS.items()}
    return {name: flags for name, flags in left.items() if flags is not None}


def autoattack(networks):
    """What AutoAttack's parts leave, in their order, beside clean accuracy, PGD and R on the same images.

    Last, R less targeted APGD and less AutoAttack, in points, with the paired 95 % interval over the images.
    """
    table = {}
    for key, record in networks.items():
        left = _left(record)
        if left:
            row = table[label(key)] = {"n": left["clean"].size}
            row |= {name: f"{100 * flags.mean():.1f}" for name, flags in left.items()}
            for title, part in (("R − APGD-T", "apgd-t"), ("R − AutoAttack", "robust")):
                both = compared(left.get("R"), record["autoattack"].get(part))
                row[title] = both["difference (points)"]
    return by_row(table, "accuracy (%) after")


def autoattack_by_row(rows):
    """`autoattack` of rows {key: {seed: record}}: the mean over the networks (seeds) that it ran on.

    What took off apart from what did not. Last, of the images on which R is right, all networks' together,
    those that AutoAttack breaks.
    """
    table = {}
    for key, seeds in rows.items():
        attacked = {seed: record for seed, record in seeds.items() if _left(record)}
        for group, those in rates.by_take_off(attacked).items():
            left = [_left(record) for record in those.values()]
            each = [{name: 100 * flags.mean() for name, flags in flags_of.items()} for flags_of in left]
            name = f"{label(key)}{group} ({len(left)})"
            table[name] = pd.DataFrame(each).mean().map("{:.1f}".format).to_dict()
            broken, right = rates.broken_by_autoattack(those)
            table[name]["AutoAttack alone breaks"] = f"{broken} of {right:,}" if right else "–"
    return by_row(table, "accuracy (%) after, mean (seeds)")


def against_worst_case(rows):
    """R of classifiers whose worst case is known, {key: {seed: record}}, and that: means over seeds, in %.

    Last, of the images on which R is right, all networks' together, those that the worst case breaks.
    """
    table = {}
    for key, seeds in rows.items():
        measured = [record for record in seeds.values() if record["worst_case"] and record["margin"]]
        if not measured:
            continue
        both = [(record["margin"]["robust"], record["worst_case"]["robust"]) for record in measured]
        broken = sum(int((r & ~kept).sum()) for r, kept in both)
        table[label(key)] = {
            "images": "/".join(sorted({f"{r.size:,}" for r, _ in both})),
            "R, mean ± sd (seeds)": mean_sd([100 * r.mean() for r, _ in both], 2),
            "worst case, mean ± sd (seeds)": mean_sd([100 * kept.mean() for _, kept in both], 2),
            "the worst case alone breaks": f"{broken} of {sum(int(r.sum()) for r, _ in both):,}",
        }
    return by_row(table, "accuracy (%)")


def transferred(right):
    """Accuracies in percent of `run.transfer.between`, {source: {target: bool [n]}}: a row a source."""
    names = [label(key) for key in right]
    table = pd.DataFrame(np.nan, index=names, columns=names).rename_axis("examples made on")
    for source, outcomes in right.items():
        for target, flags in outcomes.items():
            table.loc[label(source), label(target)] = 100 * flags.mean()
    return table
