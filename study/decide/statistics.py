"""Intervals and paired comparisons, of arrays of flags (one an image) or of numbers (one a seed).

Decided here: which interval and which test belongs to which comparison. Not here: which networks are
compared and which difference matters (claims.py), how a table looks (tables.py). Intervals are at 95 % where
nothing else is said.
"""

from collections import namedtuple

import numpy as np
from scipy.stats import permutation_test, t
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

Proportion = namedtuple("Proportion", "rate low high n")


def proportion(flags):
    """The share of true in bool [n] with its Wilson interval: (rate, low, high, n) in [0, 1], or None."""
    if flags is None:
        return None
    flags = np.asarray(flags, dtype=bool)
    low, high = proportion_confint(int(flags.sum()), flags.size, method="wilson")
    return Proportion(float(flags.mean()), float(low), float(high), flags.size)


def percent(p):
    """A `proportion` as text, in percent: "46.2 [45.3, 47.2] (10,000)"; "not yet run" for None."""
    if p is None:
        return "not yet run"
    return f"{100 * p.rate:.1f} [{100 * p.low:.1f}, {100 * p.high:.1f}] ({p.n:,})"


def paired(a, b):
    """Two outcomes on the same images, bool [n] each, compared: (mean(a) − mean(b), low, high, p), in [0, 1].

    The interval is Agresti & Min's for paired proportions (Statistics in Medicine 24, 2005: Wald's after
    half an image more in each of the four cells), p is McNemar's exact two-sided test. ValueError: the two
    differ in shape.
    """
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"b must be of the same images as a, {a.shape}, got {b.shape}")
    only_a, only_b, n = int((a & ~b).sum()), int((b & ~a).sum()), a.size
    middle = (only_a - only_b) / (n + 2)
    half = 1.96 * (only_a + only_b + 1 - (only_a - only_b) ** 2 / (n + 2)) ** 0.5 / (n + 2)
    test = contingency_tables.mcnemar([[0, only_a], [only_b, 0]], exact=True)
    return (only_a - only_b) / n, middle - half, middle + half, float(test.pvalue)


def smallest_certain(n):
    """The smallest share of n images, all one way, whose `paired` interval excludes 0."""
    for moved in range(1, n + 1):
        one, other = np.arange(n) < moved, np.zeros(n, dtype=bool)
        if paired(one, other)[1] > 0:
            return moved / n
    return 1.0


def two_phase(robust, index, autoattack):
    """AutoAttack's accuracy on all n images from a random subset of m: Proportion, its n that of the subset.

    robust: bool [n], what survives a cheaper attack. index: int [m], the images of the subset, drawn at
    random. autoattack: bool [m], what survives AutoAttack there. The difference estimator (Cochran, Sampling
    Techniques, 1977, chapter 7): the cheaper attack on all images plus the mean difference on the subset. The
    interval is that of the paired difference: a little too wide, since the subset is part of all images, but
    too narrow where the two differ on a handful of images alone. Estimates below 0, which an accuracy is not,
    become 0.
    """
    robust = np.asarray(robust, dtype=bool)
    difference, low, high, _ = paired(autoattack, robust[np.asarray(index)])
    on_all = float(robust.mean())
    rate, low, high = (max(on_all + change, 0.0) for change in (difference, low, high))
    return Proportion(rate, low, high, len(index))


def over_seeds(values):
    """Mean, standard deviation (n − 1) and number of one value a seed: (mean, sd, n); NaN where undefined."""
    values = np.asarray(list(values), dtype=float)
    mean = float(values.mean()) if values.size else float("nan")
    sd = float(values.std(ddof=1)) if values.size > 1 else float("nan")
    return mean, sd, values.size


def mean_sd(values, digits=1):
    """Values of seeds as text: "46.4 ± 2.1 (3)", mean ± sd (seeds); "46.4 (1)" of one, else "not yet run"."""
    mean, sd, n = over_seeds(values)
    if n == 0:
        return "not yet run"
    return f"{mean:.{digits}f} ± {sd:.{digits}f} ({n})" if n > 1 else f"{mean:.{digits}f} (1)"


def t_interval(values, level=0.95, seeds=None):
    """Mean over seeds with its t-interval: (mean, low, high); without limits, ±inf, below two values.

    Of values that are all the same it has no width, as where every accuracy is 0: with few images, of which
    an accuracy is a multiple, that may be chance.

    seeds: as if there were so many, with the mean and the sd of these: how wide would the interval be then?
    """
    mean, sd, n = over_seeds(values)
    if n < 2:
        return mean, -np.inf, np.inf
    n = seeds or n
    half = float(t.ppf((1 + level) / 2, n - 1)) * sd / n**0.5
    return mean, mean - half, mean + half


def equivalent(values, delta, seeds=None):
    """Is the mean over seeds within ± delta? TOST at 5 %: the 90 % t-interval lies inside."""
    _, low, high = t_interval(values, 0.90, seeds)
    return -delta < low and high < delta


def share(count, n):
    """count of n runs with its Clopper-Pearson interval, which is exact for few: (rate, low, high, n)."""
    low, high = proportion_confint(count, n, method="beta")
    return Proportion(count / n, float(low), float(high), n)


def sign_flip(values):
    """Two-sided p of the exact sign-flip test of differences, one a seed: could both arms be exchanged?

    If they could, each sign is as likely as the other; p is the share of all 2^n ways to set them with a mean
    as far out. Of n values of one sign p = 2 / 2^n: six reach 0.031, five cannot reach 0.05. Differences that
    are skewed about a mean of 0 are no exchange, either: it is not a test of the mean alone.
    """
    values = np.asarray(list(values), dtype=float)
    if values.size < 2:  # scipy wants two; of one value both signs are as far out
        return 1.0
    every = 2**values.size
    test = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=every)
    return float(test.pvalue)


def holm(parts, planned, seeds=None):
    """Two-sided p of several means over seeds, by t-tests against 0, corrected after Holm: float [parts].

    parts: the values of each, one a seed, two or more; planned: of how many tests they are, those that cannot
    be made yet included. Values that are all the same have p = 0, or 1 where they are 0: see `t_interval`.
    seeds: as if each had so many, as in `t_interval`.
    """
    raw = []
    for values in parts:
        mean, sd, n = over_seeds(values)
        n = seeds or n
        if sd == 0:
            raw.append(0.0 if mean else 1.0)
        else:
            raw.append(float(2 * t.sf(abs(mean) * n**0.5 / sd, n - 1)))
    missing = [1.0] * (planned - len(raw))
    return multipletests(raw + missing, method="holm")[1][: len(raw)]
