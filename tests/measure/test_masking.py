"""The checks against gradient masking: planted networks are found, an honest one is not, rules hold."""

import copy

import numpy as np
import pyautoattack.autoattack
import pytest
import torch
from conftest import bnat

from study.decide import trust
from study.measure import attacks, masking

RUN = dict(data="digits")
EPS = 16 / 255
SQUARE = "PGD-20 of 2 restarts → Square alone"
MULTI = "PGD, then multi-targeted → Square alone"
UNBOUNDED, UNBOUNDED_MARGIN = "unbounded PGD", "unbounded PGD, then multi-targeted"
STEEPEST = "loss rises more along the gradient"
TRANSFER = "own PGD → strongest transfer"


class ShortSquare(pyautoattack.autoattack.SquareAttack):
    """Square of 300 queries: enough for 8x8 images."""

    def perturb(self, *arguments, **settings):
        self.n_queries = 300
        return super().perturb(*arguments, **settings)


@pytest.fixture(scope="module", autouse=True)
def short():
    """Attacks of seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyautoattack.autoattack, "SquareAttack", ShortSquare)
        patch.setattr(masking, "CHECK_STEPS", (1, 20))
        patch.setattr(masking, "CHECK_RESTARTS", 2)
        yield


def planted(pgd=None, **evaluations):
    """A record of nothing but the outcomes given."""
    record = dict(run=RUN) | dict.fromkeys(("pgd", "margin", "autoattack", "curve", "checks"))
    if pgd is not None:
        record["pgd"] = dict(robust=pgd, clean_predictions=[10] * 10, settings={})
    return record | {kind: dict(settings={}) | found for kind, found in evaluations.items()}


def measured(model, digits, n=200):
    """A record of what PGD, multi-targeted PGD and the checks measure on a network."""
    torch.manual_seed(0)
    x, y = (t[:n] for t in digits["test"])
    pgd = bnat.evaluate(model, x, y, eps=EPS)
    robust = bnat.multi_targeted(model, x, y, eps=EPS, alive=pgd["robust"])
    found = {name: flags.numpy() for name, flags in masking.check_attacks(model, x, y, eps=EPS).items()}
    return planted(pgd["robust"].numpy(), margin=dict(robust=robust.numpy()), checks=found)


def scaled(model, factor):
    """The same classifier with larger logits."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        masked.fc.weight *= factor
        masked.fc.bias *= factor
    return masked


def suspects(table):
    return set(table.index[table.verdict == "suspect"])


def first(share, n=200):
    """Outcomes of n images, of which the first `share` percent survive."""
    return np.arange(n) < n * share / 100


# ---------------------------------------------------------------------------------------- planted networks
@pytest.fixture(scope="module")
def blind(trained, digits):
    """Logits so large that the softmax saturates: the cross-entropy has no gradient on most images."""
    return trust.trust(measured(scaled(trained, 1e5), digits))


def test_an_honest_network_is_not_suspect(trained, digits, monkeypatch):
    monkeypatch.setattr(masking, "CHECK_STEPS", (1, 5, 20, 200))
    record = measured(trained, digits)
    x, y = (t[100:160] for t in digits["test"])
    # without FAB, which takes the longest and nothing that APGD has left
    aa = attacks.autoattack(trained, x, y, eps=EPS, components=("apgd-ce", "apgd-t"))
    left = aa["apgd-t"].numpy()
    record["autoattack"] = {"robust": left, "fab-t": left, "settings": dict(index=list(range(100, 160)))}
    radii = [bnat.evaluate(trained, x, y, eps=factor * EPS)["robust"].numpy() for factor in (0, 1, 2, 8)]
    record["curve"] = dict(robust=np.stack(radii), settings=dict(epsilons=[0, 32, 64, 256]))
    table = trust.trust(record, [first(75)])
    assert table.index.size == 13
    assert set(table.verdict) == {"as expected"}, table.to_string()


def test_scaled_logits_are_suspect(blind):
    assert {SQUARE, UNBOUNDED, STEEPEST} <= suspects(blind), blind.to_string()


def test_a_loss_that_is_saturated_is_not_called_masked_by_the_margin(blind):
    assert suspects(blind).isdisjoint({MULTI, UNBOUNDED_MARGIN}), blind.to_string()


