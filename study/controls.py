"""Controls that train something else than a part of the network: what they are, as an optimizer.

Decided here: which weights of a convolution stand for its channels' γ and β. Not here: the parts of a network
that can be trained alone (bnat.TRAINABLE), the rows that the controls make (experiments.py).
"""

import torch

import bnat_utils as bnat

PARTS = (*bnat.TRAINABLE, "conv_subset")  # the values of `trainable`


def part(run, model):
    """The part of a model that a run trains, as bnat.train takes it."""
    if run["trainable"] != "conv_subset":
        return dict(trainable=run["trainable"])
    own = {name: run[name] for name in ("lr", "weight_decay", "seed")}
    return dict(trainable="all", optimizer=conv_subset(model, **own))


def conv_subset(model, *, lr, weight_decay, seed):
    """An optimizer of two weights of each convolution's output channel, as many as BN has γ and β.

    The weights are drawn at random (Frankle et al. 2021, section 5); all others are frozen.
    """
    model.requires_grad_(False)
    weights = [m.weight.requires_grad_() for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    optimizer = bnat.sgd(weights, lr, weight_decay=0)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.rand(len(w), w[0].numel(), generator=generator).argsort(1) for w in weights]
    masks = [(order < 2).view_as(w).to(w.device) for order, w in zip(orders, weights, strict=True)]

    def mask_gradients(*_):  # decay included: SGD's own would shrink what is frozen
        for weight, mask in zip(weights, masks, strict=True):
            weight.grad = mask * (weight.grad + weight_decay * weight.detach())

    optimizer.register_step_pre_hook(mask_gradients)
    return optimizer
