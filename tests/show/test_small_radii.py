"""What 07 says of small radii, from planted records."""

import numpy as np
from planted import flags, record

from study.show import small_radii


def standard(*outcomes, index=range(100)):
    """Standard training with (clean, R at 0.5/255, R at 1/255) in percent of 100 images; seeds 10, ..."""
    seeds = {}
    for seed, (clean, half, one) in enumerate(outcomes, 10):
        settings = dict(images=100, radii=[0.5, 1], index=list(index))
        measured = {
            "0": flags(clean, 100),
            "0.5": flags(half, 100),
            "1": flags(one, 100),
            "settings": settings,
        }
        seeds[seed] = record(small=measured, small_float32=None)
    return seeds


def test_bn_is_set_against_each_other_normalisation_at_every_radius():
    rows = {
        "norm_batch": standard((90, 60, 20), (92, 60, 20)),
        "norm_group": standard((80, 50, 30), (80, 50, 32)),
    }
    gaps = small_radii.over_radii(rows)
    assert gaps == {"norm_group": {"0": {10: 10, 11: 12}, "0.5": {10: 10, 11: 10}, "1": {10: -10, 11: -12}}}
    table = small_radii.over_radii_table(gaps)
    assert table.index.tolist() == ["group normalisation"]
    assert table.columns.tolist() == ["clean", "at 0.5/255", "at 1/255"]
    assert table.iloc[0, 1] == "+10.0 [+10.0, +10.0] (2)"
    assert small_radii.said_over_radii(gaps) == (
        "R of BN, on average over seeds, beside that of group normalisation: above at 0.5/255, below at "
        "1/255."
    )
    nothing = small_radii.over_radii({"norm_batch": rows["norm_batch"]})
    assert nothing == {} and small_radii.said_over_radii(nothing) == ""
    assert small_radii.over_radii_table(nothing).index.tolist() == ["not yet run"]


def test_gradients_in_float32_are_taken_with_c7_s_attacks_on_the_images_of_both():
    rows = {"norm_batch": standard((90, 60, 20)), "norm_none": standard((80, 50, 40), (80, 50, 40))}
    settings = dict(images=4, radii=[0.5, 1], index=[0, 10, 45, 70])
    exact = {"0.5": np.array([1, 0, 1, 1], bool), "1": np.array([1, 1, 0, 0], bool), "settings": settings}
    rows["norm_batch"][10]["small_float32"] = rows["norm_none"][10]["small_float32"] = exact
    outcomes = small_radii.in_float32(rows)
    before, after = outcomes["norm_batch"]["0.5"][10]
    assert before.tolist() == [True, True, True, False] and after.tolist() == [True, False, True, False]
    table = small_radii.float32_table(outcomes)
    assert table.index.tolist() == ["batch", "none"]
    assert table.loc["batch"].tolist() == ["75.0 (1)", "50.0 (1)", "1 of 3", "50.0 (1)", "50.0 (1)", "0 of 2"]
    assert small_radii.said_of_float32(outcomes) == (
        "Attacked in float32, too, BN less it, points of R → of both (seeds): at 0.5/255 no normalisation "
        "+0.0 → +0.0 (1); at 1/255 no normalisation +0.0 → +0.0 (1)."
    )
    assert small_radii.in_float32({"norm_batch": standard((90, 60, 20))}) == {}
    assert small_radii.said_of_float32({}) == ""
    assert small_radii.float32_table({}).index.tolist() == ["not yet run"]
