"""What stands in BN's place: that each is what it is called."""

import pytest
import torch
from conftest import bnat
from torch import nn

from study.define.experiment import experiment
from study.define.normalisations import Affine, network


def test_group_layer_and_instance_normalisation_have_the_groups_of_their_names():
    groups = {}
    for norm in ("group", "layer"):
        layers = [
            m for m in network("resnet20", "cifar10", norm=norm).modules() if isinstance(m, nn.GroupNorm)
        ]
        groups[norm] = {m.num_channels // m.num_groups for m in layers}, {m.num_groups for m in layers}
    assert groups["group"][0] == {8} and groups["layer"][1] == {1}
    instance = network("resnet20", "cifar10", norm="instance").modules()
    layers = [m for m in instance if isinstance(m, nn.InstanceNorm2d)]
    assert layers and all(m.affine and not m.track_running_stats for m in layers)


@pytest.mark.parametrize("norm", ["none", "weight"])
def test_without_normalisation_a_residual_branch_starts_at_0(norm):
    model = network("resnet8", "digits", norm=norm)
    x = torch.rand(2, 4, 8, 8, device=bnat.DEVICE)
    assert torch.equal(model.layer1_0(x), x)


def test_without_normalisation_every_convolution_has_a_bias():
    model = network("resnet8", "digits", norm="none")
    assert all(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d))


@torch.no_grad()
def test_standardised_weights_keep_the_variance_of_what_passes_a_relu():
    model = network("resnet20", "cifar10", norm="weight")
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions:
        fan_in = conv.weight[0].numel()
        assert conv.weight.mean((1, 2, 3)).abs().max() < 1e-5
        variance = (conv.weight.square().mean((1, 2, 3)) * fan_in).tolist()
        assert variance == pytest.approx([2.934] * len(variance), rel=1e-3)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 16, 8, 8, generator=draw).to(bnat.DEVICE).relu()
    inside = model.layer1_0.conv1(x)[..., 1:-1, 1:-1]  # of a normal variable, without the padding
    assert inside.var().item() == pytest.approx(1, rel=0.15)
    assert sum(isinstance(m, Affine) for m in model.modules()) == len(convolutions)


def test_weights_that_are_made_of_others_are_not_trained_one_by_one():
    with pytest.raises(ValueError, match="^trainable must not be conv_subset where norm is weight"):
        experiment("finetune", norm="weight", trainable="conv_subset")
