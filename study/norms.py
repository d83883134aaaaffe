"""What BN does to gradients and to signals: smoothness, the gap between its two modes, channels that died.

Decided here: the measures (LIGS after Benz et al. 2021, TID after Regularized BN 2022, collapsed channels
after psBN 2020) and how they are summed up. Not here: fragile features (features.py), claims (claims.py).
"""

import copy
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

import bnat_utils as bnat
from study.checks import adversarial, input_gradient
from study.experiments import LABELS
from study.statistics import mean_sd, percent, proportion

NOISE = 0.01  # standard deviation of the noise beside which two gradients are compared
BATCHES, BATCH = 10, 128  # as many images as an update sees, so often
SOURCES = ("clean", "adversarial", "half")  # of the images that running statistics are estimated on
WORTH_MENDING = 0.05  # TID above which a regulariser of the gap is tried
NAMED = dict(standard="standard training", at="AT of all weights", finetuned="BN-only AT of trained features",
             random="BN-only AT of random features", linear="a linear classifier")  # fmt: skip


# ------------------------------------------------------------------------------------------------- measuring
def bn_layers(model):
    """The BN layers of a model, {path: module}, in the order of the record's "bn"."""
    return {path: m for path, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}


@contextmanager
def watched(model, look):
    """Call look(path, layer, input, output) at every BN layer of what runs inside."""
    hooks = [
        layer.register_forward_hook(lambda m, inputs, out, path=path: look(path, m, inputs[0], out))
        for path, layer in bn_layers(model).items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def in_train_mode(model, momentum=0.0):
    """A copy in train mode, whose running statistics stay, or (None) become the mean of the batches seen."""
    clone = copy.deepcopy(model).train()
    for layer in bn_layers(clone).values():
        layer.momentum = momentum
        if momentum is None:
            layer.reset_running_stats()
    return clone


def smoothness(model, x, y):
    """Cosine of the loss gradient at each image and at the image with N(0, NOISE²) added: float [n]."""
    x = bnat.to_float(x)
    here, there = (
        input_gradient(model, x.clone(), y),
        input_gradient(model, x + NOISE * torch.randn_like(x), y),
    )
    return F.cosine_similarity(here.flatten(1), there.flatten(1)).cpu()


@torch.no_grad()
def batch_statistics(model, x):
    """Mean and variance of what enters each BN layer: {path: (float [batches, channels], the same)}.

    x: batches of BATCH images, one after the other, each run in train mode.
    """
    found, clone = {path: ([], []) for path in bn_layers(model)}, in_train_mode(model)

    def look(path, layer, inputs, _):
        found[path][0].append(inputs.mean((0, 2, 3)))
        found[path][1].append(inputs.var((0, 2, 3), unbiased=False).clamp_min(1e-10))

    with watched(clone, look):
        for batch in x.split(BATCH):
            clone(batch)
    return {path: (torch.stack(means), torch.stack(variances)) for path, (means, variances) in found.items()}


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

    The first test images x with labels y, cropped and mirrored (`bnat.augment`), clean and under PGD-20 of
    eps: running statistics are those of augmented images, with zero padding that others do not have. For both
    "tid_mean_…", "tid_deviation_…" (`disagreement`) and "floor_mean_…", "floor_deviation_…" (`scatter`).
    """
    few, labels = bnat.to_float(bnat.augment(x[: BATCHES * BATCH], pad, flip)), y[: BATCHES * BATCH]
    found = {}
    for name, images in (("clean", few), ("adversarial", adversarial(model, few, labels, eps=eps))):
        found[f"tid_mean_{name}"], found[f"tid_deviation_{name}"] = disagreement(model, images)
        found[f"floor_mean_{name}"], found[f"floor_deviation_{name}"] = scatter(model, images)
    return found


@torch.no_grad()
def ranges(model, x):
    """The smallest and the largest output of each BN channel over images, in eval mode: float [channels]."""
    low, high = {}, {}

    def look(path, _, __, out):
        least, most = out.amin((0, 2, 3)), out.amax((0, 2, 3))
        low[path] = torch.minimum(low.get(path, least), least)
        high[path] = torch.maximum(high.get(path, most), most)

    with watched(model, look), bnat.eval_mode(model):
        for part in x.split(bnat.EVAL_BATCH):
            model(bnat.to_float(part))
    return [torch.cat([found[path] for path in bn_layers(model)]).float().cpu() for found in (low, high)]


def readouts(model, x, y, *, eps):
    """All of the above on test images x with labels y: {"ligs": [n], "lowest", "highest": [channels], ...}.

    "tid_mean_clean", "tid_deviation_clean", "tid_mean_adversarial", "tid_deviation_adversarial":
    `disagreement` on the first images, clean and under PGD-20 of eps. Without BN LIGS alone.
    """
    found = dict(ligs=smoothness(model, x, y))
    if not bn_layers(model):
        return found
    few, labels = bnat.to_float(x[: BATCHES * BATCH]), y[: BATCHES * BATCH]
    found["lowest"], found["highest"] = ranges(model, x)
    for name, images in (("clean", few), ("adversarial", adversarial(model, few, labels, eps=eps))):
        found[f"tid_mean_{name}"], found[f"tid_deviation_{name}"] = disagreement(model, images)
    return found


@torch.no_grad()
def with_statistics_of(model, x):
    """A copy with the running statistics of images x (float [N, C, H, W] in [0, 1]), in batches of BATCH."""
    clone = in_train_mode(model, momentum=None)
    for batch in x.split(BATCH):
        clone(batch)
    return clone.eval()


def by_source(model, train, x, y, *, eps):
    """Accuracy with statistics of clean, adversarial or both images: {"clean clean": bool [n], ...}.

    train: training images and labels, the first of which are used, clean and under PGD-7 of eps on the model;
    x, y: test images and labels. The names are what is measured ("clean", "R") and the source, of SOURCES.
    """
    few, labels = bnat.to_float(train[0][: BATCHES * BATCH]), train[1][: BATCHES * BATCH]
    adv = adversarial(model, few, labels, eps=eps, steps=7)
    half = torch.arange(len(few), device=few.device)[:, None, None, None] % 2 == 0
    found = {}
    for source, images in zip(SOURCES, (few, adv, torch.where(half, few, adv)), strict=True):
        other = with_statistics_of(model, images)
        found[f"clean {source}"], found[f"R {source}"] = survivors(other, x, y, eps)
    return found


def survivors(model, x, y, eps):
    """Clean accuracy and R, what survives both attacks, on images x with labels y: two bool [n]."""
    pgd = bnat.evaluate(model, x, y, eps=eps)
    return pgd["clean"], bnat.multi_targeted(model, x, y, eps=eps, alive=pgd["robust"])


def at_radii(model, x, y, radii):
    """R at several radii in 1/255, and at 0: {"0": bool [n], "0.25": bool [n], ...}."""
    found = {f"{radius:g}": survivors(model, x, y, radius / 255) for radius in radii}
    return {"0": next(iter(found.values()))[0]} | {radius: robust for radius, (_, robust) in found.items()}


# ------------------------------------------------------------------------------------------------- summing up
def fragility_table(rows):
    """Standard training under each normalisation, {key: {seed: record}}: R at small radii, LIGS."""
    table = {}
    for key, seeds in rows.items():
        measured = [record["small"] for record in seeds.values() if record["small"]]
        radii = [radius for radius in measured[0] if radius.replace(".", "").isdigit()] if measured else []
        row = table[LABELS[key]] = {
            "random test images": measured[0]["settings"]["images"] if measured else 0
        }
        for radius in radii:
            title = "clean %" if radius == "0" else f"R % at {radius}/255"
            row[title] = mean_sd([100 * flags[radius].mean() for flags in measured])
        smooth = [record["norms"]["ligs"].mean() for record in seeds.values() if record["norms"]]
        row["LIGS"] = mean_sd(smooth, 3) if smooth else "not yet run"
    return (
        pd.DataFrame.from_dict(table, orient="index").fillna("not yet run").rename_axis("mean ± sd (seeds)")
    )


def smoothness_table(found):
    """LIGS of {label: record}: the mean over images with its 95 % interval, and its quartiles."""
    table = {}
    for label, record in found.items():
        if record["norms"]:
            ligs = record["norms"]["ligs"]
            mean, half = ligs.mean(), 1.96 * ligs.std(ddof=1) / ligs.size**0.5
            low, middle, high = np.percentile(ligs, (25, 50, 75))
            table[label] = {"LIGS [95 %]": f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"}
            table[label] |= {"median [quartiles]": f"{middle:.2f} [{low:.2f}, {high:.2f}]", "n": ligs.size}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("model")


def excess(measured, of, images):
    """TID less its noise floor by layer, float [layers]. of: "mean", "deviation"; images: of the batches."""
    return measured[f"tid_{of}_{images}"] - measured[f"floor_{of}_{images}"]


def disagreement_table(found):
    """TID of {label: record} less its noise floor: in the first layer, and the largest of the others."""
    table = {}
    for label, record in found.items():
        for images in ("clean", "adversarial") if record["gap"] else ():
            row = table[f"{label}: {images} batches"] = {}
            for of in ("mean", "deviation"):
                values, floor = excess(record["gap"], of, images), record["gap"][f"floor_{of}_{images}"]
                row[f"{of}, first layer"] = f"{values[0]:+.3f}"
                worst = 1 + values[1:].argmax()
                row[f"{of}, largest other"] = f"{values[worst]:+.3f} ({list(record['bn'])[worst]})"
                row[f"{of}, floor"] = f"{floor.min():.3f} to {floor.max():.3f}"
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("TID − noise floor")


def collapsed_table(found):
    """Dead channels of {label: record}, in percent: before a ReLU never above 0; constant; |γ| small."""
    table = {}
    for label, record in found.items():
        measured = record["norms"] or {}
        if "highest" in measured:
            low, high = measured["lowest"], measured["highest"]
            sizes = [len(layer["gamma"]) for layer in record["bn"].values()]
            before_relu = np.repeat([path.endswith("bn1") for path in record["bn"]], sizes)
            gamma = np.concatenate([layer["gamma"] for layer in record["bn"].values()])
            table[label] = {
                "channels before a ReLU": before_relu.sum(),
                "of these never above 0 (%)": f"{100 * np.mean(high[before_relu] <= 0):.1f}",
                "channels": gamma.size,
                "of these the same for every image (%)": f"{100 * np.mean(high - low < 1e-3):.1f}",
                "|γ| < 0.01 (%)": f"{100 * np.mean(abs(gamma) < 0.01):.1f}",
            }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("model")


def gamma_table(found):
    """Share of |γ| < 0.01 after the tuning runs {label: {lr: {seed: record}}}, with decay or without."""
    table = {}
    for label, points in found.items():
        for lr, seeds in points.items():
            small = [
                100 * np.mean([abs(g) < 0.01 for layer in r["bn"].values() for g in layer["gamma"]])
                for r in seeds.values()
                if r["bn"]
            ]
            if small:
                table[f"{label}, lr {lr:g}"] = {"|γ| < 0.01 (%), mean ± sd (seeds)": mean_sd(small)}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("tuning run")


def source_table(found):
    """Accuracy in percent of {label: record} with running statistics of other images, beside its own."""
    table = {}
    for label, record in found.items():
        measured = record["statistics"]
        if measured:
            for source in SOURCES:
                clean, robust = (percent(proportion(measured[f"{key} {source}"])) for key in ("clean", "R"))
                table[f"{label}: {source}"] = {"clean % (n)": clean, "R % (n)": robust}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("statistics of")


def said_of_smoothness(first):
    """LIGS of the rows {key: record} in a sentence."""
    means = {key: r["norms"]["ligs"].mean() for key, r in first.items() if r["norms"] and key in NAMED}
    if len(means) < 2:
        return "Not yet run."
    return "LIGS: " + ", ".join(f"{NAMED[key]} {mean:.2f}" for key, mean in means.items()) + "."


def said_of_disagreement(first):
    """Whether a regulariser of the gap has something to do, in a sentence: the largest TID beyond the noise.

    On adversarial batches of networks trained adversarially, in layers after the first.
    """
    largest = {}
    for key, record in first.items():
        if record["gap"] and record["run"]["epsilon"]:
            both = [excess(record["gap"], of, "adversarial")[1:].max() for of in ("mean", "deviation")]
            largest[key] = max(both)
    if not largest:
        return "Not yet run."
    shown = "; ".join(f"{LABELS[key]} {value:.2f}" for key, value in largest.items())
    text = f"On adversarial batches, beyond the noise floor, in the layer where it is largest: {shown}."
    if max(largest.values()) > WORTH_MENDING:
        return f"{text} Above {WORTH_MENDING}, a penalty on the gap has something to mend."
    return f"{text} All are below {WORTH_MENDING}: there is nothing for a penalty on the gap to mend."
