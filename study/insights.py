"""The figures of 06 and 07 and of a fine-tuned BN: what the answer depends on, and what is inside a network.

Decided here: what is drawn. Not here: colours and how a figure is written (figures.py), the numbers.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from study.figures import colour_of


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


def seeds_and_mean(axis, runs, measure, label, fill="full", **style):
    """Percent of {x: {seed: record}} under a measure (kind, flags): a mark a seed, a line joins the means."""
    kind, flags = measure
    rates = {x: [100 * r[kind][flags].mean() for r in seeds.values() if r[kind]] for x, seeds in runs.items()}
    rates = {x: some for x, some in rates.items() if some}
    line = axis.plot(list(rates), [np.mean(some) for some in rates.values()], label=label, **style)
    for x, some in rates.items():
        axis.plot([x] * len(some), some, "o", markersize=4, color=line[0].get_color(), fillstyle=fill)


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
        axis.xaxis.get_major_locator().set_params(integer=True)
    handles = {line.get_label(): line for line in axes[0].lines if not line.get_label().startswith("_")}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2)
    return figure
