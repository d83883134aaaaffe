"""Every outcome of every claim, on planted records."""

import numpy as np
import pytest

from study import claims
from study.claims import c1, c2, c3, c4, c5, c6, c6b, c7

SEEDS = range(10, 15)
NORMS = ("norm_batch", "norm_group", "norm_instance", "norm_layer", "norm_none")


def flags(rate, n=1000):
    """bool [n] with so many percent true."""
    return np.arange(n) < round(rate * n / 100)


def record(rate, n=1000):
    """A record whose every accuracy is `rate` percent on n images."""
    same = flags(rate, n)
    small = {"0.5": same, "1": same}
    return dict(pgd=dict(clean=same, robust=same), margin=dict(robust=same), small=small)


def row(rate, sd=0.3, seeds=SEEDS):
    """{seed: record} with this mean; the sd over the five seeds is `sd`, up to rounding to one image."""
    steps = np.array([-1, 1, 0, -1, 1]) * sd
    return {seed: record(rate + step) for seed, step in zip(seeds, steps, strict=False)}


def constant(rate):
    return row(rate, sd=0)


def standard(clean, robust, sd=0.3):
    rows, of_clean = row(robust, sd), row(clean, sd)
    return {"standard": {seed: r | dict(pgd=of_clean[seed]["pgd"]) for seed, r in rows.items()}}


def pair(first, second, difference, sd=0.3):
    return {first: row(40 + difference, sd), second: constant(40)}


def controls(**other):
    """What confirms C6b, with some rows replaced."""
    rates = dict(finetuned_head=24, random_head=20, finetuned_nodecay=23, random_nodecay=20)
    rates |= dict(linear=18, bn_stats=5, head=7, conv_subset=15)
    fixed = {"random_head", "random_nodecay", "linear"}
    rows = {key: constant(rate) if key in fixed else row(rate) for key, rate in rates.items()}
    return rows | other


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
    (c5, pair("random", "linear", -3, sd=2), "confirmed", ""),  # too wide for TOST; below 0
    (c5, pair("random", "linear", 1), "confirmed", ""),  # surely above 0, and equivalent
    (c5, pair("random", "linear", 3), "contradicted", ""),
    (c5, pair("random", "linear", 2.1), "undecided", ""),
    (c5, pair("random", "linear", 0, sd=3), "undecided", ""),
    (c6b, controls(), "confirmed", ""),
    (c6b, controls(finetuned_head=row(18)), "contradicted", ""),
    (c6b, controls(finetuned_nodecay=row(18)), "contradicted", ""),
    (c6b, controls(bn_stats=row(20)), "contradicted", ""),
    (c6b, controls(head=row(20)), "contradicted", ""),
    (c6b, controls(conv_subset=row(20)), "contradicted", ""),
    (c6b, controls(conv_subset=row(18)), "undecided", ""),
    (c6b, controls(finetuned_head=row(20.1)), "undecided", ""),
    (c7, norms(), "confirmed", ""),
    (c7, norms(norm_layer=row(50)), "contradicted", ""),
    (c7, norms(norm_none=row(60)), "undecided", ""),
]
for _claim, _rows in ((c4, ("finetuned", "linear")), (c6, ("finetuned", "random"))):
    OUTCOMES += [
        (_claim, pair(*_rows, 3), "confirmed", "meaningful"),
        (_claim, pair(*_rows, 1), "confirmed", "small"),
        (_claim, pair(*_rows, 2.2), "confirmed", ""),  # above 0, on either side of δ
        (_claim, pair(*_rows, -3, sd=1), "contradicted", ""),
        (_claim, pair(*_rows, -1), "contradicted", ""),  # equivalent, and surely below 0
        (_claim, pair(*_rows, 0), "contradicted", ""),  # equivalent with 0 inside
        (_claim, pair(*_rows, 1, sd=3), "undecided", ""),
    ]


@pytest.mark.parametrize("claim, rows, verdict, size", OUTCOMES)
def test_a_claim_has_the_verdict_of_its_rule(claim, rows, verdict, size):
    found = claim(rows)
    assert (found.verdict, found.size) == (verdict, size)
    assert (found.would_decide == "") == (verdict != "undecided")
    assert found.low <= found.mean <= found.high and found.seeds == list(SEEDS)


NEEDED = {
    c1: ["standard"],
    c2: ["at", "finetuned"],
    c3: ["bn_clean", "linear_clean"],
    c4: ["finetuned", "linear"],
    c5: ["random", "linear"],
    c6: ["finetuned", "random"],
    c6b: list(controls()),
    c7: list(NORMS),
}


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_a_claim_without_records_is_not_yet_run_and_names_every_row(claim):
    found = claim({})
    assert found.verdict == "not yet run" and found.seeds == []
    assert all(f'"{key}"' in found.would_decide for key in NEEDED[claim])


@pytest.mark.parametrize("claim, missing", [(c, key) for c in claims.CLAIMS for key in NEEDED[c]])
def test_a_claim_with_one_seed_of_one_row_is_not_yet_run_and_names_that_row(claim, missing):
    rows = {key: constant(40) for key in NEEDED[claim]} | {missing: row(40, seeds=[10])}
    found = claim(rows)
    assert found.verdict == "not yet run"
    assert found.would_decide == f'Two seeds or more of "{missing}", with all that the claim measures.'


def test_rows_that_share_no_two_seeds_are_not_compared():
    rows = {"at": row(50, seeds=[10, 11, 12]), "finetuned": row(40, seeds=[12, 13, 14])}
    found = c2(rows)
    assert found.verdict == "not yet run" and found.seeds == [12]
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert found.would_decide == 'Two seeds or more that "at" and "finetuned" share, on the same images.'


