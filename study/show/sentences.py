"""The sentences that the notebooks beside 04 make of records.

Decided here: how a result is put into words, from numbers alone. Not here: the numbers
(decide/statistics.py), verdicts (decide/trust.py), tables and figures, the answer (answer.py).
"""

import numpy as np

from study.decide import axes, rates, trust
from study.decide.statistics import mean_sd
from study.define.rows import label
from study.show import tables, trust_tables


def not_run(rows):
    """Which of some rows {key: {seed: record}} have no run, in a sentence; "" where all have."""
    missing = [label(key) for key, seeds in rows.items() if not seeds]
    return f"Not yet run: {'; '.join(missing)}." if missing else ""


def stayed(rows):
    """Which adversarial trainings of rows {key: {seed: record}} did not take off, in a sentence; or ""."""
    named = []
    for key, of_seed in rows.items():
        trained = {seed: record for seed, record in of_seed.items() if record["run"]["epsilon"]}
        seeds = [str(seed) for seed, record in trained.items() if not rates.took_off(record)]
        if seeds:
            named.append(f"{label(key)} (seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)})")
    return f"Did not take off: {'; '.join(named)}." if named else ""


# -------------------------------------------------------------------------------------------------- 05_trust
def suspects(tables_of):
    """What the checks find, of {(key, seed): table of trust} of every network: which are suspect, in what.

    Networks on which most checks were run are counted apart from those on which few were.
    """
    counted = []
    for text, most in (("on which most checks were run", True), ("on which fewer were", False)):
        judged = [table for table in tables_of.values() if trust_tables.mostly_run(table) == most]
        suspect = [table for table in judged if "suspect" in set(table.verdict)]
        if judged:
            counted.append(f"{len(suspect)} of the {len(judged)} networks {text}")
    lines = [
        f"- {label(key)}: {finding(table)}."
        for key, table in tables_of.items()
        if not {"suspect", "constant"}.isdisjoint(table.verdict)
    ]
    return (
        f"Of every seed, suspect in some check: {', '.join(counted) or 'none was looked into'}.\n\n"
        + "\n".join(lines)
    )


def finding(table):
    """The checks of one network in a sentence."""
    verdicts_of = set(table.verdict)
    if "constant" in verdicts_of:
        return "a constant classifier, to which the patterns do not apply"
    if "suspect" in verdicts_of:
        return f"suspect in {'; '.join(table.index[table.verdict == 'suspect'])}"
    run = (~table.verdict.isin(trust.UNJUDGED)).sum()
    text = f"no sign of gradient masking in the {run} of {len(table)} checks that were run"
    return f"{text}, which excludes nothing of the other {len(table) - run}" if run < len(table) else text


def left_out(checked):
    """What the checks found in networks that the grid leaves out, {key: table of trust}: a line a finding."""
    findings = {}
    for key, own in checked.items():
        if not trust_tables.mostly_run(own):
            findings.setdefault(finding(own), []).append(label(key))
    return "\n".join(f"- {'; '.join(labels)}: {text}." for text, labels in findings.items())


def parts(networks):
    """What FAB and Square took that APGD had left, and AutoAttack from PGD, over all of {key: record}."""
    attacked = [r for r in networks.values() if tables.same_images(r, "pgd") is not None]
    if not attacked:
        return "AutoAttack: not yet run."
    late = []
    for record in attacked:
        attack = record["autoattack"]
        by_apgd = attack.get("apgd-t", attack["apgd-ce"])  # targeted APGD needs four classes
        if (by_apgd != attack["square"]).any():
            late.append(record)
    judged = [r for r in attacked if r["run"]["epsilon"] and not trust.constant(r)]
    groups = {"BN-only AT networks": [], "others trained adversarially": []}
    of_bn, of_others = groups
    for record in judged:
        group = of_bn if record["run"]["trainable"] == "bn" else of_others
        taken = tables.same_images(record, "pgd").mean() - record["autoattack"]["robust"].mean()
        groups[group].append(100 * taken)
    said = [
        f"{min(points):.1f} to {max(points):.1f} points less in {len(points)} {group}"
        for group, points in groups.items()
        if points
    ]
    text = (
        "FAB and Square took something that APGD on the cross-entropy and targeted APGD had left in "
        f"{len(late)} of {len(attacked)} networks."
    )
    with_r = [record for record in judged if rates.flags(record, rates.ROBUST) is not None]
    if with_r:
        lowered = [record for record in with_r if rates.robust_accuracy(record)[1]]
        text += (
            f" R is lowered, since AutoAttack certainly leaves fewer, in {len(lowered)} of the {len(with_r)} "
            "that were trained adversarially and are no constant classifiers."
        )
    if said:
        text += (
            " On the same images, than PGD-20 on the cross-entropy, AutoAttack leaves "
            f"{', '.join(said)}; constant classifiers apart."
        )
    return text


