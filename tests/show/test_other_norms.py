"""What 07 says of other normalisations, from planted records."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from planted import evaluation, flags, record, small

from study.show import insights, other_norms


def test_the_fragility_table_says_what_was_not_run():
    measured = record(small=small(10, 40, 10), norms=None, losses=(0.5, 0.25))
    unmeasured = {10: record(small=None)}
    rows = {"norm_batch": {10: measured, 11: measured}, "norm_none": {}, "norm_group": unmeasured}
    table = other_norms.fragility_table(rows)
    group = table["group"]
    assert group["clean %"] == "not yet measured" and group["R % at 0.5/255"] == "–"
    assert table.index.name == "10 random test images, mean ± sd (seeds)"
    assert table.loc["clean %", "batch"] == "40.0 ± 0.0 (2)"
    assert table.loc["R % at 0.5/255", "batch"] == "10.0 ± 0.0 (2)"
    assert table.loc["of those right, % at 0.5/255", "batch"] == "25.0 ± 0.0 (2)"
    assert table.loc["training loss, last epoch", "batch"] == "0.25 ± 0.00 (2)"
    assert table.columns.tolist() == ["batch", "group"]
    assert other_norms.fragility_table({"norm_none": {}}).columns.tolist() == ["not yet run"]


def test_seeds_measured_on_fewer_images_are_left_out_of_the_fragility_table():
    few, many = record(small=small(10, 40, 10)), record(small=small(20, 80, 20))
    rows = {"norm_none": {10: few}, "norm_batch": {10: many}, "standard": {10: many, 11: few}}
    table = other_norms.fragility_table(rows)
    assert table.index.name == "20 random test images, mean ± sd (seeds)"
    assert table["batch, the study's rate"]["clean %"] == "80.0 (1)"
    assert table["none"]["clean %"] == "on fewer images"
    assert table.index[0] == "training loss, last epoch"


def test_the_tuning_runs_are_shown_at_the_small_radius_by_rate():
    end = dict(held_out_small=0.3, held_out_clean=0.8)
    found = dict(run=dict(data="cifar10"), history=[dict(held_out_small=0.9, held_out_clean=0.9), end])
    table = other_norms.small_by_rate(
        {"norm_batch": {0.1: {1: found}, 0.2: {1: found}}, "norm_none": {0.1: {1: found}}}
    )
    assert table.loc["BN", "learning rate 0.2"] == "30.0 (clean 80.0)"
    assert table.loc["no normalisation", "learning rate 0.2"] == "no result"
    assert table.index.name == "PGD-10 % at ε/8, seed 1, 1,000 held-out images"


def test_how_far_rates_move_the_small_radius_is_said_beside_how_far_bn_is_from_none():
    def run(small):
        return {1: dict(run=dict(data="cifar10"), history=[dict(held_out_small=small, held_out_clean=0.8)])}

    tuned = {"norm_batch": {0.1: run(0.3), 0.2: run(0.32)}, "norm_none": {0.1: run(0.45), 0.05: run(0.4)}}
    said = other_norms.said_of_small_by_rate(tuned)
    assert said.startswith("Over its rates a normalisation moves by 2.0 to 5.0 points; ")
    assert "less BN at one rate: +15.0 at 0.1, at clean" in said
    assert other_norms.said_of_small_by_rate({"norm_batch": tuned["norm_batch"]}) == ""


def test_ligs_of_bn_is_said_beside_each_other_at_both_of_its_rates():
    def smooth(*means):
        return {seed: record(norms=dict(ligs=np.full(5, mean))) for seed, mean in enumerate(means, 10)}

    rows = {"norm_batch": smooth(0.6, 0.62), "standard": smooth(0.7), "norm_none": smooth(0.8, 0.82, 0.9)}
    rows["norm_group"] = {10: record(norms=None)}
    assert other_norms.said_of_ligs(rows) == (
        "LIGS of BN less theirs [95 %] (seeds):\n\n- batch: no normalisation -0.200 [-0.200, -0.200] (2)\n"
        "- batch, the study's rate: no normalisation -0.100 (1)\n\n"
        "Of one sign at both of BN's rates, without 0 in either interval: none."
    )
    said = other_norms.said_of_ligs(rows | {"standard": smooth(0.7, 0.7)})
    assert said.endswith("without 0 in either interval: none."), "-0.1 and -0.12 of two seeds: too wide"
    said = other_norms.said_of_ligs(rows | {"standard": smooth(0.7, 0.72)})
    assert said.endswith("without 0 in either interval: no normalisation.")
    assert other_norms.said_of_ligs({"norm_batch": smooth(0.6)}) == ""


def test_autoattack_at_a_small_radius_is_compared_on_the_images_that_both_saw():
    rows = {"norm_none": {10: record(small=small(100, 90, 50, radius="1"))}, "norm_group": {10: record()}}
    seen = evaluation(0, 4, epsilon=1, index=[0, 40, 60, 70]) | dict(
        robust=np.array([True, False, True, False])
    )
    attacked = {"norm_none": {10: record(autoattack=seen), 11: record(autoattack=seen)}}
    attacked["norm_group"] = {10: record(autoattack=seen)}
    table = other_norms.under_autoattack(other_norms.seen_by_both(attacked, rows))
    assert table.index.tolist() == ["none, seed 10"]
    radius, robust, after, lost = table.iloc[0]
    assert robust.startswith("50.0 [") and after.startswith("25.0 [") and radius == "1/255"
    assert after.endswith("(4)") and lost.startswith("25.0 [")
    # the first of AutoAttack's images is 40, the last not shared
    seen["settings"]["index"] = [40, 0, 60, 170]
    outcomes = other_norms.seen_by_both({"norm_none": attacked["norm_none"]}, rows)
    _, robust, after, _ = other_norms.under_autoattack(outcomes).iloc[0]
    assert robust.startswith("66.7 [") and after.startswith("33.3 [") and after.endswith("(3)")
    assert other_norms.under_autoattack({}).index.tolist() == ["not yet run"]


@pytest.mark.parametrize("second, order", [(10, "the same order"), (30, "the same"), (45, "another order")])
def test_autoattack_puts_the_networks_in_an_order(second, order):
    """a has R 50 and 30 under AutoAttack; b has R 45 and `second`. A tie swaps nothing."""
    outcomes = {"a": (flags(50, 100), flags(30, 100), 1), "b": (flags(45, 100), flags(second, 100), 1)}
    said = other_norms.said_of_autoattack(outcomes)
    assert f"stay in {order}" in said and "C7's is not corrected" in said
    assert f"breaks 20 of 100, {45 - second} of 100 that" in said
    assert f"moves by at most {abs(20 - (45 - second)):.1f} points" in said
    assert other_norms.said_of_autoattack({"a": outcomes["a"]}) == ""


def test_the_figure_of_fragility_has_a_mark_a_seed_and_a_dot_an_epoch():
    measured = {"0": np.arange(10) < 8, "1": np.arange(10) < 4, "settings": dict(images=10, radii=[1])}
    epochs = [dict(epoch=e, held_out_clean=e / 10, held_out_small=0.1) for e in (1, 2)]
    found = dict(small=measured, history=epochs, run=dict(data="cifar10"))
    figure = insights.fragility({"norm_batch": {10: found, 11: found}, "norm_none": {}})
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines] == [[], [80, 40], [80, 40]]  # legend, seeds
    assert [list(line.get_xdata()) for line in right.lines] == [[10, 20], [20]] * 2
    assert right.get_title() == "1,000 held-out images, by epoch"
    assert figure.legends[0].get_texts()[0].get_text() == "BN (2; 2)"
    plt.close("all")


def test_bn_is_compared_with_each_other_seed_by_seed_near_the_clean_accuracy_that_both_reach():
    def trained(*epochs):
        steps = enumerate(epochs, 1)
        history = [dict(epoch=e, held_out_clean=c, held_out_small=s, train_loss=1 - c) for e, (c, s) in steps]
        return dict(run=dict(data="cifar10"), history=history)

    # of before it was measured
    old = dict(run=dict(data="cifar10"), history=[dict(epoch=1, held_out_clean=0.95)])
    batch = trained((0.5, 0.3), (0.72, 0.2), (0.9, 0.1))
    rows = {
        "norm_batch": {9: old, 10: batch, 11: batch},
        "norm_none": {10: trained((0.4, 0.3), (0.7, 0.4)), 11: trained((0.91, 0.5)), 12: trained((0.3, 0.3))},
        "norm_group": {},
    }
    table = other_norms.at_equal_accuracy(rows)
    assert table.index.name == "1,000 held-out images"
    assert table.index.tolist() == ["Standard training, no normalisation"]
    row = table.iloc[0]
    assert row["near %"] == "70/90"
    assert row["BN: after epoch"] == "2/3" and row["BN: PGD-10 % at ε/8"].startswith("15.0 ± ")
    assert row["it: after epoch"] == "2/1" and row["it: PGD-10 % at ε/8"].startswith("45.0 ± ")
    by_loss = other_norms.meetings(rows, "train_loss")  # here 1 less the accuracy, so the same epochs
    assert other_norms.ahead(by_loss["norm_none"]) == other_norms.ahead(
        other_norms.meetings(rows)["norm_none"]
    )
    assert [round(common, 2) for common, _, _ in by_loss["norm_none"].values()] == [0.3, 0.1]
    said = other_norms.said_of_equal_accuracy(rows)
    assert said.startswith(
        "PGD-10 accuracy at ε/8, BN less it, points [95 %] (seeds): no normalisation -30.0 ["
    )
    only = {"norm_batch": rows["norm_batch"], "norm_none": {9: old}}
    assert other_norms.at_equal_accuracy(only).index.tolist() == ["not yet run"]
    assert other_norms.said_of_equal_accuracy(only) == "Not yet run."
