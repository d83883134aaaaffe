"""What an attack does to single images: the gradient, the perturbation, and what the network says of both.

Decided here: in what form a record keeps them. Not here: how they are drawn (show/pictures.py). The images
themselves stay out of the record.
"""

import torch

import bnat_utils as bnat
from study.measure.attacks import adversarial, input_gradient


def _as_int8(fractions):
    """Fractions in [-1, 1] as int8, 127 for 1."""
    return (127 * fractions).round().to(torch.int8).cpu()


@torch.no_grad()
def perturbations(model, x, y, *, eps):
    """PGD-20 of eps (in [0, 1]) on each image of x, [N, C, H, W], with labels y: what changes, and to what.

    Returns int8 [N, C, H, W]: "gradient", the input's, 127 the largest of its image; "perturbation", 127 is
    eps. And float: "label" [N], "clean" and "adversarial" [N, classes], the network's probabilities.
    """
    x = bnat.to_float(x)
    adv = adversarial(model, x, y, eps=eps)
    gradient = input_gradient(model, x, y)
    largest = gradient.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
    with bnat.eval_mode(model):
        clean, attacked = (model(images).softmax(1).float().cpu() for images in (x, adv))
    shown = dict(gradient=_as_int8(gradient / largest), perturbation=_as_int8((adv - x) / eps))
    return shown | dict(label=y.float().cpu(), clean=clean, adversarial=attacked)
