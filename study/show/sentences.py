"""The sentences that the notebooks beside 04 make of records.

Decided here: how a result is put into words, from numbers alone. Not here: the numbers
(decide/statistics.py), tables and figures, the answer (answer.py), what 05 says (trust_sentences.py).
"""

import itertools

import numpy as np

from study.decide import axes, rates, take_off, trust
from study.decide.statistics import mean_sd, t_interval
from study.define.rows import OVER_RANDOM, label, short


def not_run(rows):
    """Which of some rows {key: {seed: record}} have no run, in a sentence; "" where all have."""
    missing = [label(key) for key, seeds in rows.items() if not seeds]
    return f"Not yet run: {'; '.join(missing)}." if missing else ""


def said_of_not_started(rows):
    """Which adversarial trainings of rows {key: {seed: record}} did not take off, in a sentence; or ""."""
    named = []
    for key, of_seed in rows.items():
        _, behind = rates.split({s: record for s, record in of_seed.items() if record["run"]["epsilon"]})
        seeds = [str(seed) for seed in behind]
        if seeds:
            named.append(f"{label(key)} (seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)})")
    return f"Did not take off: {'; '.join(named)}." if named else ""


def said_of_take_off(record, others):
    """Whether an adversarial training left the plateau of a constant classifier, in words; else "".

    others: {name: record}; said is how many of those took off that differ from it in the seed alone.
    """
    if not record["run"]["epsilon"] or not record["history"]:
        return ""
    constant, bound = rates.plateau(record["run"]["data"])
    loss = record["history"][-1]["train_loss"]
    text = f"adversarial training loss ended at {loss:.2f}; a constant classifier's is {constant:.2f}"
    if rates.took_off(record):
        return f"The training took off: its {text}.{with_other_seeds(record, others)}"
    return (
        f"**This training did not take off**: its {text}, and below {bound:.2f} counts as having left it."
        f"{with_other_seeds(record, others)}"
    )


def with_other_seeds(record, others):
    """How many of the runs that differ in nothing but the seed took off, and R of these; "" of one alone."""
    own = record["run"]
    same = {
        other["run"]["seed"]: other
        for other in others.values()
        if other["run"] | dict(seed=own["seed"]) == own
    }
    if len(same) < 2:
        return ""
    started, _ = rates.split(same)
    reached = rates.of_seeds(started, rates.ROBUST).values()
    text = f" Of the {len(same)} runs that differ in the seed alone {len(started)} took off"
    return f"{text} (R {min(reached):.1f} to {max(reached):.1f} %)." if reached else f"{text}."


def among_those_that_started(record, seeds):
    """R of a record of random features beside that of its row's {seed: record} that took off, in words."""
    started, _ = rates.split(seeds)
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
        if len(judged) == 1:
            note = ", the only rate with a result"
        elif lr == max(judged):
            note = ", the highest rate with a result"
        elif lr == min(judged):
            note = ", the lowest rate with a result"
        seeds = f"seed{'s' if len(shared) > 1 else ''} {', '.join(map(str, shared))}"
        if len(judged[lr]) > len(shared):
            note += (
                f"; over all of its seeds {mean_sd(judged[lr].values())}{ahead_of_next(judged, means, lr)}"
            )
        lines.append(f"- {label(key)}: {lr:g} ({judge} {means[lr]:.1f} % on {seeds}{note})")
    return "\n".join(lines) or "Not yet run."


def ahead_of_next(judged, means, lr):
    """How far a learning rate is ahead of the next best, on all seeds that both have, in words.

    judged: {lr: {seed: accuracy}}; means: {lr: mean}, by which they are ordered.
    """
    following = max((other for other in means if other != lr), key=means.get)
    both = judged[lr].keys() & judged[following].keys()
    ahead = {seed: judged[lr][seed] - judged[following][seed] for seed in both}
    return f", ahead of {following:g} by {rates.points(ahead)}"


def said_of_shorter(trainings):
    """How many of the trainings of `decide.take_off` that are shorter than the study's took off, by rate."""
    started = {}
    for how, record in trainings.values():
        run = record["run"]
        if 1 < run["epochs"] < take_off.STUDY_LENGTH:
            started.setdefault((run["epochs"], how, run["lr"]), []).append(rates.took_off(record))
    each = [
        f"{how}, of {epochs} epochs, at {lr:g}: {flags.count(True)} of {len(flags)}"
        for (epochs, how, lr), flags in sorted(started.items())
    ]
    return f"Shorter ones that took off: {'; '.join(each)}." if each else ""


def said_of_stayed(trainings):
    """Which trainings of `decide.take_off` count as not started and are no constant classifier, or ""."""
    named = []
    for how, record in trainings.values():
        run, pgd = record["run"], record["pgd"]
        if run["epochs"] < take_off.STUDY_LENGTH or rates.took_off(record) or not pgd:
            continue
        if not trust.constant(record):
            clean = 100 * np.mean(rates.flags(record, rates.CLEAN))
            named.append(f"{how}, at {run['lr']:g}, seed {run['seed']} (clean accuracy {clean:.1f} %)")
    return f"Did not take off, and yet no constant classifier: {'; '.join(named)}." if named else ""


