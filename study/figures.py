"""The report's figures, each from records, and how they are written.

Decided here: what is drawn and in which colour (Okabe & Ito: safe for the colour-blind). Not here: the
numbers.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import bnat_utils as bnat
from study import claims, parameters, rates, records
from study.checks import CHECK_RESTARTS, CHECK_STEPS
from study.experiments import LABELS
from study.statistics import proportion

plt.style.use(parameters.ROOT / "notebooks" / "bnat.mplstyle")
COLOURS = {
    "standard": "#0072B2", "at": "#009E73", "bn_clean": "#E69F00", "finetuned": "#D55E00",
    "random": "#CC79A7", "linear": "#000000", "linear_clean": "#7f7f7f", "perceptron": "#56B4E9",
    "two_stages": "#8C564B", "linear_long": "#000000", "perceptron_long": "#56B4E9",
}  # fmt: skip
BY_LABEL = {LABELS[key]: colour for key, colour in COLOURS.items()}


def save(figure, exp, name):
    """Write a figure to out/<profile>/figures/<name>.png and .pdf, the same bytes each time."""
    files = {}
    for kind, metadata in (("png", None), ("pdf", {"CreationDate": None})):
        image = io.BytesIO()
        figure.savefig(image, format=kind, metadata=metadata)
        files[f"{name}.{kind}"] = image.getvalue()
    records.keep(exp, files)


def colour_of(label):
    """A row's colour by its label, what stands in brackets apart; None for another label."""
    return BY_LABEL.get(label.split(" (")[0])


def chance_line(axis, chance, **style):
    """The accuracy of a constant classifier."""
    axis.axhline(100 * chance, color="grey", linestyle=":", linewidth=1, **style)


def points(outcomes):
    """Rates and 95 % Wilson intervals in percent of several outcomes: float [len, 3] (rate, low, high)."""
    return 100 * np.array([proportion(flags)[:3] for flags in outcomes]).reshape(-1, 3)


def curves(found):
    """Held-out accuracies after each epoch and robust accuracy against ε, a line a record."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.8), sharey=True)
    data = [bnat.DATASETS[r["run"]["data"]] for r in found.values()]
    n = "/".join(sorted({f"{info['held_out']:,}" for info in data}))
    titles = f"clean, {n} held-out images", f"PGD-10, {n} held-out images", "PGD, test images"
    for axis, title, x in zip(axes, titles, ("epoch", "epoch", "attack radius ε (1/255)"), strict=True):
        axis.set(xlabel=x, ylim=(0, 100), title=title)
        for info in data:
            chance_line(axis, info["chance"])
    axes[0].set_ylabel("accuracy (%)")
    for label, record in found.items():
        style = dict(marker="o", label=label, color=colour_of(label))
        for axis, key in zip(axes, ("held_out_clean", "held_out_robust"), strict=False):
            history = record["history"]
            axis.plot([h["epoch"] for h in history], [100 * h[key] for h in history], **style)
            axis.xaxis.get_major_locator().set_params(integer=True)
        if record["curve"]:
            settings, shown = record["curve"]["settings"], points(record["curve"]["robust"])
            line = axes[2].plot(settings["epsilons"], shown[:, 0], **style)[0]
            axes[2].set_title(f"PGD, {settings['images']:,} test images")
            band = dict(alpha=0.2, color=line.get_color(), linewidth=0)
            axes[2].fill_between(settings["epsilons"], shown[:, 1], shown[:, 2], **band)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def before_after(parent, record):
    """γ and β of every BN channel before and after: (figure, a sentence)."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 3))
    said = []
    for axis, key, symbol in zip(axes, ("gamma", "beta"), "γβ", strict=True):
        before, after = (np.concatenate([layer[key] for layer in r["bn"].values()]) for r in (parent, record))
        axis.axline((0, 0), slope=1, color="grey", linestyle=":", linewidth=1)
        axis.plot(before, after, ".", color="#0072B2", markersize=3, alpha=0.6)
        axis.set(xlabel=f"{symbol} before", ylabel=f"{symbol} after", title=f"{before.size:,} channels")
        moved, median = 100 * np.mean(before != after), np.median(np.abs(after - before))
        said.append(f"{symbol}: {moved:.0f} % of {before.size:,} moved, median |change| {median:.3f}")
    return figure, "; ".join(said)


FOREST = (
    "standard", "random", "two_stages", "finetuned", "linear", "linear_long", "perceptron", "perceptron_long",
    "at",
)  # fmt: skip
DIFFERENCES = {
    "C6": "trained − random",
    "C6s": "trained − random\nwith the same two stages",
    "C4": "trained − L",
    "C5": "random − L",
    "C2": "AT of all weights − trained",
}


