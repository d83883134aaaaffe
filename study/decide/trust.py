"""Can a number be trusted? When a network is suspect of gradient masking, by what was measured of it.

Decided here: the pattern that honest gradients give, as a paired test on the same images: suspect where the
95 % interval of the difference excludes it. Not here: the attacks (measure/masking.py), and what follows for
a claim (nothing: claims.py gates none by it).
"""

import itertools

import pandas as pd

import bnat_utils as bnat
from study.decide import rates
from study.decide.statistics import paired, proportion
from study.define.parameters import PROFILES
from study.measure import masking
from study.measure.plan import CURVE

FEWEST = 20  # images on which two attacks are compared
NOT_RUN, TOO_FEW = "not yet run", "too few images"
UNJUDGED = (NOT_RUN, TOO_FEW)  # verdicts that say nothing of the network
SUSPECT, EXPECTED = "suspect", "as expected"
CONSTANT, BROKEN = "constant", "broken"  # networks to which the patterns do not apply
LEFT_OF_BROKEN = 0.01  # share of the images; a network that PGD leaves less of does not look robust


def rises(flags):
    """Does a later attack, or a larger ε, certainly leave more images than an earlier one?"""
    return any(paired(later, earlier)[1] > 0 for earlier, later in itertools.combinations(flags, 2))


def falls(flags):
    """Does a later attack certainly leave fewer images than an earlier one?"""
    return rises(flags[::-1])


def evidence(flags):
    """The two outcomes of which the later certainly leaves more, and by the most; else the first and last."""
    pairs = [pair for pair in itertools.combinations(flags, 2) if rises(pair)]
    return max(pairs, key=lambda pair: pair[1].mean() - pair[0].mean(), default=(flags[0], flags[-1]))


def survives(flags):
    """Does the last attack leave an image? The Wilson interval of a single one excludes 0 already."""
    return bool(flags[-1].any())


def rarely(flags):
    """Is it certainly less than half of the images?"""
    return proportion(flags[-1]).high < 0.5


def row(expected, flags, suspect):
    """A row of `trust`. flags: outcomes in order, bool [n], none where not measured; suspect: their test."""
    difference, verdict = "–", NOT_RUN
    if flags:
        verdict = SUSPECT if suspect(flags) else EXPECTED
    if len(flags) > 1:
        earlier, later = evidence(flags) if verdict == SUSPECT else (flags[0], flags[-1])
        moved, low, high, _ = (100 * value for value in paired(later, earlier))
        difference = f"{moved:+.1f} [{low:+.1f}, {high:+.1f}]"
    return {
        "expected": expected,
        "measured": " → ".join(f"{100 * f.mean():.1f}" for f in flags) or "–",
        "difference": difference,
        "n": flags[0].size if flags else 0,
        "verdict": verdict,
    }


def evaluation_rows(record):
    """The rows that compare the record's evaluations, on the test images that two of them share.

    Of fewer than FEWEST without a verdict: a paired test of a few images finds next to nothing.
    """
    pgd, aa = rates.outcomes_of(record["pgd"], "robust"), rates.outcomes_of(record["autoattack"], "robust")
    white_box = rates.outcomes_of(record["autoattack"], "fab-t")
    margin = rates.outcomes_of(record["margin"], "robust")
    square = rates.outcomes_of(record["checks"], "square")
    expected = "the gradient-free attack is no stronger"
    rows = {
        "PGD → AutoAttack": row("AutoAttack leaves no more", rates.on_shared(*pgd, *aa), rises),
        "white-box parts of AutoAttack → Square alone": row(
            expected, rates.on_shared(*white_box, *square), falls
        ),
        "PGD, then multi-targeted → Square alone": row(expected, rates.on_shared(*margin, *square), falls),
    }
    for each in rows.values():
        if 0 < each["n"] < FEWEST:
            each["verdict"] = TOO_FEW
    return rows


