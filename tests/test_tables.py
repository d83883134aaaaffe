"""Tables, figures and sentences from planted records: what is paired with what, and what is said of it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from study import answer, figures, tables
from study.experiments import CONTROLS, LABELS, ROWS, experiment

TRAINED, RANDOM, LINEAR = LABELS["finetuned"], LABELS["random"], LABELS["linear"]


def evaluation(rate, images=1000, **settings):
    """An evaluation in which the first images are right, `rate` percent of them."""
    flags = np.arange(images) < images * rate / 100
    return dict(robust=flags, clean=flags, settings=dict(epsilon=8, images=images) | settings)


def record(rate, seed=10, **other):
    """A record with R and PGD-20 of `rate` percent."""
    empty = dict.fromkeys(("curve", "checks", "features", "autoattack"))
    both = dict(pgd=evaluation(rate), margin=evaluation(rate))
    return empty | both | dict(run=dict(epochs=5, seed=seed, trainable="bn", epsilon=8.0)) | other


def rows(**found):
    """All rows of the study, those named with R of so many percent for seeds 10, 11, ..."""
    shown = {key: {} for key in ROWS | CONTROLS}
    return shown | {
        key: {10 + i: record(r, 10 + i) for i, r in enumerate(rates)} for key, rates in found.items()
    }


def test_seeds_are_paired_and_a_seed_without_a_partner_is_left_out():
    found = rows(finetuned=[20, 22, 24], random=[18, 19])
    mean, low, high, seeds = tables.seed_difference(found["finetuned"], found["random"])
    assert (mean, seeds) == (pytest.approx(2.5), 2) and low < 2 and high > 3


def test_seeds_measured_on_other_images_are_not_paired():
    found = rows(finetuned=[20, 22], random=[18, 19])
    found["random"][10]["margin"] = evaluation(18, images=500)
    assert tables.seed_difference(found["finetuned"], found["random"])[3] == 1


def test_a_difference_of_one_seed_has_no_interval():
    one = rows(finetuned=[20], random=[18])
    assert tables.points(tables.seed_difference(one["finetuned"], one["random"])) == "+2.0 (1)"
    assert tables.points(None) == "not yet run"


def test_random_subsets_of_two_sizes_are_compared_on_the_images_of_both():
    few = evaluation(0, 3, index=[2, 5, 9]) | dict(robust=np.array([True, False, True]))
    many = evaluation(0, 4, index=[1, 2, 8, 9]) | dict(robust=np.array([False, False, False, True]))
    a, b = tables.on_shared_images(few, many)
    assert (a.tolist(), b.tolist()) == ([True, True], [False, True])
    assert tables.on_shared_images(few, None) == (None, None)


def test_controls_are_shown_against_the_linear_classifier_and_against_bn():
    found = rows(finetuned=[20, 21], random=[18, 18], linear=[17, 17], head=[15, 15])
    table = tables.controls(found, {key: found[key] for key in CONTROLS})
    against_l, against_bn = (next(c for c in table if c.startswith(t)) for t in ("R − R(L)", "R − R(BN"))
    assert table.loc[LABELS["head"], against_l] == "-2.0 [-2.0, -2.0] (2)"
    assert table.loc[RANDOM, against_bn].startswith("-2.5 [") and table.loc[LINEAR, against_l] == ""
    assert table.loc[LABELS["bn_stats"], against_l] == "not yet run"


def test_r_is_compared_with_autoattack_on_autoattack_s_own_images():
    attacked = evaluation(10, 10, index=list(range(995, 1000)) + list(range(5)))
    # on these images R is 0 of the first five and 5 of the last five
    flags = dict.fromkeys(("apgd-ce", "apgd-t", "fab-t", "square"), np.arange(10) == 5)
    row = tables.autoattack(
        {"a": record(20, autoattack=attacked | flags | dict(robust=np.arange(10) == 5))}
    ).loc["a"]
    assert (row["n"], row["R"], row["APGD-T"]) == (10, "50.0", "10.0")
    assert row["R − APGD-T"].startswith("+40.0 [") and row["R − AutoAttack"].startswith("+40.0 [")


def test_the_answer_says_r_of_both_arms_and_their_difference():
    found = rows(finetuned=[20, 22], random=[18, 18], linear=[16, 16])
    said = answer.sentences(found, experiment("pretrain"))
    assert "trained features **21.0 ± 1.4 (2)**, random features **18.0 ± 0.0 (2)**" in said
    assert "**+3.0 [" in said and "linear classifier on the pixels 16.0 ± 0.0 (2)" in said
    assert "not measured yet" not in said


def test_without_r_the_answer_says_that_pgd_decides_nothing():
    found = rows(finetuned=[20], random=[18])
    for key in ("finetuned", "random"):
        found[key][10]["margin"] = None
    said = answer.sentences(found, experiment("pretrain"))
    assert "(PGD-20)" in said and "it decides no claim" in said


def test_the_headline_has_a_mark_for_every_seed_and_for_every_pair():
    found = rows(finetuned=[20, 22, 24], random=[18, 19])
    spent = {LABELS[key]: {5: found[key]} for key in ("finetuned", "random")}
    left, right = figures.headline(spent).axes
    marks = [line for line in left.lines if line.get_marker() == "o"]
    assert sum(line.get_xdata().size for line in marks) == 2 * 5  # R and PGD-20
    assert len(right.containers) == 2 * 2
    plt.close("all")
