"""Every outcome of every claim, on planted records."""

import numpy as np
import planted
import pytest
from planted import flags, with_autoattack

from study.decide import claims, verdicts
from study.decide.claims import c1, c2, c3, c4, c5, c6, c6b, c6s, c7
from study.define.rows import label
from study.show import claim_tables

PROFILE = "cpu"
SEEDS, THREE = range(10, 16), [10, 11, 12]
NORMS = ("norm_batch", "norm_group", "norm_instance", "norm_layer", "norm_none")


def quoted(*keys):
    return " and ".join(f'"{label(key)}"' for key in keys)


def record(rate, n=1000):
    """A record whose every accuracy is `rate` percent on n images."""
    return planted.record(rate, n, small={"0.5": flags(rate, n), "1": flags(rate, n)})


def row(rate, sd=0.3, seeds=SEEDS):
    """{seed: record} with this mean; the sd over three seeds is `sd`, up to rounding to one image."""
    steps = np.array([-1, 1, 0, -1, 1, 0]) * sd
    return {seed: record(rate + step) for seed, step in zip(seeds, steps, strict=False)}


def constant(rate):
    return row(rate, sd=0)


def standard(clean, robust, sd=0.3):
    rows, of_clean = row(robust, sd), row(clean, sd)
    return {"standard": {seed: r | dict(pgd=of_clean[seed]["pgd"]) for seed, r in rows.items()}}


def pair(first, second, difference, sd=0.3, seeds=SEEDS):
    return {first: row(40 + difference, sd, seeds), second: constant(40)}


def bimodal(*differences):
    """Trained features at 20.5; random ones so many points below, a seed each."""
    random = {seed: record(20.5 - points) for seed, points in zip(SEEDS, differences, strict=True)}
    return {"finetuned": constant(20.5), "random": random}


def norms(**other):
    """What confirms C7, with some rows replaced."""
    return {key: constant(60) if key == "norm_batch" else row(70) for key in NORMS} | other


OUTCOMES = [
    (c1, standard(88, 0.5, sd=0.1), "confirmed", ""),
    (c1, standard(88, 0, sd=0), "confirmed", ""),
    (c1, standard(75, 0), "contradicted", ""),
    (c1, standard(88, 5), "contradicted", ""),
    (c1, standard(81, 0, sd=2), "undecided", ""),
    (c1, standard(88, 1, sd=0.2), "undecided", ""),
    (c2, pair("at", "finetuned", 5), "confirmed", ""),
    (c2, pair("at", "finetuned", -5), "contradicted", ""),
    (c2, pair("at", "finetuned", 0.2), "undecided", ""),
    (c3, pair("bn_clean", "linear_clean", 3), "confirmed", ""),
    (c3, pair("bn_clean", "linear_clean", 1), "contradicted", ""),
    (c3, pair("bn_clean", "linear_clean", 2.2), "undecided", ""),
    (c5, pair("random", "linear", -3), "confirmed", ""),
    (c5, pair("random", "linear", -3, sd=1), "confirmed", ""),  # too wide for TOST; below 0
    (c5, pair("random", "linear", 1), "confirmed", ""),  # surely above 0, and equivalent
    (c5, pair("random", "linear", 3), "contradicted", ""),
    (c5, pair("random", "linear", 2.1), "undecided", ""),
    (c5, pair("random", "linear", 0, sd=3), "undecided", ""),
    # one run of random features that does not take off: a t-interval of -1.2 to 6.6, and six of one sign
    (c6, bimodal(10, 3.1, 0.6, 1.4, 1, 0.4), "confirmed", "size undecided"),
    (c6, bimodal(10, 3.1, -0.6, 1.4, 1, 0.4), "undecided", ""),
    (c6, bimodal(-10, -3.1, -0.6, -1.4, -1, -0.4), "contradicted", ""),
    (c7, norms(), "confirmed", ""),
    (c7, norms(norm_layer=row(50)), "contradicted", ""),
    (c7, norms(norm_none=row(60)), "undecided", ""),
    (c7, norms(norm_none=row(59)), "undecided", ""),  # p = 0.03 alone, 0.06 after Holm
]
for _claim, _rows in (
    (c4, ("finetuned", "linear")),
    (c6, ("finetuned", "random")),
    (c6s, ("finetuned", "two_stages")),
):
    OUTCOMES += [
        (_claim, pair(*_rows, 3), "confirmed", "meaningful"),
        (_claim, pair(*_rows, 1), "confirmed", "small"),
        (_claim, pair(*_rows, 2.2), "confirmed", "size undecided"),  # above 0, on either side of δ
        (_claim, pair(*_rows, -3, sd=1), "contradicted", ""),
        (_claim, pair(*_rows, -1), "contradicted", ""),  # equivalent, and surely below 0
        (_claim, pair(*_rows, 0), "contradicted", ""),  # equivalent with 0 inside
        (_claim, pair(*_rows, 1, sd=3), "undecided", ""),
    ]


