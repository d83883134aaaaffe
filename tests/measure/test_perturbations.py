"""Pictures of an attack: as large as the ball, of the right class, and what the network says of them."""

import pytest
import torch

from study.measure.perturbations import perturbations


@pytest.fixture(scope="module")
def pictured(trained, digits):
    return perturbations(trained, *(t[:3] for t in digits["test"]), eps=0.3)


def test_the_pictured_perturbation_reaches_the_edge_of_the_ball(pictured):
    assert pictured["gradient"].dtype == pictured["perturbation"].dtype == torch.int8
    assert pictured["gradient"].abs().amax((1, 2, 3)).tolist() == [127] * 3
    assert pictured["perturbation"].abs().max() == 127


def test_a_network_says_something_else_under_attack(pictured, digits):
    assert torch.equal(pictured["label"].long(), digits["test"][1][:3])
    assert torch.equal(pictured["clean"].argmax(1), digits["test"][1][:3])
    assert (pictured["adversarial"].argmax(1) != digits["test"][1][:3]).all()
    assert pictured["clean"].sum(1) == pytest.approx(torch.ones(3))
