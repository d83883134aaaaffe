"""Pictures of an attack: as large as the ball, of the right class, and what the network says of them."""

import pytest
import torch
from conftest import bnat

from study.measure.perturbations import perturbations


@pytest.fixture(scope="module")
def three(trained, digits):
    """Three test images that the network has right; which it has hangs on how the machine rounds."""
    right = bnat.evaluate(trained, *digits["test"], eps=0)["clean"].nonzero().squeeze(1)[:3]
    return [t[right] for t in digits["test"]]


@pytest.fixture(scope="module")
def pictured(trained, three):
    return perturbations(trained, *three, eps=0.3)


def test_the_pictured_perturbation_reaches_the_edge_of_the_ball(pictured):
    assert pictured["gradient"].dtype == pictured["perturbation"].dtype == torch.int8
    assert pictured["gradient"].abs().amax((1, 2, 3)).tolist() == [127] * 3
    assert pictured["perturbation"].abs().max() == 127


def test_a_network_says_something_else_under_attack(pictured, three):
    _, labels = three
    assert torch.equal(pictured["label"].long(), labels)
    assert torch.equal(pictured["clean"].argmax(1), labels)
    assert (pictured["adversarial"].argmax(1) != labels).all()
    assert pictured["clean"].sum(1) == pytest.approx(torch.ones(3))
