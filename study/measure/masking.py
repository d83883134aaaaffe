"""What is measured to find gradient masking: weaker and stronger attacks on the same images, the loss around.

Decided here: the attacks of each check (Athalye et al. 2018; Carlini et al. 2019). Not here: which pattern is
suspect (decide/trust.py).
"""

import torch
import torch.nn.functional as F

import bnat_utils as bnat
from study.measure.attacks import adversarial, autoattack, input_gradient

CHECK_STEPS, CHECK_RESTARTS = (1, 2, 5, 10, 20, 50, 100, 200), 10


@torch.no_grad()
def loss_landscape(model, x, y, *, eps, points=17):
    """Mean cross-entropy over images at x + a sign(gradient) + b (random signs), a and b from -eps to eps.

    Returns (float [points, points], a by row; bool [n]: does the loss of this image rise more at a = eps
    than at b = eps).
    """
    x, folded = bnat.to_float(x), bnat.fold_bn(model)
    uphill, across = input_gradient(model, x, y).sign(), torch.randint_like(x, 2).mul(2).sub(1)

    def loss(a, b):
        parts = (x + a * uphill + b * across).clamp(0, 1).split(bnat.EVAL_BATCH)
        both = zip(parts, y.split(bnat.EVAL_BATCH), strict=True)
        return torch.cat([F.cross_entropy(folded(part), labels, reduction="none") for part, labels in both])

    with bnat.eval_mode(folded):
        axis = torch.linspace(-eps, eps, points).tolist()
        surface = torch.stack([torch.stack([loss(a, b).mean() for b in axis]) for a in axis])
        return surface.cpu(), (loss(eps, 0) > loss(0, eps)).cpu()


def check_attacks(model, x, y, *, eps):
    """What the checks look at, on images x with labels y: {name: bool [n]}, which images stay correct.

    Each image is attacked to the end: "fgsm", one step of eps from the image; PGD of "steps 1" to "steps
    200", eps / 4 each, from one random start; "unbounded", 100 steps of 8/255 from the image, and
    "unbounded margin", what also survives multi-targeted PGD at eps = 1. Further PGD-20 with "restarts 1"
    to "restarts 10"; the gradient-free "square" alone; "steepest": bool [n] and "landscape" of
    `loss_landscape`. eps in [0, 1].
    """

    def survive(**attack):
        torch.manual_seed(0)  # one random start for all, so that only the steps differ
        return bnat.evaluate(model, adversarial(model, x, y, **attack), y, eps=0)["clean"]

    result = {f"steps {steps}": survive(eps=eps, steps=steps) for steps in CHECK_STEPS}
    result["fgsm"] = survive(eps=eps, step_size=eps, steps=1, random_start=False)
    result["unbounded"] = survive(eps=1, step_size=8 / 255, steps=100, random_start=False)
    alive = torch.ones(len(y), dtype=torch.bool)
    for restarts in range(1, CHECK_RESTARTS + 1):
        if alive.any():
            left = bnat.evaluate(model, x[alive], y[alive], eps=eps)["robust"]
            alive = torch.zeros_like(alive).masked_scatter(alive, left)
        result[f"restarts {restarts}"] = alive
    result["landscape"], result["steepest"] = loss_landscape(model, x, y, eps=eps)
    # the last to draw: the others keep the numbers that they had before it was added
    result["unbounded margin"] = bnat.multi_targeted(model, x, y, eps=1, alive=result["unbounded"])
    # Square draws from a seed of its own
    return result | autoattack(model, x, y, eps=eps, components=("square",))