def said_of_take_off(record):
    """Whether an adversarial training left the plateau of a constant classifier, in a sentence; else ""."""
    if not record["run"]["epsilon"] or not record["history"]:
        return ""
    constant, bound = rates.plateau(record["run"]["data"])
    loss = record["history"][-1]["train_loss"]
    text = f"adversarial training loss ended at {loss:.2f}; a constant classifier's is {constant:.2f}"
    if rates.took_off(record):
        return f"The training took off: its {text}."
    return (
        f"**This training did not take off**: its {text}, and below {bound:.2f} counts as having left it. "
        "How many of the study's did: [04_robustness](04_robustness.ipynb)."
    )


def among_those_that_started(record, seeds):
    """R of a record of random features beside that of its row's {seed: record} that took off, in words."""
    started = {seed: other for seed, other in seeds.items() if rates.took_off(other)}
    reached = rates.of_seeds(started, rates.ROBUST)
    if record["run"]["seed"] not in reached or len(reached) < 2:
        return ""
    own, low, high = reached[record["run"]["seed"]], min(reached.values()), max(reached.values())
    return f" (R {own:.1f} %; {low:.1f} to {high:.1f} % in the {len(reached)} that did)"


def said_of_representative(first, rows):
    """Which networks {key: record} stand for their rows {key: {seed: record}}, in a sentence."""
    if not first:
        return "Not yet run."
    seeds = {key: record["run"]["seed"] for key, record in first.items()}
    usual = min(seeds.values())
    other = []
    for key, seed in seeds.items():
        if seed != usual:
            why = ", the first that took off and was looked into" if key == "random" else ""
            beside = among_those_that_started(first[key], rows[key]) if key == "random" else ""
            other.append(f"{label(key)}, seed {seed}{why}{beside}")
    text = f"One network a row is looked into: that of seed {usual}"
    if "random" in first and not rates.took_off(first["random"]):
        return f"{text}; BN-only AT of random features did not take off there."
    if not other:
        return f"{text}."
    text = f"{text}, but for {'; '.join(other)}. Rows of different seeds are not paired."
    missing = "random" in first and first["random"]["features"] is None
    return f"{text} What is inside that one is not yet run." if missing else text


# ----------------------------------------------------------------------------------------------- 06_features
def best(tuned, judge="R"):
    """Which learning rate of a tuning is best by a key of TUNING, and whether at an edge: a line a row.

    The rates are compared on the seeds that all of them have; a rate with more seeds than that is not judged
    by the others. One at which the training diverged has no record.
    """
    lines = []
    for key, points in tuned.items():
        judged = {lr: rates.of_seeds(seeds, axes.TUNING[judge]) for lr, seeds in points.items()}
        judged = {lr: of_seeds for lr, of_seeds in judged.items() if of_seeds}
        if not judged:
            continue
        shared = sorted(set.intersection(*(set(of_seeds) for of_seeds in judged.values())))
        if not shared:
            lines.append(f"- {label(key)}: no seed has every rate")
            continue
        means = {lr: np.mean([of_seeds[seed] for seed in shared]) for lr, of_seeds in judged.items()}
        lr = max(means, key=means.get)
        note = ""
        if len(points) == 1:
            note = ", the only rate with a result"
        elif lr == max(points):
            note = ", the highest rate with a result"
        elif lr == min(points):
            note = ", the lowest rate with a result"
        seeds = f"seed{'s' if len(shared) > 1 else ''} {', '.join(map(str, shared))}"
        if len(judged[lr]) > len(shared):
            note += f"; over all of its seeds {mean_sd(judged[lr].values())}"
        lines.append(f"- {label(key)}: {lr:g} ({judge} {means[lr]:.1f} % on {seeds}{note})")
    return "\n".join(lines) or "Not yet run."


def said_of_gap(gaps, clean):
    """By how much trained features are ahead at each ε: a line a row of `decide.axes.gaps`.

    clean: the same at ε = 0, {seed: points} of clean accuracy, after clean training of what learns there.
    """
    lines = []
    for key, points in gaps.items():
        by_radius = [f"ε = 0: {rates.points(clean)}"] if clean else []
        by_radius += [f"{eps:g}/255: {rates.points(of_seed)}" for eps, of_seed in points.items()]
        if len(points) > 1:
            lines.append(f"- Trained features less {label(key)}, points (seeds), {'; '.join(by_radius)}.")
    return "\n".join(lines) or "Not yet run at other ε than the study's."


def said_of_capacity(sizes, perceptron):
    """How far trained features are from P at each number of γ and β, of `decide.axes.capacity`."""
    points_of = sizes.get("finetuned", {})
    gaps = {size: rates.differences(seeds, perceptron) for size, seeds in points_of.items()}
    if not axes.explored(sizes):
        return "Not yet run."
    each = [f"{size:,} γ and β {rates.points(gap)}" for size, gap in gaps.items()]
    return f"BN-only AT of trained features less P, points of R (seeds): {'; '.join(each)}."