def headline(rows, decided, chance):
    """R of every row and the claims' differences: a mark a seed, bars the mean and its 95 % t-interval.

    rows: {key: {seed: record}}; decided: a claims.Claim each; chance: a constant classifier's accuracy.
    Hollow is an adversarial training of random features that did not take off.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.3), width_ratios=(1.25, 1))
    shown = [key for key in FOREST if rates.of_seeds(rows[key], rates.ROBUST)]
    for place, key in enumerate(shown):
        measured = rates.of_seeds(rows[key], rates.ROBUST)
        stayed = {seed for seed in measured if key == "random" and not rates.took_off(rows[key][seed])}
        colours = ["none" if seed in stayed else COLOURS[key] for seed in measured]
        style = dict(s=16, edgecolors=COLOURS[key], facecolors=colours, linewidths=1, zorder=3)
        left.scatter(list(measured.values()), spread(place, len(measured)), **style)
        left.plot([np.mean(list(measured.values()))] * 2, [place - 0.35, place + 0.35], color=COLOURS[key])
    counted = [len(rates.of_seeds(rows[key], rates.ROBUST)) for key in shown]
    names = [f"{LABELS[key]} ({n})" for key, n in zip(shown, counted, strict=True)]
    left.set_yticks(range(len(shown)), names)
    left.axvline(100 * chance, color="grey", linestyle=":", linewidth=1)
    left.annotate("chance", (100 * chance, len(shown) - 0.45), fontsize=6, color="grey", ha="center")
    left.set(xlabel="R (%), one mark per seed", title="Robust accuracy (seeds)", xlim=(-1, None))
    compared = [c for c in decided if c.key in DIFFERENCES and c.values]
    compared.sort(key=lambda claim: list(DIFFERENCES).index(claim.key), reverse=True)
    for place, claim in enumerate(compared):
        style = dict(s=12, color="#56B4E9", zorder=3)
        right.scatter(list(claim.values.values()), spread(place, len(claim.values)), **style)
        if np.isfinite(claim.low):
            half = [[claim.mean - claim.low], [claim.high - claim.mean]]
            right.errorbar(claim.mean, place, xerr=half, fmt="|", color="#0072B2", capsize=2, linewidth=1.2)
    right.axvspan(-claims.DELTA, claims.DELTA, color="grey", alpha=0.15, linewidth=0)
    right.axvline(0, color="grey", linewidth=0.8)
    names = [f"{DIFFERENCES[c.key]}\n({c.key}, {len(c.values)} seeds)" for c in compared]
    right.set_yticks(range(len(compared)), names)
    right.set(xlabel="points of R", title="Paired by seed, 95 % t-interval")
    for axis in (left, right):
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(-0.6, None)
    return figure


def spread(place, n):
    """Heights around a row's own for its n marks, so that equal ones are seen."""
    return place + 0.12 * (np.arange(n) - (n - 1) / 2) / max(1, n / 4)


def seeds_and_mean(axis, runs, measure, label, fill="full", **style):
    """Percent of {x: {seed: record}} under a measure (kind, flags): a mark a seed, a line joins the means."""
    kind, flags = measure
    rates = {x: [100 * r[kind][flags].mean() for r in seeds.values() if r[kind]] for x, seeds in runs.items()}
    rates = {x: some for x, some in rates.items() if some}
    line = axis.plot(list(rates), [np.mean(some) for some in rates.values()], label=label, **style)
    for x, some in rates.items():
        axis.plot([x] * len(some), some, "o", markersize=4, color=line[0].get_color(), fillstyle=fill)


