"""The checks against gradient masking, and what is measured of BN."""
import copy

import numpy as np
import pytest
import torch
from conftest import bnat

RUN = bnat.experiment("pretrain")["run"]


def judged(model, digits, n=100):
    """The verdicts of `trust` on a network, by way of what a record would hold."""
    exp = bnat.experiment("pretrain", epsilon=32, eval_epsilon=16, eval_images=n, eval_restarts=1, aa_images=n, check_images=n)
    record = dict(run=exp["run"]) | dict.fromkeys(("pgd", "autoattack", "curve", "checks"))
    for settings in exp["evaluations"].values():
        if settings["kind"] in record:
            result = bnat._measure(model, digits, settings, seed=0, state=None)
            record[settings["kind"]] = bnat._decode({key: bnat._encode(value) for key, value in result.items()} | dict(settings=settings))
    return bnat.trust(record)


@pytest.fixture(scope="module")
def honest(trained, digits):
    return judged(trained, digits)


def test_an_honest_network_is_not_suspect(honest):
    assert honest.index.size == 11 and set(honest.verdict.drop("own PGD → strongest transfer")) == {"as expected"}, honest.to_string()


@pytest.mark.parametrize("scale", [100, 1e5])
def test_scaled_logits_are_suspect(trained, digits, scale):
    """Large logits saturate the softmax: the gradient of most (all) correct images is exactly 0, and PGD on the cross-entropy is blind."""
    masked = copy.deepcopy(trained)
    with torch.no_grad():
        masked.fc.weight *= scale
        masked.fc.bias *= scale
    x = bnat.to_float(digits["test"][0])
    assert torch.equal(masked(x).argmax(1), trained(x).argmax(1)), "the same classifier"
    found = judged(masked, digits)
    suspect = set(found.index[found.verdict == "SUSPECT"])
    seen = {"unbounded PGD", "loss rises more along the gradient"}
    assert (seen | {"PGD-20 of 10 restarts → Square alone"} if scale > 100 else seen) <= suspect, found.to_string()


def test_quantised_inputs_are_suspect(trained, digits, monkeypatch):
    """Rounding has gradient 0 everywhere: no gradient attack finds what Square finds."""
    masked, normalize = copy.deepcopy(trained), bnat.Normalize.forward
    monkeypatch.setattr(bnat.Normalize, "forward", lambda self, x: normalize(self, (8 * x).round() / 8))
    found = judged(masked, digits)
    suspect = set(found.index[found.verdict == "SUSPECT"])
    assert {"PGD-20 of 10 restarts → Square alone", "unbounded PGD", "loss rises more along the gradient"} <= suspect, found.to_string()


@pytest.mark.parametrize("survivors, verdict", [(61, "as expected"), (59, "SUSPECT"), (83, "SUSPECT")])
def test_autoattack_far_below_or_above_pgd_is_suspect(survivors, verdict):
    pgd, aa = np.arange(100) < 80, np.arange(100) < survivors
    record = dict(run=RUN, pgd=dict(robust=pgd, clean_predictions=[10] * 10), autoattack={"robust": aa, "fab-t": aa}, curve=None, checks=None)
    assert bnat.trust(record).verdict["PGD → AutoAttack"] == verdict


def test_a_stronger_transfer_is_suspect(honest):
    flags = np.arange(100) < 50
    record = dict(run=RUN, pgd=dict(robust=flags, clean_predictions=[10] * 10), autoattack=None, curve=None, checks=None)
    row = "own PGD → strongest transfer"
    assert bnat.trust(record, [flags, np.arange(100) < 40]).loc[row, ["measured", "verdict"]].tolist() == ["50.0 → 40.0", "SUSPECT"]
    assert bnat.trust(record, [flags, np.arange(50) < 49]).verdict[row] == "as expected"
    others = bnat.trust(record).verdict
    assert set(others) == {"not yet run"}, "what was not measured has no verdict"


def test_a_constant_classifier_gets_no_verdict():
    flags, row = np.arange(100) < 10, "PGD → AutoAttack"
    for most, verdict in ((91, "constant"), (90, "as expected")):
        record = dict(run=RUN, pgd=dict(robust=flags, clean_predictions=[most, 100 - most]), autoattack={"robust": flags, "fab-t": flags}, curve=None, checks=None)
        assert bnat.trust(record).verdict[row] == verdict


def test_loss_landscape(trained, digits):
    x, y = digits["test"][0][:50], digits["test"][1][:50]
    surface, steepest = bnat.loss_landscape(trained, x, y, eps=0.1, points=5)
    with torch.no_grad():
        centre = torch.nn.functional.cross_entropy(trained(bnat.to_float(x)), y)
    assert surface[2, 2].item() == pytest.approx(centre.item(), rel=1e-4)
    assert surface[4, 2] > surface[2, 2] > surface[0, 2], "up the gradient is up"
    assert steepest.shape == (50,)


def test_features_do_not_move_without_an_attack(trained, digits):
    x, y = digits["test"][0][:200], digits["test"][1][:200]
    still, moved = (bnat.bn_features(trained, x, y, eps=eps) for eps in (0, 32 / 255))
    channels = sum(m.num_features for m in trained.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert all(moved[key].shape == (channels,) for key in ("fragility", "useful_clean", "useful_adversarial", "shift", "variance_ratio"))
    assert (still["fragility"] == 0).all() and (still["shift"] == 0).all() and (still["variance_ratio"] == 1).all()
    assert torch.equal(still["useful_clean"], still["useful_adversarial"])
    assert (moved["fragility"] > 0).all() and ((moved["useful_clean"] > 0) & (moved["useful_clean"] <= 1)).all()
    assert moved["useful_adversarial"].median() < moved["useful_clean"].median()
    assert moved["gradient"].dtype == torch.int8 and moved["perturbation"].abs().max() == 127  # the ε-ball's edge