def lasted(seeds):
    """The epochs that the trainings of {seed: record} lasted, as text."""
    return "/".join(str(epochs) for epochs in sorted({r["run"]["epochs"] for r in seeds.values()})) or "–"


def said_of_budget(rows):
    """What more epochs give the yardsticks, and trained features' distance from them, in a sentence."""
    each = []
    for key in ("linear", "perceptron"):
        gained = rates.differences(rows[f"{key}_long"], rows[key])
        left = rates.differences(rows["finetuned"], rows[f"{key}_long"])
        if gained:
            name, long = short(key), lasted(rows[f"{key}_long"])
            each.append(
                f"{name} of {long} epochs less {name} of {lasted(rows[key])} {rates.points(gained)}; trained "
                f"features of {lasted(rows['finetuned'])} less {name} of {long} {rates.points(left)}"
            )
    return f"In points of R (seeds): {'; '.join(each)}." if each else "Yardsticks: not yet run for longer."


def said_of_gap(gaps):
    """By how much trained features are ahead at each ε, and where: a line a row of `decide.axes.gaps`."""
    lines = []
    for key, points in gaps.items():
        by_radius = {f"{eps:g}/255" if eps else "ε = 0": of_seed for eps, of_seed in points.items()}
        said = "; ".join(
            f"{eps}: {rates.points(of_seed) if of_seed else 'not measured'}"
            for eps, of_seed in by_radius.items()
        )
        lines.append(
            f"- Trained features less {label(key)}, points (seeds), {said}. {where_ahead(by_radius)}"
        )
    return "\n".join(lines) or "Not yet run at other ε than the study's."


def where_ahead(by_radius):
    """At which ε trained features are ahead on every seed, and certainly, of {ε in words: {seed: points}}."""
    shown = {eps: of_seed.values() for eps, of_seed in by_radius.items() if of_seed}
    ahead = [eps for eps, points in shown.items() if min(points) > 0]
    certain = [eps for eps, points in shown.items() if t_interval(points)[1] > 0]
    text = (
        f"Ahead on every seed: {', '.join(ahead) or 'at no ε'}; "
        f"the interval above 0: {', '.join(certain) or 'at no ε'}."
    )
    last = list(by_radius.values())[-1]
    alone = {eps: next(iter(of_seed)) for eps, of_seed in by_radius.items() if len(of_seed) == 1}
    shared = [f"{eps} (seed {seed}: {last[seed]:+.1f})" for eps, seed in alone.items() if seed in last]
    if len(last) > 1 and shared:
        largest = list(by_radius)[-1]
        text += f" Of one seed alone, in brackets what that seed has at {largest}: {', '.join(shared)}."
    return text


def said_of_started(points_of, at):
    """How many trainings of random features took off at each value of an axis, in a sentence, or "".

    points_of: {key: {value: {seed: record}}} of `decide.axes`; at: how a value is written, as "{:g}/255".
    """
    each = []
    for key in OVER_RANDOM:
        points = points_of.get(key, {})
        counted = []
        for value, seeds in points.items():
            started = [rates.took_off(record) for record in seeds.values()]
            counted.append(f"{started.count(True)} of {len(started)} at {at.format(value)}")
        if len(points) > 1:
            each.append(f"{label(key)} {', '.join(counted)}")
    return f"Took off: {'; '.join(each)}." if each else ""


def said_of_random(points_of, at):
    """How far random features are ahead of L at each value that both have, in a sentence, or "".

    points_of, at: as in `said_of_started`.
    """
    linear = points_of.get("linear", {})
    each = [
        f"{at.format(value)} {rates.points(gap)}"
        for value, seeds in points_of.get("random", {}).items()
        if (gap := rates.differences(seeds, linear.get(value, {})))
    ]
    return f"Random features less L, points of R (seeds): {'; '.join(each)}." if len(each) > 1 else ""


def said_of_order(points_of, at):
    """Which rows have less R than the same row trained and attacked at a larger value, in a sentence, or "".

    Whoever resists a radius resists all smaller ones, so there the smaller one's training fell short.
    points_of, at: as in `said_of_started`; of the seeds that both values have, only where all are lower.
    """
    lower = []
    for key, points in points_of.items():
        for smaller, larger in itertools.pairwise(sorted(points)):
            gap = rates.differences(points[smaller], points[larger])
            if gap and max(gap.values()) < 0:
                lower.append(
                    f"{label(key)} has less R at {at.format(smaller)} than at {at.format(larger)} "
                    f"({rates.points(gap)} points)"
                )
    if not lower:
        return ""
    return (
        f"{'; '.join(lower)}. A network that resists an ε resists every smaller one: there its training fell "
        "short, and whatever is ahead of it is so by too much."
    )


def said_of_capacity(sizes, perceptron):
    """How far trained features are from P at each number of γ and β, of `decide.axes.capacity`."""
    points_of = sizes.get("finetuned", {})
    gaps = {size: rates.differences(seeds, perceptron) for size, seeds in points_of.items()}
    if not axes.explored(sizes):
        return "Not yet run."
    each = [f"{size:,} γ and β {rates.points(gap)}" for size, gap in gaps.items()]
    return f"BN-only AT of trained features less P, points of R (seeds): {'; '.join(each)}."
