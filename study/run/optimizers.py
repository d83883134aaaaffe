"""Controls that train otherwise than a part of the network by SGD: what they are, as an optimizer.

Decided here: which weights of a convolution stand for its channels' γ and β, what decay of γ towards 1 is.
Not here: the parts of a network that can be trained alone (bnat.TRAINABLE), the rows that the controls make
(define/rows.py).
"""

import torch

import bnat_utils as bnat


def part(run, model):
    """The part of a model that a run trains, as bnat.train takes it; its optimizer where bnat has none."""
    own = {name: run[name] for name in ("lr", "weight_decay")}
    if run["trainable"] == "conv_subset":
        return dict(trainable="all", optimizer=conv_subset(model, **own, seed=run["seed"]))
    if run.get("gamma_decay") == "one":
        return dict(trainable=run["trainable"], optimizer=decay_to_one(model, run["trainable"], **own))
    return dict(trainable=run["trainable"])


def decay_to_one(model, trainable, *, lr, weight_decay):
    """An optimizer of a part of a model whose weight decay pulls every γ to 1, the rest to 0.

    As where a layer scales by 1 + w and decay acts on w: what decay then takes away is what was learnt.
    """
    optimizer = bnat.sgd(bnat.set_trainable(model, trainable), lr, weight_decay)
    gammas = [m.weight for m in model.modules() if isinstance(m, bnat.NORM)]
    gammas = [gamma for gamma in gammas if gamma is not None and gamma.requires_grad]

    def push(*_):  # SGD's own decay adds weight_decay * γ
        for gamma in gammas:
            gamma.grad -= weight_decay

    optimizer.register_step_pre_hook(push)
    return optimizer


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