def test_the_unbounded_attack_sees_scaled_logits_that_its_radius_hides(trained, digits):
    x, y = (t[:100] for t in digits["test"])
    masked = scaled(trained, 100)
    images = attacks.adversarial(masked, x, y, eps=1, step_size=8 / 255, steps=100, random_start=False)
    left = bnat.evaluate(masked, images, y, eps=0)["clean"].numpy()
    table = trust.trust(planted(checks=dict(square=left, unbounded=left)))
    assert table.verdict[UNBOUNDED] == "suspect", table.to_string()


def test_quantised_inputs_are_suspect(trained, digits, monkeypatch):
    """Rounding has gradient 0 everywhere: no gradient attack finds what Square finds."""
    normalize = bnat.Normalize.forward
    monkeypatch.setattr(bnat.Normalize, "forward", lambda self, x: normalize(self, (8 * x).round() / 8))
    table = trust.trust(measured(copy.deepcopy(trained), digits))
    assert {SQUARE, MULTI, UNBOUNDED, UNBOUNDED_MARGIN} <= suspects(table), table.to_string()


def test_multi_targeted_pgd_breaks_what_a_saturated_cross_entropy_cannot(trained, digits):
    x, y = (t[:200] for t in digits["test"])
    eps, masked = 64 / 255, scaled(trained, 1e5)
    found = bnat.evaluate(masked, x, y, eps=eps)
    left = bnat.multi_targeted(masked, x, y, eps=eps, alive=found["robust"])
    assert found["robust"].sum() > 0.9 * found["clean"].sum()
    assert left.sum() < 0.05 * found["clean"].sum()


# ------------------------------------------------------------------------------------------------ the rules
@pytest.mark.parametrize("survivors, verdict", [(60, "as expected"), (81, "as expected"), (83, "suspect")])
def test_autoattack_is_suspect_where_it_certainly_leaves_more_than_pgd(survivors, verdict):
    aa = {"robust": first(survivors), "fab-t": first(survivors)}
    table = trust.trust(planted(first(80), autoattack=aa))
    assert table.verdict["PGD → AutoAttack"] == verdict, table.to_string()


def test_more_images_make_a_small_difference_certain():
    for n, verdict in ((200, "as expected"), (10000, "suspect")):
        aa = {"robust": first(51, n), "fab-t": first(51, n)}
        assert trust.trust(planted(first(50, n), autoattack=aa)).verdict["PGD → AutoAttack"] == verdict


def test_a_random_subset_is_compared_with_its_own_images():
    images = np.arange(150, 350)  # of which PGD saw the first 50
    aa = {"robust": images < 170, "fab-t": images < 170, "settings": dict(index=images.tolist())}
    row = trust.trust(planted(np.arange(200) < 160, autoattack=aa)).loc["PGD → AutoAttack"]
    assert (row.measured, row.n, row.verdict) == ("20.0 → 40.0", 50, "suspect")


def test_two_attacks_that_share_few_images_have_no_verdict():
    images = np.arange(181, 381)  # of which PGD saw the first 19
    aa = {"robust": images > 0, "fab-t": images > 0, "settings": dict(index=images.tolist())}
    record = planted(np.arange(200) < 160, autoattack=aa)
    row = trust.trust(record).loc["PGD → AutoAttack"]
    assert (row.measured, row.n, row.verdict) == ("0.0 → 100.0", 19, "too few images")
    constant = trust.trust(record | dict(pgd=record["pgd"] | dict(clean_predictions=[200, 0])))
    assert constant.verdict["PGD → AutoAttack"] == "too few images"


@pytest.mark.parametrize("square, verdict", [(60, "as expected"), (49, "as expected"), (45, "suspect")])
def test_square_is_suspect_where_it_certainly_leaves_less_than_the_white_box(square, verdict):
    found = trust.trust(planted(margin=dict(robust=first(50)), checks=dict(square=first(square))))
    assert found.verdict[MULTI] == verdict


def test_one_survivor_of_an_unbounded_attack_is_suspect():
    for survivors, verdict in ((0, "as expected"), (1, "suspect")):
        flags = np.arange(500) < survivors
        table = trust.trust(planted(checks=dict(square=flags, unbounded=flags)))
        assert table.verdict[UNBOUNDED] == verdict


def test_a_record_of_before_the_margin_has_no_verdict_on_it():
    table = trust.trust(planted(checks=dict(square=first(10), unbounded=first(0))))
    assert table.verdict[[UNBOUNDED, UNBOUNDED_MARGIN]].tolist() == ["as expected", "not yet run"]


