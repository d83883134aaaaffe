"""What 07 says of claim C7, from planted records."""

from planted import flags, record, small

from study.decide import claims
from study.show import c7, claim_tables


def standard(*rates):
    """Standard training with R of so many percent at both of C7's radii, all right before; seeds 10, ..."""
    measured = ({"0": flags(100), "0.5": flags(rate), "1": flags(rate)} for rate in rates)
    return {seed: record(small=small) for seed, small in enumerate(measured, 10)}


def test_c7_is_said_part_by_part_after_holm():
    others = {"norm_group": standard(30, 31, 32), "norm_none": standard(10, 11, 12)}
    unsure = {"norm_instance": standard(15, 25, 20), "norm_layer": standard(21, 21, 21)}
    rows = dict(norm_batch=standard(20, 21, 22)) | others | unsure
    claim = claims.c7(rows, "cpu")
    said = c7.said_of_norms(claim, rows)
    assert "less robust in 2 of 8" in said and "less (5 %, after Holm) in 2, certainly more in 2." in said
    sides = "less robust than group normalisation (at 0.5 and 1/255); more robust than no normalisation (at"
    assert f"On every seed BN is {sides} 0.5 and 1/255)." in said
    assert f"among the images that each network has right BN is {sides}" in said
    table = c7.parts(claim, rows)
    assert list(table["p, after Holm"]) == ["0.000", "1.000", "1.000", "0.000"] * 2
    for which in ("of those right", "of those that both have right"):
        assert list(table[f"{which}: p, after Holm"]) == list(table["p, after Holm"]), "all are right"
    assert table.iloc[0, 0] == "-10.0 [-10.0, -10.0] (3)"
    assert table["seed by seed"].iloc[1] == "-1.0, +0.0, +1.0"
    assert claim_tables.points_of(claim) == "of 8 differences 2 certainly below 0, 2 certainly above"


def test_a_part_of_c7_says_how_much_hangs_on_the_images_and_what_survives_of_those_right():
    rows = dict.fromkeys(("norm_batch", "norm_group", "norm_instance", "norm_layer", "norm_none"), {})
    rows["norm_batch"] = {10: record(small=small(100, 80, 40) | {"1": flags(0, 100)})}
    rows["norm_group"] = {10: record(small=small(100, 60, 45) | {"1": flags(0, 100)})}
    row = c7.parts(claims.c7(rows, "cpu"), rows).iloc[0]
    assert row["points [95 %] (seeds)"] == "-5.0 (1)"
    assert row["of those right, points [95 %] (seeds)"] == "-25.0 (1)"
    # 5 of 100 images differ: sd 0.219, over 10
    assert row["standard error over images"] == "2.2"


def test_c7_on_one_seed_is_inconclusive():
    others = dict.fromkeys(("norm_group", "norm_instance", "norm_layer", "norm_none"), standard(30))
    rows = dict(norm_batch=standard(20)) | others
    claim = claims.c7(rows, "cpu")
    said = c7.said_of_norms(claim, rows)
    assert "BN is the less robust in 8 of 8" in said and "certainly less (5 %, after Holm) in 0" in said
    assert "8 of the 8 have one seed, of which nothing is certain." in said
    assert set(c7.parts(claim, rows)["p, after Holm"]) == {"–"}
    assert c7.said_of_norms(claims.c7({}, "cpu"), {}) == "Not yet run."


def of_all(rate, **others):
    """Rows of C7, three seeds each: BN at 0.2 with R of 20 %, the others of `rate`, or as named."""
    names = ("group", "layer", "instance", "none")
    rows = {f"norm_{name}": standard(*[others.get(name, rate)] * 3) for name in names}
    rows |= {"norm_batch": standard(20, 20, 20), "standard": standard(25, 25, 25)}
    for key, lr in (("norm_batch", 0.2), ("standard", 0.1)):
        rows[key][10]["run"] |= dict(lr=lr)
    return rows


def both_of(rows):
    return claims.c7(rows, "cpu"), claims.c7(rows, "cpu", bn=claims.STUDY_BN)


