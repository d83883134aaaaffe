"""What 07 says of AT of affine parameters alone, from planted records."""

import numpy as np
from planted import seeds

from study.define.rows import label
from study.show import affine


def test_rates_are_compared_on_the_held_out_images_of_the_last_epoch():
    history = [dict(held_out_clean=c, held_out_robust=r) for c, r in ((0.9, 0.9), (0.4, 0.2))]
    found = dict(run=dict(data="cifar10"), history=history)
    table = affine.held_out_rates({"affine_bn": {0.05: {10: found}, 0.8: {10: found, 11: found}}})
    assert table.index.name == "1,000 held-out images"
    first = table.loc["AT of BN's γ and β, statistics frozen, learning rate 0.05"]
    assert (first["clean %"], first["PGD-10 %"]) == ("40.0 (1)", "20.0 (1)")
    assert affine.held_out_rates({}).index.tolist() == ["not yet run"]


def test_rows_that_have_not_run_at_every_rate_are_named():
    found = {"affine_bn": {0.05: {}, 0.2: {}, 0.8: {}}, "affine_group": {0.2: {}}}
    assert affine.said_of_rates(found) == (f"Of 3 rates not yet run at each: {label('affine_group')} (1).")
    assert affine.said_of_rates({"affine_bn": found["affine_bn"]}) == ""


def test_affine_parameters_are_compared_with_those_of_bn_the_best_first():
    alone = {"affine_bn": seeds(15, clean=40), "affine_group": seeds(22, 23, clean=50)}
    said = affine.said_of_affine(alone, seeds(20, 21, clean=45))
    best = f"{label('affine_group')} +2.0 [+2.0, +2.0] (2), clean +5.0 [+5.0, +5.0] (2)"
    assert said.endswith(f": {best}; {label('affine_bn')} -5.0 (1), clean -5.0 (1).")
    assert affine.said_of_affine({"affine_layer": {}}, seeds(20)) == ""
    assert affine.said_of_affine({"affine_bn": seeds(15)}, seeds(20)).endswith("one network: no answer yet.")


def test_what_is_left_of_the_signal_is_shown_of_networks_that_were_looked_into():
    layers = {"bn1": [1.0, 0.5], "layer1_0.bn2": [0.0, 2.0]}
    looked_into = dict(
        bn={path: dict(gamma=gamma) for path, gamma in layers.items()},
        norms=dict(highest=np.array([0, 1, 0, -0.5])),
        gap=dict(
            tid_deviation_adversarial=np.array([0.1, 9.0]), floor_deviation_adversarial=np.array([0.1, 0.5])
        ),
        condensation=dict(clean=np.array([0.1, 0.2, 1.0])),
    )
    found = {"finetuned": {10: looked_into, 11: looked_into | dict(gap=None)}, "affine_bn": {}}
    table = affine.signal_table(found)
    assert table.index.tolist() == ["BN-only AT, trained features, seed 10"]
    assert table.iloc[0].tolist() == ["0.75", "8.500", "50.0", "1.00"]
    assert affine.signal_table({}).index.tolist() == ["not yet run"]
    before = looked_into | dict(norms=dict(highest=np.ones(4)), condensation=dict(clean=np.array([0.5])))
    assert affine.said_of_signal({10: before, 12: before}, found["finetuned"]) == (
        "From standard training to BN-only AT, mean ± sd (seeds): median |γ| 0.75 (1) → 0.75 (1); dead "
        "channels (%) 0.00 (1) → 50.00 (1); cosine at the head 0.50 (1) → 1.00 (1)."
    )
    assert affine.said_of_signal({12: before}, found["finetuned"]) == ""
