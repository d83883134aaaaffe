"""Tables, figures and sentences from planted records: what is paired with what, and what is said of it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from planted import evaluation, record, seeds

from study.decide import axes, claims, select, trust
from study.define.experiment import experiment
from study.define.rows import CONTROLS, ROWS, label
from study.run import records
from study.show import (
    answer,
    claim_tables,
    figures,
    insights,
    sentences,
    tables,
    trust_sentences,
    trust_tables,
)

TRAINED, RANDOM, LINEAR = label("finetuned"), label("random"), label("linear")


def rows(**found):
    """All rows of the study, those named with R of so many percent for seeds 10, 11, ..."""
    return {key: {} for key in ROWS | CONTROLS} | {key: seeds(*rates) for key, rates in found.items()}


def test_random_subsets_of_two_sizes_are_compared_on_the_images_of_both():
    even, every = list(range(0, 100, 2)), list(range(10, 90))
    few = evaluation(0, 50, index=even) | dict(robust=np.array(even) < 50)
    many = evaluation(0, 80, index=every) | dict(robust=np.array(every) < 30)
    found = {key: {10: record(20) | dict(autoattack=e)} for key, e in (("finetuned", few), ("random", many))}
    table = tables.pairs(found | dict(standard={}, at={}, bn_clean={}))
    pair = table.loc[f"{TRAINED} − {RANDOM}, seed 10"]
    assert pair["AutoAttack: n"] == 40 and pair["AutoAttack: difference (points)"].startswith("+25.0 [")
    found["random"][10]["autoattack"] = evaluation(0, 10, index=list(range(90, 100)))
    found["finetuned"][10]["autoattack"] = few | dict(settings=few["settings"] | dict(index=list(range(50))))
    pair = tables.pairs(found | dict(standard={}, at={}, bn_clean={})).iloc[0]
    assert pair["AutoAttack: difference (points)"] == "not yet run"


def test_a_part_of_autoattack_that_did_not_run_is_no_column():
    parts = {"apgd-ce": np.array([True, True]), "square": np.array([True, False])}
    flags = parts["square"]
    attacked = parts | dict(robust=flags, settings=dict(images=2, index=[0, 1]))
    found = {"of three classes": record(50) | dict(autoattack=attacked)}
    shown = trust_tables.autoattack(found)
    assert "APGD-T" not in shown.columns and shown["Square"].item() == "50.0"
    assert shown["R − APGD-T"].item() == "not yet run"
    said = trust_sentences.parts(found)
    assert "in 1 of 1 networks. Of the 1 that" in said and "in 1; R is lowered for it in 0, where" in said
    assert "none of 2, R may still be up to 84.2 points too high (95 %)" in said  # 1 - 0.025 ** (1 / 2)


def test_autoattack_of_a_row_is_the_mean_over_its_seeds_and_counts_what_it_alone_breaks():
    def attacked(clean, survivors):
        left = np.arange(100) < survivors
        flags = {"apgd-ce": left, "square": left, "robust": left}
        settings = dict(images=100, index=list(range(100)))
        return record(clean, n=100, autoattack=flags | dict(settings=settings))

    found = {"at": {10: attacked(30, 28), 11: attacked(20, 20)}, "linear": {10: record(20)}}
    table = trust_tables.autoattack_by_row(found)
    assert table.index.tolist() == [f"{label('at')} (2)"]
    assert table.R.item() == "25.0" and table.Square.item() == "24.0"
    assert table["AutoAttack alone breaks"].item() == "2 of 50", "of the images on which R is right"


def test_autoattack_of_what_did_not_take_off_is_a_row_of_its_own():
    left = np.arange(100) < 20
    attack = {"apgd-ce": left, "square": left, "robust": left}
    attack["settings"] = dict(images=100, index=list(range(100)))
    started, stayed = (record(rate, 100, losses=(loss,)) for rate, loss in ((20, 2.1), (10, 2.3)))
    seeds = {10: stayed | dict(autoattack=attack), 11: started | dict(autoattack=attack)}
    table = trust_tables.autoattack_by_row({"random": seeds})
    assert table.index.tolist() == [f"{RANDOM}, took off (1)", f"{RANDOM}, did not (1)"]
    assert table.R.tolist() == ["20.0", "10.0"]


def test_r_of_the_linear_classifier_stands_beside_its_worst_case():
    known = dict(worst_case=dict(robust=np.arange(1000) < 198))
    found = {"linear": {10: record(20, **known), 11: record(19, **known)}, "at": {10: record(30)}}
    table = trust_tables.against_worst_case(found)
    assert table.index.tolist() == [LINEAR] and table.images.item() == "1,000"
    assert table.iloc[0, 1:].tolist() == ["19.50 ± 0.71 (2)", "19.80 ± 0.00 (2)", "2 of 390"]


def test_it_is_said_how_often_autoattack_lowers_r():
    left = np.arange(100) < 20
    attacked = {"apgd-ce": left, "square": left, "robust": left}
    attacked["settings"] = dict(images=100, index=list(range(100)))
    found = {"fooled": record(50, n=100) | dict(autoattack=attacked)}
    said = trust_sentences.parts(found)
    assert "Of the 1 that were" in said and "right in 1; R is lowered for it in 1, where" in said


def test_controls_are_shown_against_the_linear_classifier_and_against_bn():
    found = rows(finetuned=[20, 21], random=[18, 18], linear=[17, 17], head=[15, 15])
    table = tables.controls(found, {key: found[key] for key in CONTROLS})
    against_l, against_bn = (next(c for c in table if c.startswith(t)) for t in ("R − R(L)", "R − R(BN"))
    assert table.loc[label("head"), against_l] == "-2.0 [-2.0, -2.0] (2)"
    assert table.loc[RANDOM, against_bn].startswith("-2.5 [") and table.loc[LINEAR, against_l] == ""
    assert label("bn_stats") not in table.index
    assert sentences.not_run({key: found[key] for key in ("head", "bn_stats")}) == (
        f"Not yet run: {label('bn_stats')}."
    )


def test_r_is_compared_with_autoattack_on_autoattack_s_own_images():
    attacked = evaluation(10, 10, index=list(range(995, 1000)) + list(range(5)))
    # on these images R is 0 of the first five and 5 of the last five
    flags = dict.fromkeys(("apgd-ce", "apgd-t", "fab-t", "square"), np.arange(10) == 5)
    row = trust_tables.autoattack(
        {"a": record(20, autoattack=attacked | flags | dict(robust=np.arange(10) == 5))}
    ).loc["a"]
    assert (row["n"], row["R"], row["APGD-T"]) == (10, "50.0", "10.0")
    assert row["R − APGD-T"].startswith("+40.0 [") and row["R − AutoAttack"].startswith("+40.0 [")


STAYED = dict(history=[dict(train_loss=2.29)])


def test_the_answer_says_the_difference_at_every_epsilon_where_two_have_run():
    found = rows(finetuned=[20, 22], random=[18, 18], linear=[16, 16])
    at_8 = {key: {8: found[key]} for key in ("finetuned", "random", "linear")}
    assert "at other ε" not in answer.listed(found, experiment("pretrain"), at_8)
    at_2 = rows(finetuned=[50, 52], random=[28, 28], linear=[27, 27])
    radii = {key: {2: at_2[key], **points} for key, points in at_8.items()}
    said = answer.listed(found, experiment("pretrain"), radii)
    assert (
        "ε = 2/255 +23.0 [+10.3, +35.7] (2); ε = 8/255 +3.0 [-9.7, +15.7] (2). Random features less L" in said
    )
    assert "2/255 +1.0 [+1.0, +1.0] (2); 8/255 +2.0 [+2.0, +2.0] (2)." in said


def test_the_answer_says_r_of_both_arms_and_their_difference():
    found = rows(finetuned=[20, 22], random=[18, 18], linear=[16, 16], linear_long=[17, 17])
    said = answer.listed(found, experiment("pretrain"))
    short = said.split("What it rests on")[0]
    assert (
        "resnet20, cifar10, 5 adversarial epochs; R: % of the test images that are right under PGD-20 and"
        in short
    )
    assert short.startswith("The paper finds that BN-only AT can give trained features *non-trivial* robust")
    assert "the first (C4) is undecided, interim: 2 of 3 seeds, the second (C5) " in short
    assert (
        "(R) of not yet run to **21.0 ± 1.4 (2)**, random features to **18.0 ± 0.0 (2)**; AT of all" in short
    )
    assert "- **Trained − random: +3.0 [" in short
    assert "above 0 in 2 of 2 seeds (p = 0.500 by the sign-flip test, chosen when seed 10 was known)" in short
    assert "That it is the features is not shown (C6, C6s)." in short and "classifier 10.0.\n" in short
    assert "L 16.0 ± 0.0 (2), trained − L +5.0 [" in short and "(P) not yet run, trained − P not yet" in short
    assert "**Random features less L**: +2.0 [+2.0, +2.0] (2). That this is no meaningful robust" in said
    assert "L after 30 epochs 17.0 ± 0.0 (2), trained − that +4.0 [" in said
    assert "; P after 30 epochs not yet run." in said and "not measured yet" not in said


def test_the_answer_says_which_test_decides_and_what_is_to_be_said_against_it():
    few = answer.listed(rows(finetuned=[20, 22], random=[18, 18]), experiment("pretrain"))
    assert "2 differences, p = 0.500" in few and "it would be undecided" not in few
    gap = rows(finetuned=[20.1, 20.2, 20.3, 20.1, 20.2, 30], random=[18] * 6)
    said = answer.listed(gap, experiment("pretrain"))
    assert "6 differences, p = 0.031, the least that 6 can give; by their t-interval it would be und" in said
    assert "when seed 10 was known; the other 5 alone give p = 0.062, the least that 5 can give." in said
    gap["perceptron"] = seeds(20.0, 20.1, 20.2, 20.0, 20.1, 29.9)
    said = answer.listed(gap, experiment("pretrain"))
    assert "+0.1 [+0.1, +0.1] (6), equivalent within 2 points; a constant" in said
    assert "chosen when seed 10 was known; undecided by the t-interval)" in said


def test_the_answer_says_where_the_test_images_might_turn_the_sign_that_decides():
    """The first difference is one image of a thousand, in favour; its standard error is as large."""
    close, far = rows(finetuned=[18.1] + [20] * 5, random=[18] * 6), rows(finetuned=[20] * 6, random=[18] * 6)
    said = answer.listed(close, experiment("pretrain"))
    assert (
        "It needs every seed, and seed 10 has +0.1 with a standard error over the images of 0.1: on" in said
    )
    assert "It needs every seed" not in answer.listed(far, experiment("pretrain"))


def test_the_answer_says_how_many_trainings_of_random_features_took_off():
    found = rows(finetuned=[20, 22, 21], random=[10, 18, 18])
    found["random"][10] |= STAYED
    said = answer.listed(found, experiment("pretrain"))
    assert (
        "**18.0 ± 0.0 (2)** where the training took off (2 of 3), 10.0 (1) where not, 15.3 ± 4.6 (3) in all"
        in said
    )
    assert "**Random features less L**: not yet run; those that took off not yet run. That this is" in said
    assert "(+3.0 to +4.0 where random features took off, +10.0 where not)" in said
    assert "**2 of 3** trainings of random features took off (67 % [9, 99])" in said
    assert "Trained − those +3.5 [" in said


def test_the_answer_says_what_two_stages_change():
    found = rows(finetuned=[20, 22], random=[10, 18], two_stages=[19, 19])
    said = answer.listed(found, experiment("pretrain"))
    assert "random features reach **19.0 ± 0.0 (2)**; trained − these +2.0 [" in said
    said = answer.listed(rows(finetuned=[20], random=[18]), experiment("pretrain"))
    assert "clean and then adversarial: not yet run" in said


@pytest.mark.parametrize(
    "random, two_stages, said",
    [
        ([18] * 6, [18] * 3, "which by the rule reads *it is the features*"),
        ([18] * 6, [22] * 3, "**Trained features let BN-only AT start** (C6)"),
        (
            [18] * 6,
            [18] * 2,
            "random features with the same two stages, is confirmed (size undecided), interim: 2 of 3",
        ),
        ([22] * 6, [18] * 3, "That it is the features is not shown: C6 is contradicted, C6s confirmed"),
        ([18] * 5, [18] * 3, "C6 is undecided, interim: 5 of 6 seeds"),
    ],
)
def test_it_is_the_features_only_if_both_claims_say_so(random, two_stages, said):
    found = rows(finetuned=[21, 20.8, 21.2, 21, 21, 21], random=random, two_stages=two_stages)
    assert said in answer.listed(found, experiment("pretrain"))


def test_without_both_arms_the_answer_is_not_yet_run():
    said = answer.listed(rows(finetuned=[20]), experiment("pretrain"))
    assert said.startswith("**BN-only AT of trained features against random ones: not yet run.** resnet20, ")


def test_one_seed_is_said_to_be_inconclusive():
    said = answer.listed(rows(finetuned=[20], random=[18]), experiment("pretrain"))
    assert "**Trained − random: +2.0 (1)**: one seed is inconclusive. " in said


def test_without_r_the_answer_says_that_pgd_decides_nothing():
    found = rows(finetuned=[20], random=[18])
    for key in ("finetuned", "random"):
        found[key][10]["margin"] = None
    said = answer.listed(found, experiment("pretrain"))
    assert "(PGD-20)" in said and "it decides no claim" in said


def test_the_random_features_that_are_looked_into_took_off():
    found = rows(finetuned=[20, 22], random=[10, 18, 17])
    found["random"][10] |= STAYED
    assert sentences.said_of_representative(select.representative(found), found).endswith("is not yet run.")
    found["random"][12] |= dict(features=evaluation(0))
    first = select.representative(found)
    assert (first["finetuned"]["run"]["seed"], first["random"]["run"]["seed"]) == (10, 12)
    said = sentences.said_of_representative(first, found)
    assert f"that of seed 10, but for {RANDOM}, seed 12, the first that took off and was looked into" in said
    assert " (R 17.0 %; 17.0 to 18.0 % in the 2 that did). Rows of different seeds" in said
    assert select.stayed_inside(found) == {}, "seed 10 stayed, but was not looked into"
    found["random"][10] |= dict(features=evaluation(0))
    assert list(select.stayed_inside(found)) == [("random", 10)]
    found = rows(finetuned=[20], random=[10])
    found["random"][10] |= STAYED
    first = select.representative(found)
    assert first["random"]["run"]["seed"] == 10
    assert "did not take off" in sentences.said_of_representative(first, found)


def test_r_in_the_main_table_is_corrected_by_autoattack_as_in_the_claims():
    found = rows(at=[40, 40])
    index = list(range(0, 1000, 4))
    attacked = dict(robust=np.arange(250) < 90, settings=dict(epsilon=8, images=250, index=index))
    for seed in (10, 11):
        found["at"][seed]["autoattack"] = attacked
    table = tables.main(found).loc[label("at")]
    assert (
        table["R % (1,000 images)"] == "36.0 ± 0.0 (2)"
        and table["PGD-20 % (1,000 images)"] == "40.0 ± 0.0 (2)"
    )
    assert table["R and AutoAttack, two-phase % (random 250 images)"] == "36.0 ± 0.0 (2)"


def test_a_claim_s_verdict_says_its_size_and_that_seeds_are_missing(monkeypatch):
    found = rows(finetuned=[24, 24.2], linear=[16, 16], at=[30])
    decided = claims.decide(found, "cpu")
    table = claim_tables.claims(decided)
    assert table.loc["C4", "verdict"] == "confirmed (meaningful), interim: 2 of 3 seeds"
    monkeypatch.setattr(records, "keep", lambda exp, files: None)
    html = claim_tables.save(decided, None, "claims").data
    tinted = html[: html.index("</style>")]
    c4 = list(table.index).index("C4")
    assert f"#T_claims_row{c4}_col3" in tinted.split(tables.tint("confirmed"))[0], "a verdict has its colour"
    assert table.loc["C2", "verdict"] == "not yet run: too few seeds"
    assert (table.loc["C2", "points [95 %]"], table.loc["C6b", "verdict"]) == ("–", "not yet run")
    assert (table.loc["C4", "seeds"], table.loc["C2", "seeds"]) == ("2 (10, 11)", "1 (10)")


def test_the_headline_has_a_mark_for_every_seed_and_for_every_pair():
    found = rows(finetuned=[20, 22, 24], random=[10, 19], linear=[16, 16])
    found["random"][10] |= STAYED
    left, right = figures.headline(found, claims.decide(found, "cpu"), 0.1).axes
    assert sum(len(marks.get_offsets()) for marks in left.collections) == 7
    hollow = [marks for marks in left.collections if 0 in marks.get_facecolors()[:, 3]]
    assert len(hollow) == 1 and sorted(hollow[0].get_facecolors()[:, 3]) == [0, 1]
    shown = {
        tick.get_text().split("(")[1][:2]: len(marks.get_offsets())
        for tick, marks in zip(right.get_yticklabels(), right.collections[::2], strict=False)
    }
    assert shown.keys() == {"C4", "C5", "C6"}
    hollow = [marks for marks in right.collections if 0 in marks.get_facecolors()[:, 3]]
    assert len(hollow) == 2, "of C5 and of C6, which rest on a training that did not take off"
    found["perceptron"] = seeds(19, 20)
    beside = figures.pairs(found, claims.decide(found, "cpu"))
    assert next(iter(beside.items())) == ("trained − P\n(2 seeds)", ({10: 1.0, 11: 2.0}, None))
    assert any(name.endswith("(C6, 2 seeds, sign-flip\np = 0.500)") for name in beside)
    plt.close("all")


def test_claims_whose_rows_have_not_run_share_a_line():
    said = claim_tables.open_questions(claims.decide(rows(finetuned=[24, 24.2]), "cpu")).splitlines()
    assert len(said) == 1 and f'**C4** "{LINEAR}"; **C5** "{RANDOM}" and "{LINEAR}"; ' in said[0]
    said = claim_tables.open_questions(claims.decide(rows(finetuned=[24, 19], linear=[16, 22]), "cpu"))
    assert said.startswith("- **C4** (undecided): the planned seed 12 of ")


def checked(*verdicts):
    """A table of `trust` with these verdicts."""
    table = pd.DataFrame({"measured": "1.0 → 0.5", "verdict": verdicts, "expected": "falls", "n": 100})
    return table.set_axis([f"check {number}" for number in range(len(verdicts))])


def test_the_checks_are_a_grid_of_marks_with_the_numbers_beside():
    of = {"finetuned": checked("as expected", "suspect"), "random": checked("as expected", "not yet run")}
    grid, numbers = trust_tables.grid(of), trust_tables.numbers(of)
    assert grid[TRAINED].tolist() == ["✓", "✗"] and grid[RANDOM].tolist() == ["✓", "–"]
    assert numbers[TRAINED].tolist() == ["1.0 → 0.5 ✓", "1.0 → 0.5 ✗"]


def test_a_network_on_which_few_checks_were_run_is_a_line_below_the_grid():
    few = checked("as expected", "not yet run", "not yet run")
    of = {"finetuned": checked(*["as expected"] * 3), "linear": few, "random": few}
    assert list(trust_tables.grid(of).columns) == ["expected", "n", TRAINED]
    assert trust_tables.grid({"linear": few}).expected.tolist() == ["falls"] * 3
    said = "no sign of gradient masking in the 1 of 3 checks that were run"
    said += ", which excludes nothing of the other 2"
    assert trust_sentences.left_out(of) == f"- {LINEAR}; {RANDOM}: {said}."
    assert {LINEAR, RANDOM} < set(trust_tables.numbers(of).columns)


def test_a_check_that_no_network_of_the_grid_had_is_no_row_of_it():
    few, none = checked("as expected", "too few images"), checked("as expected", "not yet run")
    of = {"finetuned": few, "random": none}
    assert trust_tables.grid(of).index.tolist() == ["check 0"] and len(trust_tables.numbers(of)) == 2


def test_suspect_networks_are_counted_and_named():
    passed, bad = checked("as expected", "not yet run"), checked("suspect", "as expected")
    bad["difference"] = "-4.5 [-7.5, -1.4]"
    few, flat = checked("as expected", *["not yet run"] * 2), checked("constant", "constant")
    of = {("at", 10): passed, ("random", 11): bad, ("random", 12): passed, ("linear", 10): few}
    said = trust_sentences.suspects(of | {("random", 10): flat})
    counted = "1 of the 3 networks on which most checks were run (few were run on 1 more)."
    every = "suspect in some check, transfer, constant classifiers and networks that PGD breaks apart:"
    assert said.startswith(f"Of every seed, {every} {counted}\n\n")
    suspect = f"{RANDOM} (seed 11): suspect in check 0 (-4.5 [-7.5, -1.4])."
    assert f"\n- {suspect}\n" in said and said.count("\n- ") == 2
    assert "(seed 10): a constant classifier" in said


def test_networks_that_pgd_breaks_are_no_evidence_of_honest_gradients():
    of = {("standard", 10): checked("broken", "broken"), ("at", 10): checked("as expected", "as expected")}
    said = trust_sentences.suspects(of)
    assert said.endswith(" apart: 0 of the 1 networks on which most checks were run.\n\n")
    assert trust_tables.grid({"standard": of[("standard", 10)]})[label("standard")].tolist() == ["·", "·"]
    assert "no robustness could be false" in trust_sentences.finding(of[("standard", 10)])


def test_square_is_held_against_r_on_the_images_of_both():
    checks = dict(square=np.arange(50) < 12, settings=dict(images=50))
    found = record(20, n=100, clean=50, checks=checks)  # R is right on the first 20
    broken = record(0, n=100, clean=50, checks=checks)
    assert trust_sentences.against_square({"a": found, "b": broken, "c": record(20)}) == (
        "Square alone, without gradients, breaks 8 of the 20 images on which R is right, all 1 networks' "
        "that it ran on together, and leaves 0 on which R is wrong."
    )
    assert trust_sentences.against_square({"c": record(20)}) == ""


def test_examples_of_other_networks_are_shown_beside_one_s_own():
    right = {"at": {"at": np.array([True, False]), "random": np.array([True, True])}, "random": {}}
    matrix = trust_tables.transferred(right)
    assert matrix.loc[label("at"), label("random")] == 100 and matrix.loc[label("at"), label("at")] == 50
    assert matrix.loc[label("random")].isna().all()
    assert [flags.tolist() for flags in trust.from_others(right)["random"]] == [[True, True]]


def test_a_run_made_to_choose_a_rate_shows_what_it_was_judged_on():
    tuning = dict(pgd=None, margin=None, tuning_pgd=evaluation(30), tuning_margin=evaluation(20))
    table = tables.results({"one": record(0, **tuning)}).loc["one"]
    assert table["judged on"] == "images kept for tuning" and table["R % (n)"].startswith("20.0 [")
    assert table["AutoAttack % (n)"] == "–"


def test_trainings_of_two_lengths_have_columns_of_their_own():
    networks = {}
    for key, epochs in (("at", 5), ("standard", 15), ("random", 5)):
        history = [dict(epoch=e + 1, held_out_clean=0.5, held_out_robust=0.2) for e in range(epochs)]
        networks[key] = record(20) | dict(history=history)
    axes_ = figures.curves(networks).axes
    shown = {
        axis: [line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == "-"] for axis in axes_
    }
    assert sorted(shown.values()) == [[], [20], [20, 20], [50], [50, 50]], "clean above, PGD-10 below"
    assert {axis.get_title() for axis in axes_} >= {"5 epochs", "15 epochs"}
    marks = {len(line.get_xdata()): line.get_marker() for axis in axes_ for line in axis.lines}
    assert marks[5] == "o" and marks[15] == "", "fifteen marks a line are a cloud"
    plt.close("all")


def test_an_axis_shows_no_panel_for_what_was_not_measured():
    points = {"finetuned": {1: {10: record(20)}, 5: {10: record(22)}}, ("random", "first study"): {}}
    figure = insights.along(points, "epochs", dict(R=("margin", "robust"), AA=("autoattack", "robust")))
    assert [axis.get_title() for axis in figure.axes] == ["R"]
    plt.close("all")


def test_a_line_joins_the_means_of_the_seeds_that_every_point_has():
    points = {"random": {0.2: {1: record(10)}, 0.8: {1: record(12), 2: record(30)}}, "finetuned": {}}
    points["finetuned"] = {0.2: {1: record(20)}, 0.8: {2: record(20)}}
    figure = insights.along(points, "learning rate", dict(R=("margin", "robust")))
    lines = [line.get_ydata().tolist() for line in figure.axes[0].lines if line.get_marker() == "None"]
    marks = [line.get_ydata().tolist() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert lines == [[10, 12], []] and marks == [[10], [12, 30], [20], [20]]
    plt.close("all")


def test_the_gap_is_said_and_drawn_at_each_radius():
    radii = {
        "finetuned": {4: seeds(40, 42), 8: seeds(20, 21, 22)},
        "random": {4: seeds(30, 33), 8: seeds(10, 18)},
        "at": {8: seeds(30)},
        "linear": {8: seeds(16)},
    }
    radii["random"][8][10] |= STAYED
    clean = rows(standard=[88], bn_clean=[44], linear_clean=[38])
    gaps = axes.gaps(radii, clean)
    assert gaps == {"random": {0: {10: 44}, 4: {10: 10, 11: 9}, 8: {10: 10, 11: 3}}}, "L at one ε alone"
    with_linear = axes.gaps(radii | {"linear": {4: seeds(20), 8: seeds(16)}}, clean)
    assert with_linear["linear"] == {0: {10: 50}, 4: {10: 20}, 8: {10: 4}}
    said = sentences.said_of_gap(gaps)
    assert said.startswith(
        f"- Trained features less {RANDOM}, points (seeds), ε = 0: +44.0 (1); 4/255: +9.5 ["
    )
    assert said.endswith(
        "Ahead on every seed: ε = 0, 4/255, 8/255; the interval above 0: 4/255. Of one seed alone, in "
        "brackets what that seed has at 8/255: ε = 0 (seed 10: +10.0)."
    )
    assert " 2/255: not measured; 4/255" in sentences.said_of_gap({"random": {2: {}, 4: {10: 10.0}}})
    started = sentences.said_of_started(radii, "{:g}/255")
    assert started == f"Took off: {RANDOM} 2 of 2 at 4/255, 1 of 2 at 8/255."
    assert sentences.said_of_started({"random": {8: radii["random"][8]}}, "{:g}/255") == ""
    less_linear = sentences.said_of_random(radii | {"linear": {4: seeds(32), 8: seeds(16)}}, "{:g}/255")
    assert less_linear == "Random features less L, points of R (seeds): 4/255 -2.0 (1); 8/255 -6.0 (1)."
    assert sentences.said_of_random(radii, "{:g}/255") == "", "one value in common"
    short_at_two = {"linear": {2: seeds(15, 15), 4: seeds(16, 17), 8: seeds(16, 12)}}
    order = sentences.said_of_order(short_at_two, "{:g}/255")
    assert order.startswith("AT, linear classifier on pixels has less R at 2/255 than at 4/255 (-1.5 [")
    assert "than at 8/255" not in order, "one seed has as much there"
    assert sentences.said_of_order(radii, "{:g}/255") == ""
    behind = sentences.where_ahead({"ε = 0": {10: 3.0}, "4/255": {10: 2.0, 11: -0.1}, "8/255": {}})
    assert behind == "Ahead on every seed: ε = 0; the interval above 0: at no ε."
    assert sentences.said_of_gap({}) == "Not yet run at other ε than the study's."
    left, right = insights.against_radius(radii, gaps).axes
    for axis in (left, right):  # R of the training that did not take off, and the difference that it makes
        hollow = [line.get_ydata() for line in axis.lines if line.get_markerfacecolor() == "white"]
        assert hollow == [[10]]
    assert sorted(left.get_xticks()) == sorted(right.get_xticks()) == [4, 8]
    assert list(right.lines[0].get_ydata()) == [9, 3], "the line is of seed 11: none to a hollow mark"
    radii["random"][8] = seeds(10, 18)
    joined = insights.against_radius(radii, gaps).axes[1].lines[0]
    assert list(joined.get_xdata().round()) == [4, 8] and list(joined.get_ydata()) == [9.5, 6.5]
    marks = [line.get_xdata()[0] for line in left.lines if line.get_marker() == "o"]
    at_eight = {place for place in marks if round(place) == 8}
    assert len(at_eight) == 4, "rows do not lie side by side"
    plt.close("all")


def test_capacity_is_drawn_and_said_beside_the_perceptron():
    sizes, perceptron = {"finetuned": {784: seeds(18), 1568: seeds(20, 22)}}, seeds(19, 20)
    (axis,) = insights.capacity(sizes, perceptron).axes
    assert [line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == ":"] == [19.5]
    said = sentences.said_of_capacity(sizes, perceptron)
    assert "784 γ and β -1.0 (1); 1,568 γ and β +1.5 [" in said
    assert sentences.said_of_capacity({"finetuned": {1568: seeds(20)}}, perceptron) == "Not yet run."
    plt.close("all")


def test_the_budget_says_what_longer_training_gives_the_yardsticks():
    found = rows(finetuned=[20, 21], perceptron=[19, 20], perceptron_long=[22, 22])
    said = sentences.said_of_budget(found)
    assert said.startswith("In points of R (seeds): P of 5 epochs less P of 5 +2.5 [")
    assert "; trained features of 5 less P of 5 -1.5 [" in said
    assert sentences.said_of_budget(rows()) == "Yardsticks: not yet run for longer."


def test_the_answer_says_what_the_head_does_once_it_is_known():
    exp, arms = experiment("pretrain"), dict(finetuned=[20] * 6, random=[15] * 6, two_stages=[16] * 3)
    said = answer.listed(rows(**arms), exp)
    assert "Trained weights get further (C6, C6s); whether by the features or by the head, pre-" in said
    assert "*it is the features*, but the head, pre-trained in one arm, random in the other, is not " in said
    said = answer.listed(rows(**arms, finetuned_head=[25, 26], random_head=[21, 22]), exp)
    assert "By the rule it is *the features* (C6, C6s); with the head trained in both arms, trained" in said
    assert "With the head trained in both arms it is +4.0 [+4.0, +4.0] (2)." in said


@pytest.mark.parametrize(
    "trained, random, left_open",
    [
        ([25], [21], "+4.0 (1): one seed, of which nothing is certain"),
        ([25, 20], [21, 22], "(2), not certainly above 0"),
        ([20, 21], [24, 25], "-4.0 [-4.0, -4.0] (2), which speaks against it"),
    ],
)
def test_the_answer_says_what_the_head_leaves_open(trained, random, left_open):
    arms = dict(finetuned=[20] * 6, random=[15] * 6, two_stages=[16] * 3)
    found = rows(**arms, finetuned_head=trained, random_head=random)
    said = answer.listed(found, experiment("pretrain"))
    c6b = claims.c6b(found, "cpu")
    assert claim_tables.points_of(c6b) == "1 of 5 differences have run"
    assert c6b.seeds == list(found["random_head"])
    assert said.count(left_open) == (1 if len(trained) == 1 else 2)
    assert ("is open (C6b" in said) == ("is not controlled for" in said) == (len(trained) == 1)
    assert ("stays open: with the head" in said) == (len(trained) > 1) and "By the rule it is" not in said
    found["random_head"][10] |= STAYED
    said, beside = answer.listed(found, experiment("pretrain")), claims.c6b(found, "cpu").note
    if len(trained) == 1:
        assert "+4.0 (1), where random features never took off, so it says nothing of the features." in said
    else:
        stayed, started = (a - b for a, b in zip(trained, random, strict=True))
        assert f" ({started:+.1f} where random features took off, {stayed:+.1f} where not)" in said
    assert f"{len(trained) - 1} of {len(trained)} runs of random features took off; this rests also" in beside


def test_the_controls_that_did_not_take_off_are_named():
    found = dict(finetuned_head=seeds(20), random_head=seeds(10, 18, 10), head={})
    for seed in (10, 12):
        found["random_head"][seed] |= STAYED
    assert sentences.said_of_not_started(found) == f"Did not take off: {label('random_head')} (seeds 10, 12)."
    assert sentences.said_of_not_started(dict(finetuned_head=seeds(20))) == ""


def test_a_training_of_random_features_is_told_beside_those_of_other_seeds():
    run = dict(data="cifar10", epsilon=8.0, step="scratch", lr=0.8)
    others = {
        f"run {seed}": record(rate, run=run | dict(seed=seed), losses=(loss,))
        for seed, rate, loss in ((10, 10.6, 2.29), (11, 17.1, 2.1), (12, 19.5, 2.1))
    }
    others["of another rate"] = record(50, run=run | dict(seed=13, lr=0.2), losses=(2.1,))
    said = sentences.said_of_take_off(others["run 10"], others)
    assert said.startswith("**This training did not take off**") and said.endswith(
        "Of the 3 runs that differ in the seed alone 2 took off (R 17.1 to 19.5 %)."
    )
    assert "runs that differ" not in sentences.said_of_take_off(others["of another rate"], others)
