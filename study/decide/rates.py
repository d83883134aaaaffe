"""Accuracies of records over seeds: one R for the headline, the tables, the figures and the claims.

Decided here: what AutoAttack on a subset of the images does to R, how networks are paired by seed, which
adversarial training counts as having taken off. Not here: intervals and tests (statistics.py), which
difference matters (claims.py). Accuracies are in percent, differences in points.

A measure is (kind of evaluation, name of its flags).
"""

import numpy as np

import bnat_utils as bnat
from study.decide.statistics import mean_sd, paired, t_interval, two_phase

CLEAN, PGD, ROBUST = ("pgd", "clean"), ("pgd", "robust"), ("margin", "robust")
TAKEN_OFF = 2.25  # adversarial training loss of the last epoch, of ten classes; of others in proportion


def flags(record, measure):
    """The outcomes of a measure, bool [n]; None where they are missing."""
    kind, name = measure
    evaluation = record.get(kind)
    return None if evaluation is None else evaluation.get(name)


def outcomes_of(evaluation, key):
    """An evaluation's outcomes, bool [n], and the test images that they are of, int [n]; none for None."""
    if evaluation is None:
        return np.zeros(0, dtype=bool), np.zeros(0, dtype=int)
    return evaluation[key], evaluation["settings"].get("index", range(evaluation[key].size))


def on_shared(first, index_first, second, index_second):
    """Two outcomes, bool [n] and bool [m], of the test images index_first, index_second: on those of both.

    Empty where they share none.
    """
    _, a, b = np.intersect1d(index_first, index_second, return_indices=True)
    return [first[a], second[b]] if a.size else []


def same_images(record, kind, name="robust"):
    """The outcomes of a kind on the images that AutoAttack saw: bool [n], None where it saw others."""
    attacked = outcomes_of(record["autoattack"], "robust")
    both = on_shared(*outcomes_of(record[kind], name), *attacked)
    return both[0] if both and both[0].size == attacked[0].size else None


def on_autoattack_images(record):
    """R on AutoAttack's random subset, before and after AutoAttack: (bool [m], bool [m], their index [m]).

    What survives AutoAttack counts only if it survives R's attacks, too: the second is never above the first.
    None where there is no AutoAttack, or one on images that are no random subset of R's.
    """
    robust, autoattack = flags(record, ROBUST), record.get("autoattack")
    if robust is None or autoattack is None:
        return None
    index = np.asarray(autoattack["settings"].get("index", []), dtype=int)
    if index.size == 0 or index.max() >= len(robust):
        return None
    before = np.asarray(robust)[index]
    return before, before & np.asarray(autoattack["robust"]), index


def after_autoattack(record):
    """The two-phase estimate of what survives R's attacks and AutoAttack on all images; Proportion, None."""
    subset = on_autoattack_images(record)
    if subset is None:
        return None
    _, after, index = subset
    return two_phase(flags(record, ROBUST), index, after)


def broken_by_autoattack(seeds):
    """How many images AutoAttack breaks, and of how many on which R is right, over all of {seed: record}."""
    subsets = [on_autoattack_images(record) for record in seeds.values()]
    subsets = [(before, after) for before, after, _ in filter(None, subsets)]
    broken = sum(int((before & ~after).sum()) for before, after in subsets)
    return broken, sum(int(before.sum()) for before, _ in subsets)


def robust_accuracy(record):
    """R in percent, and whether AutoAttack corrected it: (R, bool). record: one with a margin evaluation.

    R is what survives PGD-20 and multi-targeted PGD. Where AutoAttack on the subset certainly leaves less,
    the paired interval there below 0, it becomes the two-phase estimate.
    """
    subset = on_autoattack_images(record)
    if subset is not None:
        before, after, _ = subset
        _, _, high, _ = paired(after, before)
        if high < 0:
            return 100 * after_autoattack(record).rate, True
    return 100 * float(np.mean(flags(record, ROBUST))), False


