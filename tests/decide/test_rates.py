"""One R, and what is made of accuracies over seeds, on planted records."""

import pytest
from planted import flags, seeds, with_autoattack

from study.decide import rates


def test_r_is_not_corrected_where_autoattack_agrees():
    assert rates.robust_accuracy(with_autoattack(97)) == (40.0, False)


def test_r_is_corrected_where_autoattack_disagrees():
    assert rates.robust_accuracy(with_autoattack(90)) == (pytest.approx(36.0), True)


def test_r_is_not_corrected_by_a_subset_that_is_not_random():
    first = with_autoattack(50)
    del first["autoattack"]["settings"]["index"]
    assert rates.robust_accuracy(first) == (40.0, False)


def test_r_is_not_corrected_by_images_that_it_has_not():
    fewer = with_autoattack(50)
    fewer["margin"]["robust"] = fewer["margin"]["robust"][:500]
    assert rates.robust_accuracy(fewer) == (80.0, False)


def test_r_without_autoattack_is_the_margin_evaluation():
    assert rates.robust_accuracy(dict(margin=dict(robust=flags(40)), autoattack=None)) == (40.0, False)


def test_what_autoattack_leaves_counts_only_if_the_other_attacks_leave_it_too():
    """AutoAttack keeps 90 of R's 100 images and 30 that multi-targeted PGD broke: R falls, by ten of 250."""
    mixed = with_autoattack(90)
    mixed["autoattack"]["robust"][200:230] = True
    before, after, index = rates.on_autoattack_images(mixed)
    assert (before.sum(), after.sum(), len(index)) == (100, 90, 250)
    assert rates.robust_accuracy(mixed) == (pytest.approx(36.0), True)


def test_the_two_phase_estimate_stands_beside_r_that_is_not_corrected():
    agreed = with_autoattack(99)
    estimate = rates.after_autoattack(agreed)
    assert rates.robust_accuracy(agreed) == (40.0, False)
    assert (estimate.rate, estimate.n) == (pytest.approx(0.396), 250)
    assert rates.after_autoattack(dict(margin=dict(robust=flags(40)), autoattack=None)) is None


def row(*accuracies, n=1000):
    return {10 + seed: dict(margin=dict(robust=flags(rate, n))) for seed, rate in enumerate(accuracies)}


def test_differences_are_of_seeds_that_both_have_on_as_many_images():
    first, second = row(20, 21, 22), row(18, 18)
    assert rates.differences(first, second) == pytest.approx({10: 2, 11: 3})
    first[11] = row(21, n=500)[10]
    assert rates.differences(first, second) == pytest.approx({10: 2})
    assert rates.points(rates.differences(first, second)) == "+2.0 (1)"
    assert rates.points({}) == "not yet run"


def test_two_phase_differences_are_of_seeds_on_as_many_images_too():
    one, other = {10: with_autoattack(97)}, {10: with_autoattack(90)}
    assert rates.differences_after_autoattack(one, other).keys() == {10}
    other[10]["margin"] = dict(robust=flags(40, 2000))
    assert rates.differences_after_autoattack(one, other) == {}


def test_the_error_over_images_is_that_of_their_mean_difference_over_seeds():
    one, other = seeds(30, 30, n=1000), seeds(20, 20, n=1000)  # a tenth of the images differ, in every seed
    assert rates.error_over_images(one, other, [10, 11]) == pytest.approx(100 * (0.09 / 999) ** 0.5)
    assert rates.error_over_images(one, other, []) is None


def test_a_row_is_shown_over_the_seeds_that_were_measured():
    seeds = row(20, 22) | {12: dict(margin=None)}
    assert rates.text(seeds, rates.ROBUST) == "21.0 ± 1.4 (2)"
    assert rates.text({}, rates.ROBUST) == "not yet run"


@pytest.mark.parametrize(
    "data, loss, took_off",
    [
        ("cifar10", 2.288, False),
        ("cifar10", 2.25, False),
        ("cifar10", 2.2, True),
        ("cifar100", 4.55, False),  # ln 100 = 4.61; twice 2.25 is 4.5
        ("cifar100", 4.45, True),
        ("svhn", 2.23, False),  # its classes are unequal: a constant classifier has 2.236
        ("svhn", 2.15, True),
    ],
)
def test_a_training_took_off_by_the_loss_of_its_last_epoch(data, loss, took_off):
    record = dict(run=dict(data=data), history=[dict(train_loss=2.0), dict(train_loss=loss)])
    assert rates.took_off(record) == took_off