@pytest.mark.parametrize("claim, rows, verdict, size", OUTCOMES)
def test_a_claim_has_the_verdict_of_its_rule(claim, rows, verdict, size):
    found = claim(rows, PROFILE)
    assert (found.verdict, found.size, found.interim) == (verdict, size, "")
    assert (found.would_decide == "") == (verdict != "undecided")
    assert found.low <= found.mean <= found.high
    assert found.seeds == (list(SEEDS) if claim is c6 else THREE)


NEEDED = {
    c1: ["standard"],
    c2: ["at", "finetuned"],
    c3: ["bn_clean", "linear_clean"],
    c4: ["finetuned", "linear"],
    c5: ["random", "linear"],
    c6: ["finetuned", "random"],
    c6s: ["finetuned", "two_stages"],
    c7: list(NORMS),
}


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_a_claim_without_records_is_not_yet_run_and_names_every_row(claim):
    found = claim({}, PROFILE)
    assert found.verdict == "not yet run" and found.seeds == [] and found.interim == ""
    assert all(f'"{label(key)}"' in found.would_decide for key in NEEDED.get(claim, ["head", "linear"]))


@pytest.mark.parametrize("claim, missing", [(c, key) for c in NEEDED for key in NEEDED[c]])
def test_a_claim_with_one_seed_of_one_row_is_not_yet_run_and_names_that_row(claim, missing):
    rows = {key: constant(40) for key in NEEDED[claim]} | {missing: row(40, seeds=[10])}
    found = claim(rows, PROFILE)
    assert found.verdict == "not yet run"
    assert found.would_decide == f'Two seeds or more of "{label(missing)}", with all that the claim measures.'


@pytest.mark.parametrize("claim", [c2, c4, c6s])
def test_two_of_three_seeds_are_an_interim_verdict(claim):
    first, second = NEEDED[claim]
    found = claim({first: row(45, sd=0.1, seeds=[10, 11]), second: constant(40)}, PROFILE)
    assert (found.verdict, found.interim) == ("confirmed", "2 of 3 seeds")


def test_five_seeds_of_one_sign_do_not_decide_the_primary_claim():
    found = c6({"finetuned": row(25), "random": row(20, seeds=range(10, 15))}, PROFILE)
    assert (found.verdict, found.interim) == ("undecided", "5 of 6 seeds")
    assert found.would_decide == f"the planned seed 15 of {quoted('finetuned', 'random')}."
    assert "sign-flip test: p = 0.062" in found.note


def test_seeds_that_were_not_planned_do_not_count():
    rows = {"at": row(45, seeds=range(10, 16)), "finetuned": constant(40)}
    rows["at"][13] = rows["at"][14] = record(1)
    assert c2(rows, PROFILE).seeds == THREE and c2(rows, PROFILE).mean == pytest.approx(5)
    tuning = {"finetuned": row(45, seeds=range(1, 7)), "random": row(40, seeds=range(1, 7))}
    assert c6(tuning, PROFILE).seeds == [] and c6(tuning, "quick").seeds == list(range(1, 6))


def test_seeds_beyond_the_plan_are_shown_and_decide_nothing():
    rows = {"finetuned": row(24, sd=0), "linear": constant(20)}
    rows["finetuned"][15] = record(14)
    found = c4(rows, PROFILE)
    assert (found.verdict, found.mean) == ("confirmed", pytest.approx(4))
    said = "over all seeds that ran, which decides nothing: +2.3 [-2.0, +6.6] (6)"
    assert found.note.startswith(f"{said}; standard error over the test images 0.")