def accuracy(record, measure):
    """Of a record in percent, R as `robust_accuracy` has it; None where it was not measured."""
    if flags(record, measure) is None:
        return None
    if measure == ROBUST:
        return robust_accuracy(record)[0]
    return 100 * float(np.mean(flags(record, measure)))


def of_seeds(seeds, measure):
    """{seed: accuracy} of {seed: record}, where it was measured."""
    measured = {seed: accuracy(record, measure) for seed, record in seeds.items()}
    return {seed: rate for seed, rate in measured.items() if rate is not None}


def text(seeds, measure):
    """The accuracy of {seed: record} as "mean ± sd (seeds)"."""
    return mean_sd(of_seeds(seeds, measure).values())


def paired_seeds(first, second, measure):
    """The seeds that two rows, {seed: record}, both have, measured on the same number of images."""
    one, other = (
        {seed: len(flags(r, measure)) for seed, r in row.items() if flags(r, measure) is not None}
        for row in (first, second)
    )
    return [seed for seed in sorted(one.keys() & other.keys()) if one[seed] == other[seed]]


def differences(first, second, measure=ROBUST):
    """{seed: points} of {seed: record} less another, of their `paired_seeds`."""
    return {
        seed: round(accuracy(first[seed], measure) - accuracy(second[seed], measure), 6)
        for seed in paired_seeds(first, second, measure)
    }


def differences_after_autoattack(first, second):
    """`differences` by the two-phase estimate of `after_autoattack`, {seed: points}, where both have it."""
    estimates = {
        seed: (after_autoattack(first[seed]), after_autoattack(second[seed]))
        for seed in paired_seeds(first, second, ROBUST)
    }
    return {seed: 100 * (one.rate - other.rate) for seed, (one, other) in estimates.items() if one and other}


def error_over_images(first, second, seeds, measure=ROBUST):
    """Standard error over the test images, in points, of two rows' mean difference over seeds; or None.

    first, second: {seed: record}. An interval over seeds is conditional on the images: this is not in it.
    """
    pairs = [(flags(first[seed], measure), flags(second[seed], measure)) for seed in seeds]
    if not pairs:
        return None
    each = np.mean([one.astype(float) - other for one, other in pairs], axis=0)  # of an image, over seeds
    return 100 * float(each.std(ddof=1)) / np.sqrt(each.size)


def points(values, sign="+"):
    """{seed: points} as text, with the 95 % t-interval: "+2.4 [+1.5, +3.3] (5)"; of one seed without it.

    sign: "+" for differences, "" for accuracies, which have none.
    """
    if not values:
        return "not yet run"
    mean, low, high = t_interval(values.values())
    if len(values) == 1:
        return f"{mean:{sign}.1f} (1)"
    return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}] ({len(values)})"


def plateau(data):
    """On a data set the loss of the best constant classifier, and the one below which AT took off."""
    constant = bnat.DATASETS[data]["entropy"]
    return constant, TAKEN_OFF * constant / float(np.log(10))


def took_off(record):
    """Did adversarial training leave the plateau of a constant classifier? By its loss, not by test data."""
    return record["history"][-1]["train_loss"] < plateau(record["run"]["data"])[1]


def split(seeds):
    """{seed: record} of adversarial trainings in two: those that took off, and those that did not."""
    started = {seed: record for seed, record in seeds.items() if took_off(record)}
    return started, {seed: record for seed, record in seeds.items() if seed not in started}


def by_take_off(seeds):
    """{seed: record} of a row in two, {", took off": …, ", did not": …}; {"": seeds} where all took off.

    Clean training has no plateau of its own, and counts as having taken off.
    """
    started = {s: record for s, record in seeds.items() if not record["run"]["epsilon"] or took_off(record)}
    if len(started) == len(seeds):
        return {"": seeds} if seeds else {}
    stayed = {seed: record for seed, record in seeds.items() if seed not in started}
    return ({", took off": started} if started else {}) | {", did not": stayed}
