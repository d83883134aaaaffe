"""What BN does to features: the measures, and the tables made of them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import bnat

from study.decide import select
from study.measure import channels
from study.show import bn_figures, bn_tables


@pytest.fixture(scope="module")
def still_and_moved(trained, digits):
    x, y = (t[:200] for t in digits["test"])
    measures = channels.bn_features, channels.usefulness
    return [[measure(trained, x, y, eps=eps) for measure in measures] for eps in (0, 32 / 255)]


def recorded(gamma, beta, parent=None, **measured):
    """A record of one layer of four channels and one of four, as `features` reads it."""
    layers = {name: dict(gamma=gamma[s], beta=beta[s]) for name, s in (("a", slice(4)), ("b", slice(4, 8)))}
    numbers = {key: np.array(values, dtype=float) for key, values in measured.items()}
    return dict(
        run=dict(
            arch="resnet8",
            seed=10,
            parent=parent,
            epochs=1,
            train_images=640,
            batch_size=64,
            lr=2.0,
            weight_decay=0.1,
            schedule="cycle",
        ),
        weights=str(gamma),
        initial_weights=parent,
        bn=layers,
        features=numbers | dict(settings=dict(images=200)) if measured else None,
        usefulness=USEFUL if measured else None,
        pgd=dict(robust=np.arange(10) < 3),
    )


USEFUL = dict(clean=np.array([0.2, 0.4, 0.3, 0.5] * 2), adversarial=np.array([0.1, 0.3, -0.2, 0.1] * 2))
MEASURED = dict(
    fragility=[1, 2, 3, 4, 1, 2, 3, 4],
    shift=[0.0] * 8,
    variance_ratio=[1.0] * 8,
)
PARENT = recorded([1.0] * 7 + [2.0], [0.5] * 8, **MEASURED)


def child(gamma):
    return recorded(gamma, [-0.5] * 8, parent=PARENT["weights"], **MEASURED | dict(fragility=[0.5] * 8))


def test_features_do_not_move_without_an_attack(still_and_moved):
    still, useful = still_and_moved[0]
    assert (still["fragility"] == 0).all() and (still["shift"] == 0).all()
    assert (still["variance_ratio"] == 1).all()
    assert torch.equal(useful["clean"], useful["adversarial"])


def test_an_attack_moves_every_feature_and_takes_from_its_use(still_and_moved, trained):
    moved, useful = still_and_moved[1]
    n_channels = sum(m.num_features for m in trained.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert moved["fragility"].shape == (n_channels,) and (moved["fragility"] > 0).all()
    assert ((useful["clean"] > 0) & (useful["clean"] <= 1)).all()
    assert useful["adversarial"].median() < useful["clean"].median()


def test_a_feature_that_names_its_class_is_as_useful_as_can_be():
    y = torch.arange(10).repeat(20)
    noise = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features = torch.stack([(y == 3).double(), -5.0 * (y == 4), noise], 1)
    clean, moved = channels.useful(features, features, y)
    assert clean[:2].tolist() == pytest.approx([1, 1]) and clean[2] < 0.3
    assert torch.equal(clean, moved)


def test_a_feature_that_an_attack_turns_to_another_class_misleads():
    """Usefulness keeps the class and the sign of the clean images."""
    y = torch.arange(200) % 10
    names, to_another = (y == 3).double(), (y == 4).double()
    before, after = torch.stack([names, names], 1), torch.stack([to_another, -names], 1)
    clean, moved = channels.useful(before, after, y)
    assert clean.tolist() == pytest.approx([1, 1])
    assert moved.tolist() == pytest.approx([-1 / 9, -1])


def test_moments_are_of_what_enters_a_layer(trained, digits):
    x = bnat.to_float(digits["test"][0][:30])
    with torch.no_grad():
        entering = trained.conv1(trained.normalize(x)).double()
        means, mean, variance = channels.moments(trained, x)
    n = entering.shape[1]
    assert torch.allclose(means[:, :n], entering.mean((2, 3)), atol=1e-5)
    assert torch.allclose(mean[:n], entering.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(variance[:n], entering.var((0, 2, 3), unbiased=False), atol=1e-4)


def test_gamma_and_beta_are_compared_with_where_the_run_started():
    tuned = child([0.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    table = bn_tables.gamma_beta_table({"tuned": (tuned, PARENT), "parent": (PARENT, None)})
    assert table.index.name == "model, 8 channels"
    shares = ["|γ| < 0.01 (%), before → after", "γ changed sign (%)", "β changed sign (%)"]
    assert table.loc["tuned", shares].tolist() == ["0.0 → 12.5", "12.5", "100.0"]
    assert table.loc["tuned", "below 2 % of the layer's largest |γ| (%)"] == "12.5"
    assert table.loc["tuned", "median β, before → after"] == "+0.50 → -0.50"
    assert table.loc["parent", "median β, before → after"] == "+0.00 → +0.50"
    assert table.loc["parent", "median |γ| by weight decay alone"] == "0.00"


@pytest.mark.parametrize("other", [dict(gamma_start="uniform"), dict(norm="weight"), dict(arch="a:make")])
def test_where_no_parent_and_no_usual_start_is_the_start_is_not_known(other):
    record = recorded([0.5] * 8, [0.0] * 8)
    record["run"] |= other
    assert bn_tables.gamma_beta_table({"random": (record, None)}).iloc[0]["γ changed sign (%)"] == "–"


def test_a_start_that_was_trained_anew_is_not_known():
    orphan = child([1.0] * 8) | dict(initial_weights="others")
    table = bn_tables.gamma_beta_table({"orphan": (orphan, PARENT)})
    assert table.loc["orphan", "median |γ|, before → after"] == "– → 1.00"
    assert bn_tables.suppression(PARENT, orphan).empty
    assert bn_tables.reading(PARENT, orphan) == "Not yet run."


def test_gammas_turned_down_with_fragility_correlate_with_it_in_each_layer():
    # halved once, twice, ... : in the second layer by the same order from another start
    tuned = child([0.5, 0.25, 0.125, 0.0625, 0.5, 0.25, 0.125, 0.125])
    table = bn_tables.suppression(PARENT, tuned)
    assert table.loc["fragility before", ["within layers", "channels"]].tolist() == ["-1.00", 8]


def test_the_reading_says_which_way_the_correlation_goes():
    down = bn_tables.reading(PARENT, child([0.5, 0.25, 0.2, 0.1, 0.5, 0.25, 0.1, 0.4]))
    up = bn_tables.reading(PARENT, child([0.1, 0.25, 0.2, 0.5, 0.1, 0.3, 0.25, 1.2]))
    none = bn_tables.reading(PARENT, child([0.1, 0.4, 0.8, 0.2, 0.2, 0.8, 0.1, 0.4]))
    assert "clear negative" in down and "the more fragile, the more γ was turned down." in down
    assert "clear positive" in up and "the more fragile, the less γ was turned down." in up
    assert "no certain correlation" in none and "of this one network independent) of" in none
    assert "100 % of the channels are moved less" in down
    # 10 updates at a mean rate of 1, momentum 0.9: e^-10
    assert down.endswith("would leave every |γ| at 4.5e-05 of what it was; 100 % end above that.")
    other = child([0.1, 0.25, 0.2, 0.5, 0.1, 0.3, 0.25, 1.2])
    rho = bn_tables.of_fragility(PARENT, other)
    said = bn_tables.reading(PARENT, other, [(PARENT, other), (PARENT, None)])
    assert f"ρ = {rho:+.2f} [{rho:+.2f}, {rho:+.2f}] over 2 seeds) of" in said, "both alike: no width"


def test_channels_that_training_cannot_change_show_what_another_attack_does():
    tuned = child([0.5, 0.25, 0.2, 0.1, 0.5, 0.25, 0.1, 0.4])
    moved = tuned["features"]["fragility"].copy()
    moved[:2], moved[4:] = moved[:2] + 10, moved[4:] + 10
    said = bn_tables.reading(PARENT, tuned | dict(features=tuned["features"] | dict(fragility=moved)))
    first = bn_tables.sizes(PARENT)[0]
    assert f"Of the {first} of the first layer, which" in said and ", 2 are moved more: there" in said


def test_the_feature_table_gives_medians_and_quartiles():
    row = bn_tables.feature_table({"a": PARENT}).loc["a"]
    assert (row.n, row.fragility) == (200, "2.50 [1.75, 3.25]")
    assert row["usefulness, adversarial"].startswith("0.10 [") and row["mislead under attack (%)"] == "25.0"
    without = bn_tables.feature_table({"a": PARENT | dict(usefulness=None)}).loc["a"]
    assert without["usefulness, clean"] == "not yet run"


def test_the_share_that_weight_decay_switches_off_is_said_with_its_control():
    random, bare = child([0.0] * 4 + [1.0] * 4), child([0.0, 1.0] + [1.0] * 6)
    # 10 updates at a mean rate of 1, momentum 0.9: e^-10 from 0.1 a step
    said = bn_tables.switched_off_sentence(random, None, None)
    assert "at lr 2, 50.0 % (seed 10); Frankle" in said
    assert said.endswith("from 1 to 5e-05 in that AT: enough to switch it off.")
    said = bn_tables.switched_off_sentence(random, child([1.0] * 8), bare)
    assert "clean training 0.0 % (seed 10), after AT without weight decay 12.5 % (seed 10);" in said
    random["run"]["lr"] = 0.1
    assert bn_tables.switched_off_sentence(random, None, None).endswith(
        "not enough to switch it off, unless gradients took it below 0.02 before."
    )
    assert bn_tables.switched_off_sentence(None, None, None) == "Not yet run."


def test_what_random_features_with_two_stages_started_from_is_not_the_standard_network():
    standard, clean = recorded([1.0] * 8, [0.0] * 8), recorded([-0.5] * 8, [0.0] * 8)
    first = {"standard": standard | dict(name="pretrain_a"), "bn_clean": clean | dict(name="scratch_a")}
    two = recorded([0.5] * 8, [0.0] * 8, parent="scratch_a") | dict(name="finetune_a")
    first["two_stages"] = two | dict(initial_weights=clean["weights"])
    pairs = select.with_parents(first)
    assert pairs["two_stages"][1]["name"] == "scratch_a" and pairs["standard"][1] is None
    table = bn_tables.gamma_beta_table(pairs)
    assert table.loc["BN-only AT after BN-only clean, random", "γ changed sign (%)"] == "100.0"
    left, right = bn_figures.bn_layers(pairs).axes[2:4]
    assert right.images[0].get_array().tolist()[2] == [100, 100]
    assert left.get_yticklabels()[2].get_text() == "BN-only AT after BN-only clean, random"
    orphan = {"two_stages": (first["two_stages"], None)}
    assert bn_tables.gamma_beta_table(orphan).iloc[0]["γ changed sign (%)"] == "–"
    shown = [axis.images[0].get_array() for axis in bn_figures.bn_layers(orphan).axes[:4]]
    assert [values.mask.all() for values in shown] == [False, False, False, True]
    assert len(bn_figures.bn_layers({}).axes[3].images) == 0
    plt.close("all")