def check_rows(checks):
    """The rows that `check_attacks` is enough for. checks: its evaluation, or None."""

    def measured(*keys):
        return [checks[key] for key in keys] if checks and checks.keys() >= set(keys) else []

    restarts, steps = masking.CHECK_RESTARTS, [f"steps {s}" for s in masking.CHECK_STEPS]
    most = f"restarts {restarts}"
    weaker = "leaves no more"
    return {
        "FGSM → PGD-20": row("twenty steps leave no more than one", measured("fgsm", "steps 20"), rises),
        f"PGD of {', '.join(map(str, masking.CHECK_STEPS))} steps": row(
            "no step certainly leaves more", measured(*steps), rises
        ),
        "PGD-20 → PGD-200": row(weaker, measured("steps 20", "steps 200"), rises),
        f"1 → {restarts} restarts of PGD-20": row(weaker, measured("restarts 1", most), rises),
        f"PGD-20 of {restarts} restarts → Square alone": row(
            "the gradient-free attack is no stronger", measured(most, "square"), falls
        ),
        "unbounded PGD": row("0 %", measured("unbounded"), survives),
        # where it is 0 and the row above is not, the cross-entropy is the wrong loss to follow, no more
        "unbounded PGD, then multi-targeted": row("0 %", measured("unbounded margin"), survives),
        "loss rises more along the gradient": row(
            "than along random signs, on more than half of the images", measured("steepest"), rarely
        ),
    }


def transfer_row(pgd, transfers):
    """The row of the examples of other networks. pgd: the network's own evaluation, or None."""
    pairs = []
    if pgd:
        n = pgd["robust"].size
        pairs = [[pgd["robust"][: flags.size], flags[:n]] for flags in transfers]
    strongest = max(pairs, key=lambda pair: pair[0].mean() - pair[1].mean(), default=[])
    return row("no other network's examples are stronger", strongest, falls)


def curve_row(curve, data):
    """The row of robust accuracy against ε. curve: evaluation or None; data: the name of its data set.

    Not above chance, a constant classifier's, is asked of a radius that breaks every honest network: the
    largest of the curve at the ε that is usual for the data.
    """
    chance = bnat.DATASETS[data]["chance"]
    usual = next((p["epsilon"] for p in PROFILES.values() if p["data"] == data), PROFILES["cpu"]["epsilon"])
    far = not curve or curve["settings"]["epsilons"][-1] >= usual * CURVE[-1]

    def suspect(flags):
        return rises(flags) or (far and proportion(flags[-1]).low > chance)

    expected = f"falls with ε, not to end above chance, {100 * chance:g} %" if far else "falls with ε"
    return row(expected, list(curve["robust"]) if curve else [], suspect)


def constant(record):
    """Does a network give over 90 % of the clean images one label, more than where the classes are unequal?

    The more images the most frequent class has, the nearer to all of them is the bar.
    """
    pgd = record["pgd"]
    if not pgd:
        return False
    share_of_one = max(pgd["clean_predictions"]) / sum(pgd["clean_predictions"])
    chance = bnat.DATASETS[record["run"]["data"]]["chance"]
    return share_of_one > max(0.9, (8 + chance) / 9)  # of ten equal classes both are 0.9


def exempt(record):
    """Why the patterns say nothing of a network: CONSTANT or BROKEN; "" where they do."""
    if constant(record):
        return CONSTANT
    pgd = record["pgd"]
    return BROKEN if pgd and pgd["robust"].mean() < LEFT_OF_BROKEN else ""


def trust(record, transfers=None):
    """The checks against gradient masking that a record allows, one row a check.

    transfers: outcomes of this network under examples made on others, bool [n] each; None: not looked at,
    and no row. Columns: expected, the pattern of honest gradients; measured, accuracies in percent;
    difference, the last less the first, or of a suspect row the two that make it so, in points with its
    paired 95 % interval; n, images; verdict: "as expected", "suspect", "not yet run", "too few images" or
    why the network is `exempt`: attacks hardly move a constant classifier, and one that PGD breaks has no
    robustness that could be false. Suspect is
    - an attack that certainly leaves more than a weaker one before it (the interval lies above 0);
    - a gradient-free attack, or one by way of another network, that certainly leaves less;
    - a curve that certainly rises with ε, or at four times the usual ε certainly ends above chance (Wilson
      interval);
    - any survivor of an unbounded attack (the Wilson interval excludes 0 from one survivor on);
    - a gradient that certainly loses to random signs on more than half of the images (Wilson interval).
    """
    pgd = record["pgd"]
    rows = evaluation_rows(record) | check_rows(record["checks"])
    if transfers is not None:
        rows["own PGD → strongest transfer"] = transfer_row(pgd, transfers)
    rows[f"PGD at {CURVE[0]} to {CURVE[-1]} x ε"] = curve_row(record["curve"], record["run"]["data"])
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("check")
    if reason := exempt(record):
        table.loc[~table.verdict.isin(UNJUDGED), "verdict"] = reason
    return table


def from_others(right):
    """Of `run.transfer.between`'s outcomes those under another network's examples: {target: [bool [n]]}."""
    return {
        target: [flags[target] for source, flags in right.items() if source != target and target in flags]
        for target in right
    }