@pytest.mark.parametrize("steeper, verdict", [(90, "as expected"), (45, "as expected"), (40, "suspect")])
def test_a_gradient_that_loses_to_random_signs_is_suspect(steeper, verdict):
    table = trust.trust(planted(checks=dict(square=first(10), steepest=first(steeper))))
    assert table.verdict[STEEPEST] == verdict


@pytest.mark.parametrize(
    "rates, verdict",
    [((80, 40, 1), "as expected"), ((80, 40, 41, 1), "as expected"), ((80, 40, 50, 1), "suspect"),
     ((80, 40, 12), "as expected"), ((80, 40, 20), "suspect")],
)  # fmt: skip
def test_a_curve_is_suspect_where_it_certainly_rises_or_ends_above_chance(rates, verdict):
    curve = dict(robust=np.stack([first(rate) for rate in rates]), settings=dict(epsilons=[0, 32, 128]))
    row = trust.trust(planted(curve=curve)).iloc[-1]
    assert row.verdict == verdict
    if rates == (80, 40, 50, 1):  # what makes it suspect, not the last less the first
        assert row.difference.startswith("+10.0 [")


def test_a_curve_that_ends_at_a_small_radius_may_end_above_chance():
    """ε = 2/255: even four times that leaves more than chance of an honest network."""
    curve = dict(robust=np.stack([first(80), first(40)]), settings=dict(epsilons=[0, 8]))
    row = trust.trust(planted(curve=curve)).iloc[-1]
    assert (row.expected, row.verdict) == ("falls with ε", "as expected")


def test_a_stronger_transfer_is_suspect():
    row = trust.trust(planted(first(50)), [first(50), first(40)]).loc[TRANSFER]
    assert (row.measured, row.verdict) == ("50.0 → 40.0", "suspect")


def test_a_transfer_on_fewer_images_is_compared_on_those():
    row = trust.trust(planted(first(50)), [np.arange(100) < 99]).loc[TRANSFER]
    assert (row.measured, row.n, row.verdict) == ("100.0 → 99.0", 100, "as expected")


def test_the_difference_has_its_paired_interval():
    table = trust.trust(planted(first(50)), [first(40)])
    assert table.difference[TRANSFER] == "-10.0 [-14.1, -5.7]"


def test_what_was_not_measured_has_no_verdict():
    assert set(trust.trust(planted(first(50))).verdict) == {"not yet run"}


@pytest.mark.parametrize("most, verdict", [(91, "constant"), (90, "suspect")])
def test_a_constant_classifier_gets_no_verdict(most, verdict):
    record = planted(first(10), autoattack={"robust": first(20), "fab-t": first(20)})
    record["pgd"]["clean_predictions"] = [most, 100 - most]
    assert trust.trust(record).verdict["PGD → AutoAttack"] == verdict


@pytest.mark.parametrize("most, verdict", [(930, "suspect"), (995, "constant")])
def test_a_network_is_not_constant_for_classes_that_are_unequal(monkeypatch, most, verdict):
    info = bnat.DATASETS[RUN["data"]] | dict(classes=2, chance=0.93)
    monkeypatch.setitem(bnat.DATASETS, RUN["data"], info)
    record = planted(first(10), autoattack={"robust": first(20), "fab-t": first(20)})
    record["pgd"]["clean_predictions"] = [most, 1000 - most]
    assert trust.trust(record).verdict["PGD → AutoAttack"] == verdict


# --------------------------------------------------------------------------------------------- measurements
def test_the_loss_landscape_rises_along_the_gradient_from_the_clean_loss(trained, digits):
    x, y = (t[:50] for t in digits["test"])
    surface, steepest = masking.loss_landscape(trained, x, y, eps=0.1, points=5)
    with torch.no_grad():
        centre = torch.nn.functional.cross_entropy(trained(bnat.to_float(x)), y)
    assert surface[2, 2].item() == pytest.approx(centre.item(), rel=1e-4)
    assert surface[4, 2] > surface[2, 2] > surface[0, 2]
    assert steepest.shape == (50,)


def test_adversarial_images_stay_in_the_ball_whatever_the_batch(trained, digits, monkeypatch):
    x, y = (t[:50] for t in digits["test"])
    settings = dict(eps=EPS, steps=5, random_start=False)
    whole = attacks.adversarial(trained, x, y, **settings)
    monkeypatch.setattr(bnat, "EVAL_BATCH", 20)
    assert torch.equal(whole, attacks.adversarial(trained, x, y, **settings))
    assert (whole - bnat.to_float(x)).abs().max() <= EPS + 1e-6
