"""What BN does to gradients and to signals: smoothness, its two modes' gap, condensation, dead channels.

Decided here: the measures (LIGS after Benz et al. 2021, TID after Regularized BN 2022, collapsed channels
after psBN 2020, condensation after what the abstract of UBN 2023 calls so). Not here: how they are summed up
(show/norm_tables.py), fragile features (channels.py).
"""

import copy
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import update_bn

import bnat_utils as bnat
from study.measure.attacks import adversarial, input_gradient, survivors

NOISE = 0.01  # standard deviation of the noise beside which two gradients are compared
BATCHES, BATCH = 10, 128  # as many images as an update sees, so often
SOURCES = ("clean", "adversarial", "half")  # of the images that running statistics are estimated on


def bn_layers(model):
    """The BN layers of a model, {path: module}, in the order of the record's "bn"."""
    return {path: m for path, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}


@contextmanager
def watched(layers, look):
    """Call look(path, layer, input, output) at each of the layers, {path: module}, of what runs inside."""
    hooks = [
        layer.register_forward_hook(lambda m, inputs, out, path=path: look(path, m, inputs[0], out))
        for path, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def in_train_mode(model):
    """A copy in train mode, whose running statistics stay."""
    clone = copy.deepcopy(model).train()
    for layer in bn_layers(clone).values():
        layer.momentum = 0.0
    return clone


def smoothness(model, x, y):
    """Cosine of the loss gradient at each image and at the image with N(0, NOISE²) added: float [n]."""
    x = bnat.to_float(x)
    here, there = (
        input_gradient(model, x, y),
        input_gradient(model, x + NOISE * torch.randn_like(x), y),
    )
    return F.cosine_similarity(here.flatten(1), there.flatten(1)).cpu()


@torch.no_grad()
def batch_statistics(model, x):
    """Mean and variance of what enters each BN layer: {path: (float [batches, channels], the same)}.

    x: batches of BATCH images, one after the other, each run in train mode.
    """
    moments, clone = {path: ([], []) for path in bn_layers(model)}, in_train_mode(model)

    def look(path, layer, inputs, _):
        moments[path][0].append(inputs.mean((0, 2, 3)))
        moments[path][1].append(inputs.var((0, 2, 3), unbiased=False).clamp_min(1e-10))

    with watched(bn_layers(clone), look):
        for batch in x.split(BATCH):
            clone(batch)
    return {path: tuple(torch.stack(each) for each in pair) for path, pair in moments.items()}


def apart(mean, deviation, means, deviations):
    """|mean − a batch's| in its standard deviations, and |deviation / a batch's − 1|: two means."""
    moved = ((mean - means).abs() / deviations).mean()
    return moved.item(), (deviation / deviations - 1).abs().mean().item()


def disagreement(model, x):
    """How far a batch's statistics are from the running ones, by layer: two float [layers].

    x: batches of BATCH images. The mean over channels and batches of |μ_running − μ_batch| / σ_batch, and of
    |σ_running / σ_batch − 1|.
    """
    rows = []
    for path, (means, variances) in batch_statistics(model, x).items():
        layer = bn_layers(model)[path]
        rows.append(apart(layer.running_mean, layer.running_var.sqrt(), means, variances.sqrt()))
    return torch.tensor(rows).unbind(1)


def scatter(model, x):
    """`disagreement` of batches among themselves: each with what the others have on average.

    It is what TID would be if the running statistics were right: the noise floor of batches of BATCH images.
    """
    rows = []
    for means, variances in batch_statistics(model, x).values():
        others = len(means) - 1
        mean, variance = ((t.sum(0) - t) / others for t in (means, variances))
        rows.append(apart(mean, variance.sqrt(), means, variances.sqrt()))
    return torch.tensor(rows).unbind(1)


def gap(model, x, y, *, eps, pad, flip):
    """TID on batches as training makes them, and its noise floor: {"tid_mean_clean": [layers], ...}.

    Test images x with labels y, cropped and mirrored (`bnat.augment`), clean and under PGD-20 of
    eps: running statistics are those of augmented images, with zero padding that others do not have. For both
    "tid_mean_…", "tid_deviation_…" (`disagreement`) and "floor_mean_…", "floor_deviation_…" (`scatter`).
    """
    x, measured = bnat.to_float(bnat.augment(x, pad, flip)), {}
    for name, images in (("clean", x), ("adversarial", adversarial(model, x, y, eps=eps))):
        measured[f"tid_mean_{name}"], measured[f"tid_deviation_{name}"] = disagreement(model, images)
        measured[f"floor_mean_{name}"], measured[f"floor_deviation_{name}"] = scatter(model, images)
    return measured


@torch.no_grad()
def likeness(model, x):
    """How alike images look inside: the mean cosine of two images of a batch, float [layers + 1].

    Of what enters each BN layer, in the order of the record's "bn", and, last, the head; in eval mode.
    x: batches of BATCH images, float in [0, 1]. 1: all images look the same, up to their scale. An image of
    which nothing is left, all of it 0, has no cosine and is left out; NaN where fewer than two are not.
    """
    heads = {path: m for path, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    cosines = {path: [] for path in bn_layers(model) | heads}

    def look(path, _, inputs, __):
        features = inputs.flatten(1)
        units, n = F.normalize(features, dim=1), features.any(1).sum()
        # |the sum of n unit vectors|² is n, plus the cosines of all ordered pairs
        cosines[path].append((units.sum(0).square().sum() - n) / (n * (n - 1)))

    with watched(bn_layers(model) | heads, look), bnat.eval_mode(model):
        for batch in x.split(BATCH):
            model(batch)
    return torch.stack([torch.stack(batches).mean() for batches in cosines.values()]).cpu()


def condensation(model, x, y, *, eps):
    """`likeness` of test images x with labels y, clean and under PGD-20 of eps: {"clean", "adversarial"}."""
    x = bnat.to_float(x)
    return dict(clean=likeness(model, x), adversarial=likeness(model, adversarial(model, x, y, eps=eps)))


@torch.no_grad()
def ranges(model, x):
    """The smallest and the largest output of each BN channel over images, in eval mode: float [channels]."""
    low, high = {}, {}

    def look(path, _, __, out):
        least, most = out.amin((0, 2, 3)), out.amax((0, 2, 3))
        low[path] = torch.minimum(low.get(path, least), least)
        high[path] = torch.maximum(high.get(path, most), most)

    with watched(bn_layers(model), look), bnat.eval_mode(model):
        for part in x.split(bnat.EVAL_BATCH):
            model(bnat.to_float(part))
    return [
        torch.cat([measured[path] for path in bn_layers(model)]).float().cpu() for measured in (low, high)
    ]


def readouts(model, x, y):
    """LIGS and ranges on test images x with labels y: {"ligs": [n], "lowest", "highest": [channels]}.

    Without BN LIGS alone.
    """
    measured = dict(ligs=smoothness(model, x, y))
    if bn_layers(model):
        measured["lowest"], measured["highest"] = ranges(model, x)
    return measured


def with_statistics_of(model, x):
    """A copy with the running statistics of images x (float [N, C, H, W] in [0, 1]), in batches of BATCH."""
    clone = copy.deepcopy(model)
    update_bn(x.split(BATCH), clone)
    return clone.eval()


def by_source(model, train, x, y, *, eps):
    """Accuracy with statistics of clean, adversarial or both images: {"clean clean": bool [n], ...}.

    train: training images and labels, the first of which are used, clean and under PGD-7 of eps on the model;
    x, y: test images and labels. The names are what is measured ("clean", "R") and the source, of SOURCES.
    """
    few, labels = bnat.to_float(train[0][: BATCHES * BATCH]), train[1][: BATCHES * BATCH]
    adv = adversarial(model, few, labels, eps=eps, steps=7)
    half = torch.arange(len(few), device=few.device)[:, None, None, None] % 2 == 0
    measured = {}
    for source, images in zip(SOURCES, (few, adv, torch.where(half, few, adv)), strict=True):
        other = with_statistics_of(model, images)
        measured[f"clean {source}"], measured[f"R {source}"] = survivors(other, x, y, eps)
    return measured
