"""Readouts of 07 and 08: on networks whose answer is known."""

import copy

import numpy as np
import pytest
import torch
from conftest import bnat
from torch import nn

from study.measure import attacks, norms
from study.show import norm_tables


@pytest.fixture
def images(digits):
    return bnat.to_float(digits["test"][0][:256])


def test_the_gradients_of_a_linear_function_point_the_same_way_everywhere(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    x, y = (t[:50] for t in digits["test"])
    with torch.no_grad():
        model[1].weight[2:] = 0  # two classes that matter: the gradient is a multiple of one vector
        model[1].bias[2:] = -100
    assert norms.smoothness(model, x, y % 2).min() > 0.9999


def test_gradients_that_change_within_the_noise_are_told(digits):
    class Rough(nn.Module):
        def forward(self, x):
            wave = torch.sin(1e4 * x.flatten(1)).sum(1, keepdim=True)
            return torch.cat([wave, -wave, x.new_zeros(len(x), 8)], 1)

    x, y = (t[:50] for t in digits["test"])
    assert norms.smoothness(Rough(), x, y % 2).abs().mean() < 0.3


def test_statistics_of_the_images_themselves_do_not_disagree(trained, images):
    model = norms.with_statistics_of(trained, images[:128])
    mean, deviation = norms.disagreement(model, images[:128])
    assert mean.max() < 1e-3 and deviation.max() < 0.01  # unbiased against biased variance


def test_a_shifted_running_mean_is_measured_in_standard_deviations(trained, images):
    model = norms.with_statistics_of(trained, images[:128])
    with torch.no_grad():
        model.bn1.running_mean += 0.5 * model.bn1.running_var.sqrt()
        model.bn1.running_var *= 4
    mean, deviation = norms.disagreement(model, images[:128])
    assert mean[0] == pytest.approx(0.5, rel=0.01) and deviation[0] == pytest.approx(1, rel=0.01)


def test_batches_scatter_as_much_as_their_size_makes_them(trained, digits):
    """A mean of n independent values is off by sd / √n; of 10 batches the others' mean adds a tenth."""
    model, draw = copy.deepcopy(trained), torch.Generator().manual_seed(0)
    x = torch.rand(1280, *digits["test"][0].shape[1:], generator=draw).to(bnat.DEVICE)
    mean, _ = norms.scatter(model, x)
    pixels = x[0].numel()  # what enters the first layer is a convolution of so many independent pixels
    assert 0.1 < mean[0] * (128 * pixels) ** 0.5 < 3
    again, _ = norms.scatter(model, x[:128].repeat(10, 1, 1, 1))
    assert again.max() < 1e-4  # ten times the same batch


def test_of_right_running_statistics_nothing_is_left_beyond_the_noise(trained, digits):
    x, y = (t[:1280] for t in digits["train"])
    model = norms.with_statistics_of(trained, bnat.to_float(x))
    right = norms.gap(model, x, y, eps=0.0, pad=0, flip=False)
    with torch.no_grad():
        model.bn1.running_mean += 0.5 * model.bn1.running_var.sqrt()
    wrong = norms.gap(model, x, y, eps=0.0, pad=0, flip=False)
    assert abs(norm_tables.excess(right, "mean", "clean")).max() < 0.01
    assert norm_tables.excess(wrong, "mean", "clean")[0] == pytest.approx(0.5, abs=0.05)


def test_images_are_alike_inside_by_their_cosine():
    """Two images of three point the same way, the third away at a right angle: one pair of three is alike."""
    model = nn.Sequential(nn.Identity(), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2)).eval()
    x = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 1.0]])[:, :, None, None]
    bn, head = norms.likeness(model, x)
    assert bn == pytest.approx(1 / 3) and head == pytest.approx(1 / 3)
    with torch.no_grad():
        model[1].weight.zero_()  # nothing but β, the same for all, is left
        model[1].bias.fill_(1)
    assert norms.likeness(model, x).tolist() == pytest.approx([1 / 3, 1])
    x[2] = 0  # has no direction: the pair that is left is alike
    assert norms.likeness(model, x)[0] == pytest.approx(1)
    with torch.no_grad():
        model[1].bias.zero_()
    assert norms.likeness(model, x)[1].isnan()


def test_condensation_is_that_of_batches_clean_and_attacked(trained, digits):
    x, y = (t[:256] for t in digits["test"])
    found = norms.condensation(trained, x, y, eps=32 / 255)
    halves = [norms.likeness(trained, bnat.to_float(part)) for part in x.split(128)]
    torch.testing.assert_close(found["clean"], (halves[0] + halves[1]) / 2)
    assert len(found["clean"]) == len(norms.bn_layers(trained)) + 1
    assert not torch.equal(found["clean"], found["adversarial"])