def with_loss(rate, loss):
    return record(rate) | dict(
        run=dict(data="cifar10"), history=[dict(train_loss=2.5), dict(train_loss=loss)]
    )


def test_a_claim_says_on_how_many_runs_that_did_not_take_off_it_rests():
    random = {10: with_loss(10, 2.29), 11: with_loss(19, 2.12), 12: with_loss(19, 2.13)}
    rows = {"random": random, "linear": constant(17)}
    assert "2 of 3 runs of random features took off; this rests also on those that did not (seed 10)" in (
        c5(rows, PROFILE).note
    )
    random[10] = with_loss(19, 2.24)
    assert "took off" not in c5(rows, PROFILE).note


def test_the_exploratory_claim_has_no_verdict_and_shows_each_part():
    rows = {"bn_stats": constant(5), "head": row(7, seeds=[10]), "linear": constant(18)}
    found = c6b(rows, PROFILE)
    assert (found.verdict, found.size, found.would_decide) == ("exploratory", "", "")
    assert "R(BN statistics alone) − R(L): -13.0 [-13.0, -13.0] (3)" in found.note
    assert "R(head alone) − R(L): -11.3 (1)" in found.note
    assert "BN + head" not in found.note  # what has not run is not shown


def test_rows_that_share_no_two_seeds_are_not_compared():
    rows = {"at": row(50, seeds=[10, 11]), "finetuned": row(40, seeds=[11, 12])}
    found = c2(rows, PROFILE)
    assert found.verdict == "not yet run" and found.seeds == [11]
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert found.would_decide == (
        f"Two seeds or more that {quoted('at', 'finetuned')} share, on the same images."
    )


def test_seeds_count_only_on_the_same_number_of_images():
    rows = pair("at", "finetuned", 5)
    rows["at"][10] = record(45, n=500)
    assert c2(rows, PROFILE).seeds == [11, 12]


@pytest.mark.parametrize("gone", [dict(margin=None), None])
def test_seeds_without_the_margin_evaluation_do_not_count(gone):
    rows = pair("at", "finetuned", 5)
    rows["at"][10] = record(45) | gone if gone else {"pgd": record(45)["pgd"]}
    assert c2(rows, PROFILE).seeds == [11, 12]


def test_c7_without_the_smaller_radii_is_not_yet_run():
    rows = norms()
    for r in rows["norm_none"].values():
        del r["small"]["0.5"]
    assert c7(rows, PROFILE).verdict == "not yet run" and label("norm_none") in c7(rows, PROFILE).would_decide


@pytest.mark.parametrize(
    "points, said", [(2.5, "confirmed (meaningful on these images)"), (9, "confirmed (meaningful)")]
)
def test_a_size_that_other_images_might_change_is_said_to_be_of_these(points, said):
    """Of 1,000 images the standard error of a difference of 2.5 points is 0.5: δ is one of them away."""
    rows = {"finetuned": constant(16 + points), "linear": constant(16)}
    assert claim_tables.verdict(c4(rows, PROFILE)) == said


def test_parts_that_wait_for_the_same_seed_name_each_row_once():
    rows = {key: {seed: r for seed, r in seeds.items() if seed != 12} for key, seeds in norms().items()}
    found = c7(rows, PROFILE)
    assert found.verdict == "undecided" and found.would_decide.startswith("the planned seed 12 of ")
    assert all(found.would_decide.count(f'"{label(key)}"') == 1 for key in rows)


@pytest.mark.parametrize("radius", ["0.5", "1"])
def test_c7_is_contradicted_by_either_radius(radius):
    rows = norms()
    for r in rows["norm_group"].values():
        r["small"][radius] = flags(50)
    assert c7(rows, PROFILE).verdict == "contradicted"


def test_c3_looks_at_clean_accuracy_alone():
    rows = pair("bn_clean", "linear_clean", 3)
    for r in rows["bn_clean"].values():
        r["margin"] = None
    assert c3(rows, PROFILE).verdict == "confirmed"


