"""BN's channels as features: how fragile and how useful each is, before its γ and β act on it.

Decided here: the measures (after Ilyas et al. 2019, Benz et al. 2021). Not here: how they are summed up
(show/bn_tables.py).
"""

import torch
import torch.nn.functional as F

import bnat_utils as bnat
from study.measure.attacks import adversarial
from study.measure.norms import bn_layers, watched


def moments(model, images):
    """Of what enters each BN layer: spatial means [n, channels], their mean, the variance over positions."""
    seen = {path: [] for path in bn_layers(model)}

    def look(path, _, inputs, __):
        seen[path].append(torch.stack([inputs.mean((2, 3)), inputs.square().mean((2, 3))]))

    with watched(bn_layers(model), look), bnat.eval_mode(model):
        for part in images.split(bnat.EVAL_BATCH):
            model(part)
    means, squares = torch.cat([torch.cat(parts, 1) for parts in seen.values()], 2).double()
    return means, means.mean(0), squares.mean(0) - means.mean(0).square()


def correlations(features, y):
    """Of each feature with membership in each class: [n, channels] and labels [n] to [channels, classes]."""
    classes = F.one_hot(y).to(features)
    features, classes = ((t - t.mean(0)) / t.std(0).clamp_min(1e-12) for t in (features, classes))
    return features.T @ classes / (len(y) - 1)


def useful(clean, moved, y):
    """How well each feature tells its class, on clean images and on moved ones: two float [channels].

    clean, moved: [n, channels], of the same images with labels y. Its class, and the sign with which it tells
    it, are those of the largest |correlation| on the clean ones; so under attack a feature may mislead, below
    0 (after Ilyas et al. 2019, who let each feature be attacked by itself).
    """
    before, after = correlations(clean, y), correlations(moved, y)
    best = before.abs().argmax(1, keepdim=True)
    sign = before.gather(1, best).sign()
    return tuple((sign * told.gather(1, best)).squeeze(1) for told in (before, after))


@torch.no_grad()
def usefulness(model, x, y, *, eps):
    """`useful` of each BN channel's feature, see `bn_features`: {"clean": [channels], "adversarial": ...}."""
    x = bnat.to_float(x)
    clean, moved = (moments(model, images)[0] for images in (x, adversarial(model, x, y, eps=eps)))
    before, after = useful(clean, moved, y.to(clean.device))
    return dict(clean=before.float().cpu(), adversarial=after.float().cpu())


@torch.no_grad()
def bn_features(model, x, y, *, eps):
    """Each BN channel as a feature (Ilyas et al. 2019): the spatial mean f of what enters the layer.

    Before its γ and β, then, on images x with labels y, clean and under PGD-20 of eps (in [0, 1]) on the
    model. Returns float [channels], layers in the order of the record's "bn": "fragility", mean
    |f(adv) - f(x)| over f's standard deviation; "shift", the mean's move between clean and adversarial inputs
    over the standard deviation; "variance_ratio", adversarial over clean.
    """
    x = bnat.to_float(x)
    adv = adversarial(model, x, y, eps=eps)
    (clean, mean, variance), (moved, mean_adv, variance_adv) = moments(model, x), moments(model, adv)
    numbers = dict(
        fragility=(moved - clean).abs().mean(0) / clean.std(0).clamp_min(1e-12),
        shift=(mean_adv - mean).abs() / variance.clamp_min(1e-12).sqrt(),
        variance_ratio=variance_adv / variance.clamp_min(1e-12),
    )
    return {key: value.float().cpu() for key, value in numbers.items()}