def test_a_readout_leaves_the_network_as_it_was(trained, digits):
    before = copy.deepcopy(trained.state_dict())
    norms.readouts(trained, *(t[:50] for t in digits["test"]))
    after = trained.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before) and not trained.training


def test_a_channel_that_never_fires_is_seen(trained, images):
    model = copy.deepcopy(trained)
    with torch.no_grad():
        model.bn1.weight[1], model.bn1.bias[1] = 0, -1
    low, high = norms.ranges(model, images)
    assert (low[1], high[1]) == (-1, -1) and high[0] > low[0]


def test_a_network_without_bn_has_its_smoothness_alone(digits):
    found = norms.readouts(bnat.network("linear", "digits"), *(t[:20] for t in digits["test"]))
    assert list(found) == ["ligs"]


def test_statistics_of_other_images_change_the_accuracy(trained, digits):
    x, y = (t[:50] for t in digits["test"])
    found = norms.by_source(trained, (torch.zeros_like(x).repeat(6, 1, 1, 1), y.repeat(6)), x, y, eps=8 / 255)
    assert (
        found["clean clean"].float().mean()
        < 0.5
        < bnat.evaluate(trained, x, y, eps=0)["clean"].float().mean()
    )
    assert (found["R clean"] <= found["clean clean"]).all() and len(found) == 6


def test_r_falls_with_the_radius_from_clean_accuracy_on(trained, digits):
    x, y = (t[:100] for t in digits["test"])
    found = attacks.at_radii(trained, x, y, [1, 8, 32])
    assert list(found) == ["0", "1", "8", "32"]
    assert torch.equal(found["0"], bnat.evaluate(trained, x, y, eps=0)["clean"])
    rates = [flags.float().mean() for flags in found.values()]
    assert rates == sorted(rates, reverse=True) and rates[-1] < rates[0]
    weak = attacks.at_radii(trained, x, y, [32], steps=0)["32"].float().mean()
    assert weak > rates[-1]


def test_a_tuning_run_that_did_not_take_off_is_marked_beside_its_gammas():
    def tuned(loss, epsilon=8.0):
        run, bn = dict(epsilon=epsilon, data="cifar10"), {"bn1": dict(gamma=[0.0, 1.0], beta=[0.0, 0.0])}
        return dict(run=run, bn=bn, history=[dict(train_loss=loss)])

    points = {0.2: {1: tuned(2.3)}, 0.8: {1: tuned(2.1), 2: tuned(2.3)}}
    table = norm_tables.gamma_table({"random": points})
    assert table["took off"].tolist() == ["0 of 1", "1 of 2"]
    assert table.iloc[0, 0] == "50.0 (1)"


def networks_with_a_gap(beyond):
    """One trained adversarially, with so much TID beyond the noise in its last layer; one trained clean."""
    gap = {f"floor_{of}_adversarial": np.full(3, 0.1) for of in ("mean", "deviation")}
    gap |= {f"tid_{of}_adversarial": 0.1 + np.array([9, 0, beyond]) for of in ("mean", "deviation")}
    return {key: dict(gap=gap, run=dict(epsilon=eps)) for key, eps in (("at", 8.0), ("standard", 0.0))}


@pytest.mark.parametrize(
    "beyond, said", [(0.04, "0.040. None of these is above 0.05, from which"), (0.06, "is worth a try.")]
)
def test_a_gap_is_worth_a_penalty_after_the_first_layer_and_the_noise(beyond, said):
    networks = networks_with_a_gap(beyond)
    assert said in norm_tables.said_of_disagreement(networks)
    assert norm_tables.said_of_disagreement({"standard": networks["standard"]}) == "Not yet run."


def test_statistics_of_other_images_stand_beside_the_network_s_own():
    flags, other = np.arange(10) < 4, np.arange(5) < 1
    measured = {f"{key} {source}": other for key in ("clean", "R") for source in norms.SOURCES}
    measured |= {"R half": np.arange(5) < 3, "settings": dict(images=5)}
    record = dict(statistics=measured, run=dict(epsilon=8), pgd=dict(clean=flags), margin=None)
    table = norm_tables.source_table({"at": record})
    own = table.loc["AT, all weights: its own"]
    assert own["clean % (n)"].startswith("80.0 [") and own["R % (n)"] == "not yet run"
    assert table.loc["AT, all weights: half", "R % (n)"].startswith("60.0 [")
    measured["clean adversarial"] = np.arange(5) < 0
    said = norm_tables.said_of_sources({"at": record, "standard": record | dict(run=dict(epsilon=0))})
    assert "; Standard training -20.0 [" in said
    assert (
        "In the 1 networks trained adversarially R differs among the sources by at most 40.0 points" in said
    )
    clean = norm_tables.said_of_sources({"standard": record | dict(run=dict(epsilon=0))})
    assert clean.endswith("]."), "nothing of R where it is 0"
    assert norm_tables.said_of_sources({}) == "Not yet run."