def test_differences_are_paired_by_seed():
    """Seeds that move both rows together do not widen the interval."""
    rows = {"at": row(40.5, sd=8), "finetuned": row(40, sd=8)}
    found = c2(rows, PROFILE)
    assert found.verdict == "confirmed"
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_numbers_are_points():
    found = c2({"at": row(45, sd=1), "finetuned": constant(40)}, PROFILE)
    # three values 4, 6, 5: sd 1, t with 2 degrees of freedom 4.3027
    assert (found.mean, found.high - found.mean) == pytest.approx((5, 4.3027 / 3**0.5), abs=1e-3)


def test_the_estimated_seeds_would_decide_and_one_fewer_would_not():
    found = c2({"at": row(40.6, sd=1, seeds=THREE), "finetuned": constant(40)}, PROFILE)
    said = (
        f"about 14 seeds of {quoted('at', 'finetuned')} in place of 3, if the 3 that ran tell mean and spread"
    )
    assert found.would_decide.startswith(said)
    # half-widths: t(13) / sqrt(14) = 0.577 < 0.6 < t(12) / sqrt(13) = 0.604
    assert found.verdict == "undecided"


def test_seeds_are_counted_to_the_bound_that_decides():
    """At +1.9 a clear difference from 0 is near, equivalence within δ is far."""
    found = c4(pair("finetuned", "linear", 1.9, sd=2, seeds=THREE), PROFILE)
    assert found.verdict == "undecided" and found.would_decide.startswith("about 7 seeds of ")


def test_what_no_number_of_seeds_decides_is_said_to_need_more_than_50():
    said = c2(pair("at", "finetuned", 0, seeds=THREE), PROFILE).would_decide
    assert said.startswith(
        f"not even 50 seeds of {quoted('at', 'finetuned')}, if the 3 that ran tell mean and spread"
    )
    # half-widths: t(49) / sqrt(50) = 0.2842 < 2 / 7 < t(48) / sqrt(49) = 0.2872
    fifty = c2(pair("at", "finetuned", 0.2, sd=0.7, seeds=THREE), PROFILE).would_decide
    assert fifty.startswith(f"about 50 seeds of {quoted('at', 'finetuned')} in place of 3")


def test_seeds_that_do_not_count_say_how_many_would_decide():
    """Three seeds of -5, 1, 1 would not decide; with three more of 1 the spread is less."""
    seeds = range(10, 16)
    six = dict(zip(seeds, map(record, (35, 41, 41, 41, 41, 41)), strict=True))
    found = c5({"random": six, "linear": row(40, sd=0, seeds=seeds)}, PROFILE)
    assert found.verdict == "undecided" and found.seeds == [10, 11, 12]
    assert ", if the 6 that ran tell mean and spread" in found.would_decide
    # mean 0, sd 2.449: half-widths at 90 % t(5) / sqrt(6) = 2.015 > 2 > t(6) / sqrt(7) = 1.799
    assert found.would_decide.startswith("about 7 seeds of ")


@pytest.mark.parametrize("layer", [61, 59])  # BN 1 point less robust, or more, at both radii
def test_the_seeds_that_decide_c7_are_counted_after_holm(layer):
    """The six other differences are certain, so Holm asks p < 0.025 of these two, mean 1 and sd 1."""
    found = c7(norms(norm_layer=row(layer, sd=1, seeds=THREE)), PROFILE)
    assert found.verdict == "undecided"
    # t = 3 of nine seeds has p = 0.0171; 2.828 of eight 0.0254; uncorrected, 2.646 of seven 0.0382
    said = f"about 9 seeds of {quoted('norm_batch', 'norm_layer')} in place of 3, if the 3 that ran tell"
    assert found.would_decide.startswith(said)


def test_a_claim_of_several_parts_needs_the_seeds_of_the_part_that_needs_most():
    few, many = row(81, sd=2, seeds=THREE), row(0.9, sd=0.3, seeds=THREE)
    clean_near, robust_near, both_near = {}, {}, {}
    for seed in THREE:
        clean_near[seed] = record(0) | dict(pgd=few[seed]["pgd"])
        robust_near[seed] = many[seed] | dict(pgd=record(88)["pgd"])
        both_near[seed] = many[seed] | dict(pgd=few[seed]["pgd"])
    said = [c1({"standard": rows}, PROFILE).would_decide for rows in (clean_near, robust_near, both_near)]
    # half-widths: t(17) / sqrt(18) = 0.497 < 1 / 2 < t(16) / sqrt(17) = 0.514
    # and t(37) / sqrt(38) = 0.3287 < 0.1 / 0.3 < t(36) / sqrt(37) = 0.3334
    assert said[0].startswith("about 18 seeds of ") and said[1].startswith("about 38 seeds of ")
    assert said[2] == said[1]


