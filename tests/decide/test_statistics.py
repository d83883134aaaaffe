"""Intervals and paired comparisons against reference values and simulations."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp
from statsmodels.stats.weightstats import DescrStatsW

from study.decide import statistics


def test_wilson_interval_has_its_reference_values():
    p = statistics.proportion(np.arange(100) < 15)  # Wilson 1927 with z = 1.96, e.g. Newcombe 1998
    assert (p.rate, p.n) == (0.15, 100)
    assert (p.low, p.high) == pytest.approx((0.0931, 0.2328), abs=1e-4)


@pytest.mark.parametrize("true", [0, 1, 4623, 10000])
def test_wilson_interval_is_that_of_the_first_study(true):
    reference = binomtest(true, 10000).proportion_ci(0.95, method="wilson")
    p = statistics.proportion(np.arange(10000) < true)
    assert (p.low, p.high) == pytest.approx(tuple(reference), abs=1e-12)


def test_a_proportion_as_text():
    assert statistics.percent(statistics.proportion(np.arange(10000) < 4623)) == "46.2 [45.3, 47.2] (10,000)"
    assert statistics.percent(statistics.proportion(None)) == "not yet run"
    assert statistics.percent(statistics.proportion(np.zeros(500, bool))) == "0.0 [0.0, 0.8] (500)"


def test_paired_difference_has_its_reference_values():
    a, b = np.zeros((2, 100), dtype=bool)
    a[:60], b[:50], b[60:62] = True, True, True  # 10 images only a, 2 only b: p = 2 (1 + 12 + 66) / 2^12
    difference, low, high, p = statistics.paired(a, b)
    assert difference == 0.08 and p == pytest.approx(0.03857, abs=1e-5)
    # 8/102 ± 1.96 sqrt(10.5 + 2.5 - 8^2/102) / 102, Agresti & Min 2005
    assert (low, high) == pytest.approx((0.0108, 0.1460), abs=1e-4)


def test_equal_outcomes_do_not_differ_and_still_have_an_interval():
    a = np.arange(100) < 60
    difference, low, high, p = statistics.paired(a, a)
    assert (difference, p) == (0, 1) and low < 0 < high


def test_the_p_value_is_that_of_the_first_study():
    a, b = np.random.default_rng(0).random((2, 10000)) < [[0.5], [0.48]]
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    assert statistics.paired(a, b)[3] == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, rel=1e-9)


def test_outcomes_on_different_images_are_refused():
    with pytest.raises(ValueError, match="same images"):
        statistics.paired(np.ones(500, bool), np.ones(1, bool))


def test_the_text_over_seeds():
    assert statistics.mean_sd([44.3, 46.4, 48.5]) == "46.4 ± 2.1 (3)"
    assert statistics.mean_sd([44.3]) == "44.3 (1)"
    assert statistics.mean_sd([]) == "not yet run"


def test_sd_over_seeds_is_that_of_a_sample():
    assert statistics.over_seeds([1, 2, 3]) == (2.0, 1.0, 3)
    mean, sd, n = statistics.over_seeds([1])
    assert (mean, n) == (1.0, 1) and np.isnan(sd)


def test_t_interval_by_hand():
    # 2 ± 4.3027 · 1 / sqrt(3): the 97.5 % point of Student's t with 2 degrees of freedom
    assert statistics.t_interval([1, 2, 3]) == pytest.approx((2, -0.48414, 4.48414), abs=1e-4)


def test_t_interval_below_two_seeds_has_no_limits():
    assert statistics.t_interval([5.0]) == (5.0, -np.inf, np.inf)
    assert statistics.t_interval([])[1:] == (-np.inf, np.inf)


def test_t_interval_of_equal_seeds_is_a_point():
    assert statistics.t_interval([0.0, 0.0, 0.0]) == (0, 0, 0)


def test_t_interval_as_if_with_more_seeds_keeps_mean_and_sd():
    mean, low, high = statistics.t_interval([1, 2, 3], seeds=12)
    assert (mean, high - mean) == pytest.approx(
        (2, 2.20099 / 12**0.5), abs=1e-4
    )  # t with 11 degrees of freedom
    assert mean - low == pytest.approx(high - mean)


@pytest.mark.parametrize("shift", [-2, -1.5, -1, 0, 0.8, 1.2, 1.4, 1.6, 3])
@pytest.mark.parametrize("spread", [0.1, 0.7, 2])
def test_equivalence_is_tost_at_5_percent(shift, spread):
    values = shift + spread * np.array([-1.1, -0.4, 0.1, 0.5, 0.9])
    p = DescrStatsW(values).ttost_mean(-2, 2)[0]
    assert abs(p - 0.05) > 1e-4, "chosen too near to the limit"
    assert statistics.equivalent(values, 2.0) == (p < 0.05)


def test_one_seed_is_never_equivalent():
    assert not statistics.equivalent([0.0], 2.0)


def test_two_phase_is_the_rate_on_all_plus_the_difference_on_the_subset():
    robust = np.arange(1000) < 300
    index = np.arange(0, 1000, 10)  # 30 of 100 survive
    autoattack = robust[index].copy()
    autoattack[:5] = False
    p = statistics.two_phase(robust, index, autoattack)
    assert p.rate == pytest.approx(0.25) and p.n == 100
    # 0.3 − 5/102 ± 1.96 sqrt(6 − 25/102) / 102
    assert (p.low, p.high) == pytest.approx((0.20488, 0.29708), abs=1e-4)


def test_a_two_phase_estimate_is_no_negative_accuracy():
    robust = np.arange(10_000) < 3
    p = statistics.two_phase(robust, np.arange(200), np.zeros(200, dtype=bool))
    assert (p.rate, p.low) == (0, 0)


def test_two_phase_covers_and_is_sharper_than_the_subset_alone():
    random = np.random.default_rng(0)
    robust = random.random(10000) < 0.25
    autoattack = robust & (random.random(10000) < 0.85)
    truth, covered, widths = autoattack.mean(), [], []
    for _ in range(1000):
        index = random.choice(10000, 500, replace=False)
        p = statistics.two_phase(robust, index, autoattack[index])
        alone = statistics.proportion(autoattack[index])
        covered.append(p.low <= truth <= p.high)
        widths.append((p.high - p.low) / (alone.high - alone.low))
    assert 0.93 < np.mean(covered) < 0.985
    assert np.mean(widths) < 0.6


def test_a_share_of_few_runs_has_the_clopper_pearson_interval():
    """Of 0 in n the upper limit is 1 - 0.025 ** (1 / n)."""
    assert statistics.share(0, 3) == pytest.approx((0, 0, 1 - 0.025 ** (1 / 3), 3))
    assert statistics.share(4, 5)[:3] == pytest.approx((0.8, 0.2836, 0.9949), abs=1e-4)


@pytest.mark.parametrize(
    "values, p",
    [
        ([10, 3, 0.5, 1.4, 1, 0.4], 2 / 64),
        ([-10, -3, -0.5, -1.4, -1, -0.4], 2 / 64),
        ([5, 4, 3, 2, 1], 2 / 32),
        ([1, -1], 1),
        ([0, 0, 0], 1),
        ([3], 1),
    ],
)
def test_the_sign_flip_test_counts_every_way_to_set_the_signs(values, p):
    assert statistics.sign_flip(values) == pytest.approx(p)


def test_the_sign_flip_test_is_that_of_its_definition():
    values = np.array([1, -1, 2, -0.5, 0.3, 0.2])
    signs = np.array(list(itertools.product((1, -1), repeat=6)))
    as_far = abs((signs * values).mean(1)) >= abs(values.mean()) - 1e-12
    assert statistics.sign_flip(values) == pytest.approx(as_far.mean())


def test_holm_multiplies_the_smallest_p_by_the_number_of_parts():
    alone = [0.9, 1.0, 1.1], [0.4, 1.0, 1.6], [-1, 0, 1]
    first, second, third = (float(ttest_1samp(values, 0).pvalue) for values in alone)
    assert statistics.holm(alone, 3) == pytest.approx([3 * first, 2 * second, third])
    assert statistics.holm(alone, 5) == pytest.approx([5 * first, 4 * second, 1])
    assert statistics.holm([[2, 2, 2], [0, 0, 0]], 2) == pytest.approx([0, 1])
    assert statistics.holm([], 8).size == 0


def test_holm_as_if_with_more_seeds_keeps_mean_and_sd():
    three = [0.4, 1.0, 1.6]
    twelve = 4 * three
    stretched = 1 + (np.array(twelve) - 1) * np.std(three, ddof=1) / np.std(twelve, ddof=1)
    assert statistics.holm([three], 1, seeds=12) == pytest.approx([ttest_1samp(stretched, 0).pvalue])