def test_smoothness_is_a_mean_over_seeds_with_what_did_not_take_off_apart():
    def smooth(ligs, loss=2.1):
        run = dict(epsilon=8.0, data="cifar10")
        return dict(norms=dict(ligs=np.array([ligs, ligs + 0.1])), run=run, history=[dict(train_loss=loss)])

    rows = {"random": {10: smooth(0.4, 2.3), 11: smooth(0.8), 12: smooth(0.9)}, "at": {10: smooth(0.7)}}
    rows["at"][11] = rows["at"][10] | dict(norms=None)
    table = norm_tables.smoothness_table(rows)
    arm = "BN-only AT, random features"
    assert table.index.tolist() == [f"{arm}, took off", f"{arm}, did not", "AT, all weights"]
    assert table.iloc[:, 0].tolist() == ["0.900 ± 0.071 (2)", "0.450 (1)", "0.750 (1)"]
    assert table.iloc[0, 1:].tolist() == ["0.90 [0.88, 0.93]", "2"]


def test_condensation_says_which_trainings_took_off():
    measured = dict(clean=np.array([0.1, 0.2, 0.6, 0.9]), adversarial=np.array([0.1, 0.2, 0.6, 0.95]))
    stayed, clean = (
        dict(
            condensation=found,
            run=dict(epsilon=eps, data="cifar10", trainable="?"),
            history=[dict(train_loss=2.3)],
        )
        for found, eps in ((measured, 8.0), (measured, 0.0))
    )
    rows = {"random": {10: stayed, 11: stayed | dict(condensation=None)}, "standard": {10: clean}}
    table = norm_tables.condensation_table(rows)
    assert table["training"].tolist() == ["did not take off", "clean"]
    said = ["0.10", "0.20", "0.90", "0.95"]
    assert table.iloc[0, 1:].tolist() == said
    rows["random"] |= {12: stayed | dict(history=[dict(train_loss=2.1)])}
    said = norm_tables.said_of_condensation(rows)
    arm = "BN-only AT, random features"
    assert f"{arm}, took off 0.90 (1); {arm}, did not 0.90 (1)" in said
    assert said.endswith("; Standard training 0.90 (1).")
    for seeds, part in ((rows["random"], "bn"), (rows["standard"], "all")):
        for record in seeds.values():
            record["run"] = record["run"] | dict(trainable=part)
    said = norm_tables.said_of_condensation(rows)
    assert said.endswith("take off: BN alone trained 0.90 to 0.90 (1), all weights 0.90 to 0.90 (1).")
    assert norm_tables.said_of_condensation({"random": {}}) == "Not yet run."


def test_small_gammas_of_both_arms_are_compared_at_the_same_rate():
    def tuned(*gamma, loss=2.1):
        run = dict(bn={"bn1": dict(gamma=np.array(gamma))}, run=dict(data="cifar10"))
        return {1: run | dict(history=[dict(train_loss=loss)])}

    arms = {
        "finetuned": {0.2: tuned(0.0, 1.0), 0.8: tuned(0.0, 0.0)},
        "random": {0.8: tuned(1.0, 1.0, 0.0, 0.0)},
    }
    said = norm_tables.said_of_gamma(arms)
    assert said == "At the same rate, % (seeds): at 0.8 trained features 100.0 (1), random ones 50.0 (1)."
    arms["random"][0.2] = tuned(1.0, 1.0, loss=2.3)  # it did not take off
    assert norm_tables.said_of_gamma(arms) == said
    arms["random"][0.8][2] = tuned(0.0, 0.0)[1]  # a seed that the other arm has not
    assert norm_tables.said_of_gamma(arms) == said
    assert norm_tables.said_of_gamma({}) == "Not yet run at the same rate."


def test_dead_channels_are_counted_where_a_relu_follows():
    layers = {"bn1": [1.0, 0.001], "layer1_0.bn2": [0.0, 2.0]}
    measured = dict(lowest=np.array([-1, -2, 0, -1.0]), highest=np.array([0, 1, 0, -0.5]))
    record = dict(norms=measured, bn={path: dict(gamma=gamma) for path, gamma in layers.items()})
    row = norm_tables.collapsed_table({"at": record}).loc["AT, all weights"]
    assert row["channels before a ReLU"] == 2 and row["of these never above 0 (%)"] == "50.0"
    assert row["of these the same for every image (%)"] == "25.0" and row["|γ| < 0.01 (%)"] == "50.0"