def test_one_part_that_contradicts_is_enough_where_another_has_not_run():
    rows = norms(norm_layer=row(30)) | {"norm_none": {}}
    found = c7(rows, PROFILE)
    assert found.verdict == "contradicted"
    rows["norm_layer"] = row(90)
    assert c7(rows, PROFILE).verdict == "not yet run"


def test_of_several_parts_the_one_furthest_from_confirmed_is_shown():
    found = c7(norms(norm_layer=row(59.9)), PROFILE)
    assert found.mean == pytest.approx(0.1)
    assert found.would_decide.count("seeds of") == 1  # once for both radii
    assert label("norm_layer") in found.would_decide and label("norm_group") not in found.would_decide
    assert found.note.count("[") == 8
    assert "R at 1/255, BN − no normalisation: -10.0 [-10.7, -9.3] (3)" in found.note


def test_a_claim_says_that_autoattack_corrected_it():
    rows = {"at": {10: with_autoattack(90), 11: with_autoattack(90)}, "finetuned": row(30, seeds=[10, 11])}
    assert c2(rows, PROFILE).note == (
        "R(AT), seed 10, is corrected by AutoAttack; R(AT), seed 11, is corrected by AutoAttack; "
        "standard error over the test images 0.9"
    )
    assert c2(rows, PROFILE).mean == pytest.approx(6)


def test_c7_looks_at_a_sixteenth_and_an_eighth_of_the_profile_s_epsilon():
    planted_at = {"2": flags(10), "4": flags(10)}
    rows = {key: {0: planted.record(small=planted_at)} for key in NORMS}
    assert all(part.values == {0: 0.0} for part in c7(rows, "quick").parts)
    assert c7({}, PROFILE).parts[0].text == "R at 0.5/255, BN − group normalisation"


def test_a_seed_on_fewer_images_is_left_out_and_that_is_said():
    rows = {"at": row(30) | {12: record(50, n=500)}, "finetuned": constant(20)}
    found = c2(rows, PROFILE)
    assert found.seeds == [10, 11] and found.interim == "2 of 3 seeds"
    assert found.note == "AT, seed 12, on 500 images, is left out; standard error over the test images 0.9"


def test_a_difference_is_written_with_its_sign_and_an_accuracy_without():
    rows = standard(88, 0, sd=0) | dict(at=constant(30), finetuned=constant(20))
    assert c1(rows, PROFILE).note == "clean(standard): 88.0 [88.0, 88.0] (3); R(standard): 0.0 [0.0, 0.0] (3)"
    assert claim_tables.points_of(c2(rows, PROFILE)) == "+10.0 [+10.0, +10.0]"
    assert (
        claim_tables.points_of(c1(rows, PROFILE))
        == "clean(standard): 88.0 [88.0, 88.0]; R(standard): 0.0 [0.0, 0.0]"
    )


def test_every_claim_carries_its_rule():
    found = claims.decide({}, PROFILE)
    assert [c.key for c in found] == ["C1", "C2", "C3", "C4", "C5", "C6", "C6s", "C6b", "C7"]
    for c in found:
        if c.key != "C6b":
            assert c.rule.startswith("Confirmed: ") and "Contradicted: " in c.rule


def test_rows_that_lack_are_listed_as_in_a_sentence():
    """Three rows: a comma, then "and"."""
    keys = ("finetuned_head", "random_head", "bn_stats")
    first, second, third = (f'"{label(key)}"' for key in keys)
    part = verdicts.Part("", keys, {}, planned=(10, 11), lacking=keys)
    assert verdicts.missing_runs([part]) == (
        f"Two seeds or more of {first}, {second} and {third}, with all that the claim measures."
    )
