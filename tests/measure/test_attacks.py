"""AutoAttack by its authors' package, a component at a time."""

import itertools

import pytest
import torch
from conftest import bnat
from pyautoattack import AutoAttack
from torch import nn

from study.measure import attacks


@pytest.fixture(scope="module")
def attacked(trained, digits):
    """The outcome of AutoAttack on some digits."""
    x, y = (t[:60] for t in digits["test"])
    return x, y, attacks.autoattack(trained, x, y, eps=32 / 255, batch_size=20)


def test_autoattack_s_parts_run_in_order_and_only_break_more(attacked):
    flags = list(attacked[2].values())
    assert tuple(attacked[2]) == attacks.AUTOATTACK
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(flags))


@pytest.mark.parametrize(
    "classes, parts",
    [
        (2, ["apgd-ce", "fab-t", "square"]),
        (3, ["apgd-ce", "fab-t", "square"]),
        (4, ["apgd-ce", "apgd-t", "fab-t", "square"]),
        (5, ["apgd-ce", "apgd-t", "fab-t", "square"]),
    ],
)
def test_autoattack_of_few_classes_runs_the_parts_that_have_a_target(classes, parts):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, classes)).to(bnat.DEVICE)
    x = 0.1 + 0.8 * torch.rand(40, 1, 8, 8, device=bnat.DEVICE)
    logits, weight = model(x).detach(), model[1].weight.detach()
    label = logits.argmax(1)
    survivors = attacks.autoattack(model, x, label, eps=0.02)
    assert list(survivors) == parts

    # of a linear classifier it is known: a margin falls by eps times the sum of its weights
    robust = torch.ones(40, dtype=torch.bool)
    for other in range(classes):
        room = logits.gather(1, label[:, None])[:, 0] - logits[:, other]
        reach = 0.02 * (weight[label] - weight[other]).abs().sum(1)
        robust &= ((room > reach) | (label == other)).cpu()
    assert torch.equal(survivors["square"], robust) and 0 < robust.sum() < 40
    assert torch.equal(attacks.worst_case(model, x, label, eps=0.02)["robust"], robust)


def test_the_worst_case_of_a_linear_classifier_ends_where_a_pixel_does(digits):
    """The image that takes every pixel as far as it goes against one class is the worst for that class."""
    x, y = (t[:100] for t in digits["test"])  # most pixels are black: they have no way down
    model, eps = bnat.network("linear", "digits"), 8 / 255
    for _ in bnat.train(model, *digits["train"], epochs=2, lr=0.1, pad=1, flip=False):
        pass
    images, weight = bnat.to_float(x), model.fc.weight.detach().unflatten(1, (1, 8, 8))
    survived = torch.ones(100, dtype=torch.bool)
    with torch.no_grad():
        for other in range(10):
            direction = (weight[other] - weight[y]).sign()
            logits = model((images + eps * direction).clamp(0, 1))
            right = logits.gather(1, y[:, None])[:, 0] > logits[:, other]
            survived &= (right | (y == other)).cpu()
    kept = attacks.worst_case(model, x, y, eps=eps)["robust"]
    assert torch.equal(kept, survived) and 0 < kept.sum() < 100
    pgd = bnat.evaluate(model, x, y, eps=eps)
    r = bnat.multi_targeted(model, x, y, eps=eps, alive=pgd["robust"])
    assert not (kept & ~r).any(), "what survives everything survives an attack"


@pytest.mark.slow
def test_autoattack_is_the_package_s(trained, attacked):
    x, y, ours = attacked
    package = AutoAttack(trained, norm="Linf", eps=32 / 255, version="standard", seed=0, device=y.device)
    package.verbose = False
    adv, _ = package.run_standard_evaluation(bnat.to_float(x), y, batch_size=20)
    with torch.no_grad():
        assert torch.equal((trained(adv).argmax(1) == y).cpu(), ours["square"])


def test_r_at_a_radius_is_taken_by_gradients_of_the_type_that_is_asked_for(trained, digits, monkeypatch):
    types, fold = [], bnat.fold_bn

    def watched(model, dtype=torch.float32, *rest, **named):
        types.append(dtype)
        return fold(model, dtype, *rest, **named)

    monkeypatch.setattr(bnat, "fold_bn", watched)
    monkeypatch.setattr(bnat, "fast_dtype", lambda: torch.bfloat16)
    x, y = (t[:20] for t in digits["test"])
    rounded = attacks.at_radii(trained, x, y, [8], steps=2)
    exact = attacks.at_radii(trained, x, y, [8], steps=2, dtype=torch.float32)
    assert types == [torch.bfloat16] * 2 + [torch.float32] * 2, "PGD and the multi-targeted one, twice"
    assert torch.equal(rounded["0"], exact["0"]), "decisions are in float32"
