"""What an attack makes of a network on a set of images: examples, gradients, and which images survive.

Decided here: what R is measured by, at one radius or several. Not here: PGD and the multi-targeted attack
themselves (bnat_utils.py), checks of whether they can be trusted (masking.py).
"""

import torch

import bnat_utils as bnat


def adversarial(model, x, y, *, eps, step_size=None, steps=20, random_start=True):
    """`bnat.pgd` images of a whole set, none left out early, by the gradients of the BN-folded copy.

    x: uint8, or float in [0, 1]; [N, C, H, W]; eps, step_size in [0, 1], step eps / 4 unless given.
    """
    attacked = bnat.fold_bn(model, bnat.fast_dtype())
    settings = dict(eps=eps, step_size=step_size or eps / 4, steps=steps, random_start=random_start)
    parts = zip(bnat.to_float(x).split(bnat.EVAL_BATCH), y.split(bnat.EVAL_BATCH), strict=True)
    return torch.cat([bnat.pgd(attacked, *part, **settings) for part in parts])


def input_gradient(model, x, y):
    """The cross-entropy's gradient with respect to each image, float [N, C, H, W]; eval mode, BN folded."""
    folded, gradients = bnat.fold_bn(model), []
    with bnat.eval_mode(folded), torch.enable_grad():
        for part, labels in zip(x.detach().split(bnat.EVAL_BATCH), y.split(bnat.EVAL_BATCH), strict=True):
            loss = bnat.CROSS_ENTROPY(folded(part.requires_grad_()), labels)
            gradients.append(torch.autograd.grad(loss, part)[0])
    return torch.cat(gradients)


def survivors(model, x, y, eps, steps=20):
    """Clean accuracy and R, what survives both attacks, on images x with labels y: two bool [n]."""
    pgd = bnat.evaluate(model, x, y, eps=eps, steps=steps)
    return pgd["clean"], bnat.multi_targeted(model, x, y, eps=eps, steps=steps, alive=pgd["robust"])


def at_radii(model, x, y, radii, steps=20):
    """R at several radii in 1/255, and at 0: {"0": bool [n], "0.25": bool [n], ...}."""
    outcomes = {f"{radius:g}": survivors(model, x, y, radius / 255, steps) for radius in radii}
    clean = next(iter(outcomes.values()))[0]
    return {"0": clean} | {radius: robust for radius, (_, robust) in outcomes.items()}