def test_c7_is_judged_at_the_study_s_rate_beside_its_own():
    rows = of_all(30, group=22)
    claim, usual = both_of(rows)
    assert (claim.verdict, usual.verdict) == ("confirmed", "contradicted")
    assert "with BN at the rate of the rest of the study: contradicted" in claim.note
    assert c7.said_of_bn_rates(claim, usual, rows) == (
        "R of BN at 0.2 less that at 0.1, points [95 %] (seeds): -5.0 [-5.0, -5.0] (3) at 0.5/255, "
        "-5.0 [-5.0, -5.0] (3) at 1/255. With BN at 0.1, the study's, C7's rule says *contradicted*: BN is "
        "certainly less robust than layer normalisation (at 0.5 and 1/255), instance normalisation (at 0.5 "
        "and 1/255), no normalisation (at 0.5 and 1/255); more robust than group normalisation (at 0.5 and "
        "1/255); so the verdict hangs on BN's learning rate. On every seed BN is less robust than layer "
        "normalisation (at 0.5 and 1/255), instance normalisation (at 0.5 and 1/255), no normalisation (at "
        "0.5 and 1/255); more robust than group normalisation (at 0.5 and 1/255)."
    )
    for record_, points in zip(rows["standard"].values(), (20, 25, 30), strict=True):
        record_["small"] |= {"0.5": flags(points), "1": flags(points)}
    rows |= {f"norm_{name}": standard(*[points] * 3) for name, points in (("group", 22), ("none", 60))}
    claim, usual = both_of(rows)
    assert (claim.verdict, usual.verdict) == ("confirmed", "undecided")
    assert "hangs on BN's learning rate, though R at the two rates differs" in c7.said_of_bn_rates(
        claim, usual, rows
    )
    alike = of_all(30)
    assert "hangs on" not in c7.said_of_bn_rates(*both_of(alike), alike)


def test_bn_is_compared_with_itself_where_another_normalisation_has_not_run():
    rows = of_all(30) | {"norm_none": {}}
    said = c7.said_of_bn_rates(*both_of(rows), rows)
    assert said.endswith("-5.0 [-5.0, -5.0] (3) at 1/255.")
    rows[claims.STUDY_BN] = {}
    claim, usual = both_of(rows)
    assert c7.said_of_bn_rates(claim, usual, rows) == "" and "rate of the rest" not in claim.note


def test_survival_is_of_the_images_that_each_network_has_right_or_both():
    rows = {"norm_batch": {10: record(small=small(100, 80, 40))}}
    rows["norm_group"] = {10: record(small=small(100, 50, 45))}
    part = claims.c7(rows, "cpu").parts[0]
    assert part.values == {10: -5}
    assert c7.survival(part, rows).values == {10: 100 * (40 / 80 - 45 / 50)}
    assert c7.survival(part, rows, both=True).values == {10: 100 * (40 / 50 - 45 / 50)}


def test_what_it_comes_to_counts_every_measure():
    rows = of_all(22, none=30)
    claim, usual = both_of(rows)
    for seeds in rows.values():
        for record_ in seeds.values():
            record_["history"] = [dict(epoch=1, held_out_clean=0.9, held_out_small=0.4, train_loss=0.5)]
    for record_ in rows["norm_batch"].values():
        record_["history"][0]["held_out_small"] = 0.3
    measured = c7.summary(claim, usual, rows)
    table = c7.summary_table(measured)
    assert table.loc["no normalisation"].tolist() == [
        "-10.0 [-10.0, -10.0] (3)", "-5.0 [-5.0, -5.0] (3)", "-10.0 [-10.0, -10.0] (3)",
        "-10.0 [-10.0, -10.0] (3)", "-10.0 [-10.0, -10.0] (3)",
    ]  # fmt: skip
    assert c7.said_in_all(measured) == (
        "By each of these, on average, BN is less robust than no normalisation; not by each than group "
        "normalisation, layer normalisation, instance normalisation."
    )
    nothing = c7.summary(*both_of({}), {})
    assert c7.summary_table(nothing).index.tolist() == ["not yet run"] and c7.said_in_all(nothing) == ""