# ---------------------------------------------------------------------------------------------- 05_trust
def attacks(found, epsilon, chance):
    """Robust accuracy against the attack's steps and restarts, and under Square and an unbounded attack."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), sharey=True)
    found = {label: r["checks"] for label, r in found.items() if r["checks"]}
    restarts = range(1, CHECK_RESTARTS + 1)
    last = {"PGD-20": "restarts 1", f"x{CHECK_RESTARTS}": f"restarts {CHECK_RESTARTS}"}
    last |= {"Square": "square", "unbounded": "unbounded"}
    for place, (label, c) in enumerate(found.items()):
        style = dict(color=colour_of(label))
        for axis, key, xs in ((axes[0], "steps", CHECK_STEPS), (axes[1], "restarts", restarts)):
            shown = points(c[f"{key} {x}"] for x in xs)
            axis.plot(xs, shown[:, 0], marker="o", label=label, **style)
            axis.fill_between(xs, shown[:, 1], shown[:, 2], alpha=0.15, linewidth=0, **style)
        shown = points(c[key] for key in last.values())
        x = np.arange(len(last)) + 0.12 * (place - 2)
        axes[2].errorbar(x, shown[:, 0], np.abs(shown[:, 1:].T - shown[:, 0]), fmt="o", **style)
    axes[2].set_xticks(range(len(last)), list(last))
    axes[0].set(
        xscale="log", xlabel="PGD steps", ylabel=f"robust accuracy (%), ε = {epsilon:g}/255", ylim=(-2, 100)
    )
    axes[1].set(xlabel="restarts of PGD-20")
    for axis in axes:
        chance_line(axis, chance)
    sizes = ", ".join(sorted({str(c["square"].size) for c in found.values()})) or "no"
    figure.suptitle(f"{sizes} test images", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def transfer(matrix, title):
    """Accuracy (%) of the network in a column on examples made on that in a row, a DataFrame."""
    figure, axis = plt.subplots(figsize=(5.0, 3.2))
    picture = axis.imshow(matrix, vmin=0, vmax=100)
    for (i, j), value in np.ndenumerate(matrix.to_numpy()):
        text = "–" if np.isnan(value) else f"{value:.0f}"
        axis.text(j, i, text, ha="center", va="center", color="white" if value < 50 else "black")
    axis.set_xticks(range(len(matrix)), matrix.columns, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(matrix)), matrix.index)
    axis.set(xlabel="evaluated on", ylabel="examples made on", title=title)
    figure.colorbar(picture, label="accuracy (%)")
    return figure


def landscape(found):
    """The mean loss around the images, a panel a record: along the gradient's sign and along random signs."""
    found = {label: r["checks"] for label, r in found.items() if r["checks"]}
    figure, axes = plt.subplots(1, max(len(found), 1), figsize=(7.2, 2.1), sharey=True, squeeze=False)
    for axis, (label, c) in zip(axes[0], found.items(), strict=False):
        radii = np.linspace(-1, 1, len(c["landscape"])) * c["settings"]["epsilon"]
        levels = axis.contourf(radii, radii, c["landscape"], 12)
        ends = [levels.levels[0], levels.levels[-1]]
        figure.colorbar(levels, ax=axis, location="bottom", format="%.3g", ticks=ends)
        axis.set(title=label.replace(", ", ",\n"), xlabel="b, random signs")
    axes[0][0].set_ylabel("a, sign of the gradient")
    sizes = ", ".join(sorted({str(c["square"].size) for c in found.values()})) or "no"
    figure.suptitle(f"cross-entropy, mean over {sizes} test images; a, b in 1/255", fontsize=8)
    return figure


