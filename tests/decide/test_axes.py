"""What the answer depends on: which records stand on an axis, and what is said of them."""

import planted
import pytest

from study.decide import axes
from study.define.rows import FIRST_STUDY, label
from study.show import sentences, tables

TRAINED, RANDOM = label("finetuned"), label("random")


def record(clean, robust, tuning=True):
    """A record with accuracies in percent, on images kept for tuning unless said otherwise."""
    return planted.record(robust, clean=clean, tuning=tuning)


def test_the_best_rate_is_chosen_by_r_and_not_by_clean_accuracy():
    found = {"finetuned": {0.2: {1: record(60, 18)}, 0.8: {1: record(40, 20)}, 3.2: {1: record(50, 19)}}}
    assert sentences.best(found) == f"- {TRAINED}: 0.8 (R 20.0 % on seed 1)"


def test_rates_are_compared_on_the_seeds_that_all_of_them_have():
    """0.8 is best on seed 1; its other seeds, on which 0.2 did not run, do not speak against it."""
    found = {"random": {0.2: {1: record(50, 15)}, 0.8: {1: record(50, 16), 2: record(50, 2)}}}
    said = sentences.best(found)
    assert said.startswith(f"- {RANDOM}: 0.8 (R 16.0 % on seed 1,")
    assert "all of its seeds 9.0 ± 9.9 (2), ahead of 0.2 by +1.0 (1))" in said
    found["random"][3.2] = {2: record(50, 30)}
    assert sentences.best(found) == f"- {RANDOM}: no seed has every rate"


@pytest.mark.parametrize("lr, said", [(0.2, "the lowest"), (0.8, ""), (3.2, "the highest")])
def test_a_best_rate_at_an_edge_is_said_to_be_one(lr, said):
    found = {"finetuned": {x: {1: record(50, 20 if x == lr else 10)} for x in (0.2, 0.8, 3.2)}}
    note = f", {said} rate with a result" if said else ""
    assert sentences.best(found) == f"- {TRAINED}: {lr:g} (R 20.0 % on seed 1{note})"


def test_a_rate_that_was_not_judged_is_not_chosen():
    untested = record(50, 20) | {"tuning_margin": None}
    found = {"random": {0.2: {1: record(50, 10)}, 0.8: {1: untested}}}
    assert sentences.best(found).startswith(f"- {RANDOM}: 0.2")
    assert sentences.best({}) == "Not yet run."


def test_an_axis_shows_every_seed_and_what_was_not_measured():
    found = {"finetuned": {5: {10: record(40, 20, tuning=False), 11: record(50, 22, tuning=False)}}}
    row = tables.axis(found, "epochs").loc[f"{TRAINED}, epochs 5"]
    assert (row["clean"], row["R"], row["images"]) == ("45.0 ± 7.1 (2)", "21.0 ± 1.4 (2)", "1,000")
    row = tables.axis(found, "epochs", axes.TUNING).iloc[0]
    assert row["R"] == "not measured"
    assert list(tables.axis({}, "epochs").index) == ["not yet run"]


def test_tuning_runs_saw_none_of_the_images_that_judge_them():
    found = axes.tuning(profile="cpu")
    assert {"finetuned", "random"} <= found.keys()
    for points in found.values():
        for seeds in points.values():
            assert seeds and set(seeds) <= {1, 2, 3}, "the seeds that count for nothing else"
            for record in seeds.values():
                # of 50,000 the first 45,000 are trained on, the last 5,000 judge
                assert record["run"]["train_images"] == 45000
                assert record["tuning_pgd"]["settings"]["images"] <= 5000
                settings = [evaluation["settings"] for evaluation in record["evaluations"].values()]
                assert all(s.get("split") == "tuning" for s in settings), "judged on test images"


def test_the_linear_classifier_has_its_tuned_rate_at_each_radius():
    """The rate that is best on images kept for tuning is the one of the run that the axis shows."""
    tuned = axes.radius_tuning(profile="cpu")
    assert list(tuned) == [("linear", "ε = 2/255"), ("linear", "ε = 4/255")]
    shown = axes.radius(profile="cpu")["linear"]
    assert list(shown) == list(axes.RADII), "in order"
    for eps, points in zip((2, 4), tuned.values(), strict=True):
        best = max(points, key=lambda lr: points[lr][1]["tuning_margin"]["robust"].mean())
        assert {seeds[1]["run"]["epsilon"] for seeds in points.values()} == {eps}
        assert {record["run"]["lr"] for record in shown[eps].values()} == {best}
    assert {record["run"]["lr"] for record in shown[8].values()} == {0.0003}


def test_the_first_study_is_a_point_of_the_budget_curve():
    found = axes.budget(profile="cpu")
    trained, random = (found[key, "first study"][3] for key in ("finetuned", "random"))
    assert sorted(trained) == sorted(random) == [0, 1, 2]
    assert random[0]["run"]["lr"] == FIRST_STUDY["random"]["lr"]


def test_capacity_is_counted_in_gamma_and_beta():
    bn = {"bn1": dict(gamma=[1.0] * 4, beta=[0.0] * 4), "bn2": dict(gamma=[1.0] * 8, beta=[0.0] * 8)}
    assert axes.bn_parameters(dict(bn=bn)) == 24


def test_other_rates_are_compared_on_the_seeds_that_each_has():
    points = axes.other_rates(profile="cpu")["random"]
    assert {0.8, 3.2} <= points.keys() and len({tuple(seeds) for seeds in points.values()}) == 1
    assert axes.on_shared_seeds({1: {3: "a", 4: "b"}, 2: {4: "c"}}) == {1: {4: "b"}, 2: {4: "c"}}


def test_the_rates_of_affine_parameters_hold_the_study_s_own():
    found = axes.affine_rates(profile="cpu")
    assert {"affine_bn", "affine_group", "affine_weight"} <= found.keys()
    assert all(10 in points[0.2] for points in found.values())


def test_another_network_s_axes_hold_its_own_runs_alone():
    assert list(axes.other_rates(profile="cpu")) == ["random"], "trained features ran at one rate"
    assert axes.other_rates(profile="cpu", arch="resnet56") == {}