def test_seeds_count_only_on_the_same_number_of_images():
    rows = pair("at", "finetuned", 5)
    rows["at"][10] = record(45, n=500)
    assert c2(rows).seeds == [11, 12, 13, 14]


@pytest.mark.parametrize("gone", [dict(margin=None), None])
def test_seeds_without_the_margin_evaluation_do_not_count(gone):
    rows = pair("at", "finetuned", 5)
    rows["at"][10] = record(45) | gone if gone else {"pgd": record(45)["pgd"]}
    assert c2(rows).seeds == [11, 12, 13, 14]


def test_c7_without_the_smaller_radii_is_not_yet_run():
    rows = norms()
    for r in rows["norm_none"].values():
        del r["small"]["0.5"]
    assert c7(rows).verdict == "not yet run" and '"norm_none"' in c7(rows).would_decide


@pytest.mark.parametrize("radius", ["0.5", "1"])
def test_c7_is_contradicted_by_either_radius(radius):
    rows = norms()
    for r in rows["norm_group"].values():
        r["small"][radius] = flags(50)
    assert c7(rows).verdict == "contradicted"


def test_c3_looks_at_clean_accuracy_alone():
    rows = pair("bn_clean", "linear_clean", 3)
    for r in rows["bn_clean"].values():
        r["margin"] = None
    assert c3(rows).verdict == "confirmed"


def test_differences_are_paired_by_seed():
    """Seeds that move both rows together do not widen the interval."""
    rows = {"at": row(40.5, sd=8), "finetuned": row(40, sd=8)}
    found = c2(rows)
    assert found.verdict == "confirmed"
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_numbers_are_points():
    found = c2({"at": row(45, sd=1), "finetuned": constant(40)})
    # five values 4, 6, 5, 4, 6: sd 1, t with 4 degrees of freedom 2.7764
    assert (found.mean, found.high - found.mean) == pytest.approx((5, 2.7764 / 5**0.5), abs=1e-3)


def test_the_estimated_seeds_would_decide_and_one_fewer_would_not():
    found = c2({"at": row(40.6, sd=1), "finetuned": constant(40)})
    assert found.would_decide == 'about 14 seeds of "at" and "finetuned" in place of 5.'
    # half-widths: t(13) / sqrt(14) = 0.577 < 0.6 < t(12) / sqrt(13) = 0.604
    assert found.verdict == "undecided"


def test_seeds_are_counted_to_the_bound_that_decides():
    """At +1.9 a clear difference from 0 is near, equivalence within δ is far."""
    found = c4(pair("finetuned", "linear", 1.9, sd=2))
    assert found.verdict == "undecided" and found.would_decide.startswith("about 7 seeds of ")


def test_what_no_number_of_seeds_decides_is_said_to_need_50_or_more():
    assert c2(pair("at", "finetuned", 0)).would_decide.startswith("50 or more seeds")


def test_of_several_parts_the_one_furthest_from_confirmed_is_shown():
    found = c6b(controls(conv_subset=row(18.1)))
    assert found.mean == pytest.approx(0.1)
    assert found.would_decide.count("seeds of") == 1 and '"conv_subset" and "linear"' in found.would_decide
    assert found.note.count("[") == 5 and "R(head alone) − R(L): -11.0 [-11.4, -10.6]" in found.note


def with_autoattack(survivors, **settings):
    """R = 40 % of 1,000 images; AutoAttack on every fourth leaves so many of the 100 that R has there."""
    robust = flags(40)
    index = list(range(0, 1000, 4))
    robust_there = np.arange(250) < survivors
    autoattack = dict(robust=robust_there, settings=dict(epsilon=8, images=250, index=index) | settings)
    return dict(margin=dict(robust=robust), autoattack=autoattack)


def test_r_is_not_corrected_where_autoattack_agrees():
    assert claims.robust_accuracy(with_autoattack(97)) == (40.0, False)


def test_r_is_corrected_where_autoattack_disagrees():
    assert claims.robust_accuracy(with_autoattack(90)) == (pytest.approx(36.0), True)


def test_r_is_not_corrected_by_a_subset_that_is_not_random():
    first = with_autoattack(50)
    del first["autoattack"]["settings"]["index"]
    assert claims.robust_accuracy(first) == (40.0, False)


def test_r_is_not_corrected_by_images_that_it_has_not():
    fewer = with_autoattack(50)
    fewer["margin"]["robust"] = fewer["margin"]["robust"][:500]
    assert claims.robust_accuracy(fewer) == (80.0, False)


def test_r_without_autoattack_is_the_margin_evaluation():
    assert claims.robust_accuracy(dict(margin=dict(robust=flags(40)), autoattack=None)) == (40.0, False)


def test_a_claim_says_that_autoattack_corrected_it():
    rows = {"at": {10: with_autoattack(90), 11: with_autoattack(90)}, "finetuned": row(30, seeds=[10, 11])}
    assert c2(rows).note == (
        "R(AT), seed 10, is corrected by AutoAttack; R(AT), seed 11, is corrected by AutoAttack"
    )
    assert c2(rows).mean == pytest.approx(6)


def test_every_claim_carries_its_rule():
    found = claims.decide({})
    assert [c.key for c in found] == ["C1", "C2", "C3", "C4", "C5", "C6", "C6b", "C7"]
    for c in found:
        assert c.rule.startswith("Confirmed: ") and "Contradicted: " in c.rule
