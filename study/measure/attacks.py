"""What an attack makes of a network on a set of images: examples, gradients, and which images survive.

Decided here: what R is measured by, at one radius or several, how AutoAttack's package is called, the worst
case where it is known. Not here: PGD and the multi-targeted attack themselves (bnat_utils.py), whether they
can be trusted (masking.py).
"""

import copy

import torch
from pyautoattack import AutoAttack

import bnat_utils as bnat

AUTOATTACK = ("apgd-ce", "apgd-t", "fab-t", "square")  # the components of version "standard", in their order
FEWEST_CLASSES = {"apgd-t": 4, "fab-t": 2}  # a target beside the label; apgd-t's loss looks at four logits


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


def survivors(model, x, y, eps, steps=20, dtype=None):
    """Clean accuracy and R, what survives both attacks, on images x with labels y: two bool [n].

    dtype: of the gradients, see `bnat.evaluate`.
    """
    attack = dict(eps=eps, steps=steps, dtype=dtype)
    pgd = bnat.evaluate(model, x, y, **attack)
    return pgd["clean"], bnat.multi_targeted(model, x, y, alive=pgd["robust"], **attack)


def at_radii(model, x, y, radii, steps=20, dtype=None):
    """R at several radii in 1/255, and at 0: {"0": bool [n], "0.25": bool [n], ...}; dtype: of gradients."""
    outcomes = {f"{radius:g}": survivors(model, x, y, radius / 255, steps, dtype) for radius in radii}
    clean = next(iter(outcomes.values()))[0]
    return {"0": clean} | {radius: robust for radius, (_, robust) in outcomes.items()}


def worst_case(model, x, y, *, eps):
    """Which images an affine classifier keeps whatever is done within eps, in [0, 1]: {"robust": bool [N]}.

    On the CPU. No attack leaves fewer. Its logits are W x + b, so that each pixel lowers the margin to
    another class by |w_y − w_other| times the way that it has within eps and [0, 1], and all do at once. In
    float64; W from the logits' gradients. x: uint8 or float in [0, 1], [N, C, H, W].
    """
    model, x, y = copy.deepcopy(model).cpu().double(), bnat.to_float(x).cpu().double(), y.cpu()
    weight = torch.autograd.functional.jacobian(model, torch.zeros_like(x[:1])).flatten(2)[0]
    with torch.no_grad():
        logits, kept = model(x), torch.zeros(len(y), dtype=torch.bool)
    down, up = x.flatten(1).clamp(max=eps), (1 - x.flatten(1)).clamp(max=eps)  # the ways of a pixel
    for label in range(len(weight)):
        mine, apart = y == label, weight[label] - weight
        lost = down[mine] @ apart.clamp(min=0).T - up[mine] @ apart.clamp(max=0).T
        left = logits[mine][:, [label]] - logits[mine] - lost
        left[:, label] = torch.inf
        kept[mine] = (left > 0).all(1)
    return dict(robust=kept)


@torch.no_grad()
def autoattack(model, x, y, *, eps, components=AUTOATTACK, batch_size=bnat.EVAL_BATCH):
    """Which images survive AutoAttack, version "standard" (Croce & Hein 2020), by its authors' package.

    Attacked with BN folded, in float32. Returns {component: bool [N], on the CPU}, in their order: what
    survives it and those before, so the last is the result. components: fewer make an attack of their own,
    not AutoAttack. Of at most nine other classes each is a target; a component that has too few
    (FEWEST_CLASSES) is left out.
    """
    target, remaining = bnat.fold_bn(model), {}
    attack = AutoAttack(
        target, eps=bnat.checked_eps(eps), norm="Linf", version="standard", device=y.device, seed=0
    )
    attack.verbose = False
    with bnat.eval_mode(target):
        alive = bnat.evaluate(target, x, y, eps=0, batch_size=batch_size)["clean"]
        classes = target(bnat.to_float(x[:1])).shape[1]
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, classes - 1)
        for component in components:
            if classes < FEWEST_CLASSES.get(component, 1):
                continue
            left = alive.nonzero().squeeze(1).to(y.device)
            if len(left):
                attack.attacks_to_run, images = [component], bnat.to_float(x[left])
                adv, _ = attack.run_standard_evaluation(images, y[left], batch_size=batch_size)
                alive[left.cpu()] = bnat.evaluate(target, adv, y[left], eps=0, batch_size=batch_size)["clean"]
            remaining[component] = alive.clone()
    return remaining