# ------------------------------------------------------------------------------------------- 06_features
def along(found, xlabel, measures, log=True):
    """Accuracies against a parameter, of {label: {value: {seed: record}}}: a mark a seed, lines join means.

    measures: {title: (kind, flags)}, a panel each; a label that ends in a bracket is drawn dashed and hollow.
    """
    figure, axes = plt.subplots(1, len(measures), figsize=(7.2, 2.8), sharex=True)
    values = sorted({value for runs in found.values() for value in runs}) or [1]
    for axis, (title, (kind, flags)) in zip(axes, measures.items(), strict=True):
        for label, runs in found.items():
            own = label.endswith(")")
            style = dict(linestyle="--", fill="none") if own else {}
            seeds_and_mean(axis, runs, (kind, flags), label, color=colour_of(label), **style)
        measured = any(line.get_xdata().size for line in axis.lines)
        axis.set(xlabel=xlabel, title=title if measured else f"{title}: not yet run")
        axis.margins(y=0.1)
        axis.set_ylim(0, None if measured else 1)
    axes[0].set_xscale("log" if log else "linear")
    for axis in axes:
        axis.set_xticks(values, [f"{value:g}" for value in values], rotation=90 if len(values) > 6 else 0)
        axis.minorticks_off()
    axes[0].set_xlim(min(values) / 1.5 if log else None, max(values) * 1.5 if log else None)
    axes[0].set_ylabel("accuracy (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def bn_layers(found):
    """γ, β, channels switched off and γ's changes of sign by layer, of {label: (record, parent or None)}."""
    shape = dict(figsize=(7.2, 5.2), sharex=True, sharey="row", squeeze=False)
    figure, axes = plt.subplots(4, max(len(found), 1), **shape)
    for column, (label, (record, parent)) in zip(axes.T, found.items(), strict=False):
        layers, colour = list(record["bn"].values()), colour_of(label)
        for axis, key in zip(column, ("gamma", "beta"), strict=False):
            low, middle, high = np.array([np.percentile(layer[key], (5, 50, 95)) for layer in layers]).T
            axis.plot(middle, color=colour)
            axis.fill_between(range(len(middle)), low, high, color=colour, alpha=0.25, linewidth=0)
        column[2].plot([100 * np.mean(np.abs(layer["gamma"]) < 0.01) for layer in layers], color=colour)
        known = parent and parent["weights"] == record["initial_weights"]
        before = [layer["gamma"] for layer in parent["bn"].values()] if known else [1] * len(layers)
        turned = [np.multiply(layer["gamma"], start) < 0 for layer, start in zip(layers, before, strict=True)]
        column[3].plot([100 * np.mean(flags) for flags in turned], color=colour)
        column[0].set_title(label.replace(", ", ",\n"))
        column[3].set_xlabel("BN layer")
    for axis, name in zip(axes[:, 0], ("γ", "β", "|γ| < 0.01 (%)", "γ changed sign (%)"), strict=True):
        axis.set_ylabel(name)
    return figure


def features(found, scale=None, layer=None):
    """Fragility against what BN did (scale: log2 of γ's change, layer: of each channel), and by layer."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5))
    if scale is not None:
        fragility = next(iter(found.values()))["features"]["fragility"]
        shown = axes[0].scatter(fragility, scale, s=4, c=layer, linewidths=0)
        figure.colorbar(shown, label="layer (depth)")
        axes[0].set(xlabel="fragility before", ylabel="log₂ |γ after / γ before|")
        axes[0].axhline(0, color="grey", linestyle=":", linewidth=1)
    for label, record in found.items():
        f, sizes = record["features"], [len(x["gamma"]) for x in record["bn"].values()]
        layers = np.repeat(range(len(sizes)), sizes)
        kept = f["useful_adversarial"] / f["useful_clean"]
        for axis, values in ((axes[1], f["fragility"]), (axes[2], kept)):
            axis.plot(pd.Series(values).groupby(layers).median(), color=colour_of(label), label=label)
    axes[1].set(xlabel="BN layer", ylabel="fragility, layer's median", ylim=(0, None))
    axes[2].set(xlabel="BN layer", ylabel="usefulness, adversarial / clean")
    sizes = ", ".join(sorted({str(r["features"]["settings"]["images"]) for r in found.values()})) or "no"
    figure.suptitle(f"{sizes} test images, PGD-20", fontsize=8)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def pictures(found):
    """Input gradient and PGD-20 perturbation of the first two test images, {label: record}; grey is zero."""
    found = {label: r["features"] for label, r in found.items()}
    height = max(len(found), 1)
    figure, axes = plt.subplots(height, 4, figsize=(5.0, 1.25 * height), squeeze=False)
    for row, (label, f) in zip(axes, found.items(), strict=False):
        for number, (key, name) in enumerate((("gradient", "gradient"), ("perturbation", "perturbation"))):
            for place in (0, 1):
                panel = (f[key][place] / 127 + 1) / 2
                picture = np.moveaxis(panel, 0, -1) if len(panel) == 3 else panel[0]
                row[2 * place + number].imshow(picture, cmap="gray", vmin=0, vmax=1)
                axes[0][2 * place + number].set_title(name)
        row[0].set_ylabel(label.replace(", ", ",\n"), fontsize=6)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure


# ---------------------------------------------------------------------------------------------- 07_norms
def disagreement(found):
    """TID on adversarial batches less its noise floor, by BN layer, of {label: record}; the first apart."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6))
    for axis, of in zip(axes, ("mean", "deviation"), strict=True):
        for label, record in found.items():
            if record["gap"]:
                measured = record["gap"]
                values = measured[f"tid_{of}_adversarial"] - measured[f"floor_{of}_adversarial"]
                style = dict(color=colour_of(label), label=label)
                axis.plot(range(1, len(values)), values[1:], **style)
                axis.plot(0, values[0], "o", color=style["color"])
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.axhline(0.05, color="grey", linestyle=":", linewidth=1)
        axis.set(xlabel="BN layer (the first apart)", ylabel="TID − noise floor", title=of)
    handles = {line.get_label(): line for line in axes[0].lines if not line.get_label().startswith("_")}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2)
    return figure
