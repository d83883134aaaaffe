"""What stands in BN's place in a ResNet of bnat's: another normalisation, or none; for 07_norms.

Decided here: how each is built, its learning rate, in which comparisons it stands. Not here: what a row is
(rows.py), how C7 is judged (decide/claims.py). A new one is an entry of NORMS.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

import bnat_utils as bnat


class Scale(nn.Module):
    """A learnable scalar that starts at 0: SkipInit, at a residual branch's end (De & Smith 2020)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x * self.weight


class Affine(nn.GroupNorm):
    """A gain and a bias a channel: of a normalisation what is left without its statistics.

    A GroupNorm, which it does not compute, so that `bnat.NORM` finds it where the affine parameters train.
    """

    def __init__(self, channels):
        super().__init__(1, channels)

    def forward(self, x):
        return x * self.weight[:, None, None] + self.bias[:, None, None]


AFTER_RELU = 2 / (1 - 1 / math.pi)  # times as much variance as ReLU leaves of a normal variable comes in


class Standardised(nn.Module):
    """Of a convolution's weight: mean 0 and variance AFTER_RELU / fan-in, each channel's.

    Scaled weight standardisation (Brock et al. 2021, section 3): what has passed a ReLU gets variance 1. The
    first convolution has it too, so variances start at about 3; their scaling of blocks is left out.
    """

    def forward(self, weight):
        variance, mean = torch.var_mean(weight, (1, 2, 3), correction=0, keepdim=True)
        return (weight - mean) * (AFTER_RELU / (variance * weight[0].numel() + 1e-6)).sqrt()


def of_8_channels(channels):
    """Group normalisation of 8 channels a group."""
    return nn.GroupNorm(max(channels // 8, 1), channels)


def biases_and_scales(model):
    """A bias in each convolution, and a `Scale` at the end of each residual branch."""
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
        if isinstance(module, bnat.BasicBlock):
            module.bn2 = Scale()


def standardised_weights(model):
    """`Standardised` convolutions; the last gain of a residual branch starts at 0, as SkipInit's scalar."""
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d):
            register_parametrization(module, "weight", Standardised())
        if isinstance(module, bnat.BasicBlock):
            nn.init.zeros_(module.bn2.weight)


@dataclass(frozen=True)
class Norm:
    """A normalisation: what stands behind the convolutions, and what the report says of it."""

    name: str  # in tables
    layer: Callable  # of so many channels
    lr: float  # of standard training, whatever the profile; tuned on seed 1 (07_norms)
    change: Callable | None = None  # what else is changed in the network
    affine: str = ""  # its affine parameters, whose AT alone is a row; "" is none
    without_bn: bool = True  # one of those that C7 compares BN with


NORMS = {
    # its rate is C7's alone: every other network with BN has its profile's
    "batch": Norm("BN", nn.BatchNorm2d, 0.2, without_bn=False),
    "group": Norm("group normalisation", of_8_channels, 0.1, affine="γ and β"),
    "layer": Norm("layer normalisation", functools.partial(nn.GroupNorm, 1), 0.2, affine="γ and β"),
    "instance": Norm(
        "instance normalisation", functools.partial(nn.InstanceNorm2d, affine=True), 0.2, affine="γ and β"
    ),
    "none": Norm("no normalisation", nn.Identity, 0.1, biases_and_scales),
    "weight": Norm(
        "standardised weights",
        Affine,
        0.1,  # 0.2, tuned on five epochs, diverges in the seventh (07_norms)
        standardised_weights,
        affine="a gain and a bias",
        without_bn=False,
    ),
}


def network(arch, data, normalize=True, norm="batch"):
    """`bnat.network` under a normalisation, a key of NORMS."""
    model = bnat.network(arch, data, normalize, norm_layer=NORMS[norm].layer)
    if NORMS[norm].change:
        NORMS[norm].change(model)
    return model.to(bnat.DEVICE, memory_format=model.normalize.memory_format)
