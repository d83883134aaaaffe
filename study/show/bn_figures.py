"""The figures of a fine-tuned BN, for 02, and of 08: what is inside a network.

Decided here: what is drawn. Not here: how a figure is written (figures.py), the numbers (bn_tables.py,
norm_tables.py), a row's colour (define/rows.py).
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap

from study.define.rows import colour, label
from study.show.bn_tables import flat, off, sizes, starts, turned
from study.show.norm_tables import WORTH_MENDING, excess

DEPTH = ListedColormap(plt.get_cmap("cividis")(np.linspace(0, 0.85, 256)))  # no yellow on white


def before_after(parent, record):
    """γ and β of every BN channel before and after, as densities: (figure, a sentence)."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2))
    said = []
    for axis, key, symbol in zip(axes, ("gamma", "beta"), "γβ", strict=True):
        before, after = (flat(r, key) for r in (parent, record))
        low, high = min(before.min(), after.min()), max(before.max(), after.max())
        edge = 0.03 * (high - low) + 1e-3
        limits = [low - edge, high + edge]
        shape = dict(gridsize=45, extent=[*limits, *limits], mincnt=1, bins="log", cmap=DEPTH)
        counted = axis.hexbin(before, after, **shape)
        axis.axline((0, 0), slope=1, color="grey", linestyle=":", linewidth=1)
        axis.set(xlabel=f"{symbol} before", ylabel=f"{symbol} after", title=f"{before.size:,} channels")
        axis.set(xlim=limits, ylim=limits, aspect="equal")
        figure.colorbar(counted, ax=axis, label="channels", shrink=0.8)
        moved, median = 100 * np.mean(before != after), np.median(np.abs(after - before))
        said.append(f"{symbol}: {moved:.0f} % of {before.size:,} moved, median |change| {median:.3f}")
    return figure, "; ".join(said)


def bn_layers(pairs):
    """What became of γ by layer, a row a network of {key: (record, parent or None)}, in four panels.

    Medians of |γ| and of |β|, channels switched off (|γ| < 0.01), and those whose γ changed its sign; grey
    where that is not known. White lines: where the number of channels changes.
    """
    titles = ("median |γ|", "median |β|", "|γ| < 0.01 (%)", "γ changed sign (%)")
    measured = {title: [] for title in titles}
    for record, parent in pairs.values():
        layers = list(record["bn"].values())
        before = np.split(starts(record, parent)[0], np.cumsum(sizes(record))[:-1])
        measured["median |γ|"].append([np.median(np.abs(layer["gamma"])) for layer in layers])
        measured["median |β|"].append([np.median(np.abs(layer["beta"])) for layer in layers])
        measured["|γ| < 0.01 (%)"].append([off(layer["gamma"]) for layer in layers])
        measured["γ changed sign (%)"].append(
            [turned(start, layer["gamma"]) for layer, start in zip(layers, before, strict=True)]
        )
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 0.5 * len(pairs) + 1.6), sharex=True, sharey=True)
    for axis, title in zip(axes.flat, titles, strict=True):
        axis.set(title=title, facecolor="lightgrey")
        if pairs:
            shown = axis.imshow(measured[title], cmap=DEPTH, vmin=0, aspect="auto", interpolation="none")
            figure.colorbar(shown, ax=axis)
            axis.set_yticks(range(len(pairs)), [label(key) for key in pairs])
            for number in np.flatnonzero(np.diff(sizes(next(iter(pairs.values()))[0]))):
                axis.axvline(number + 0.5, color="white", linewidth=1.5)
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes[1]:
        axis.set_xlabel("BN layer, from the input on")
    return figure


def features(networks, scale=None, layer=None, by_decay=None):
    """Fragility against what BN did, and by layer. scale, layer, by_decay: of `bn_tables.scale`."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5))
    if scale is not None:
        fragility = next(iter(networks.values()))["features"]["fragility"]
        shown = axes[0].scatter(fragility, scale, s=4, c=layer, cmap=DEPTH, linewidths=0)
        figure.colorbar(shown, label="layer (depth)")
        axes[0].set(xlabel="fragility before", ylabel="log₂ |γ after / γ before|")
        axes[0].axhline(0, color="grey", linestyle=":", linewidth=1)
        axes[0].axhline(by_decay, color="black", linestyle="--", linewidth=1)
    for key, record in networks.items():
        f, layers = record["features"], np.repeat(range(len(record["bn"])), sizes(record))
        kept = f["useful_adversarial"] / f["useful_clean"]
        for axis, values in ((axes[1], f["fragility"]), (axes[2], kept)):
            axis.plot(pd.Series(values).groupby(layers).median(), color=colour(key), label=label(key))
    axes[1].set(xlabel="BN layer", ylabel="fragility,\nlayer's median", ylim=(0, None))
    axes[2].set(xlabel="BN layer", ylabel="usefulness,\nadversarial / clean")
    images = ", ".join(sorted({str(r["features"]["settings"]["images"]) for r in networks.values()})) or "no"
    figure.suptitle(f"{images} test images, PGD-20", fontsize=8)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def disagreement(networks):
    """TID on adversarial batches less its noise floor, by BN layer, of {key: record}; the first apart."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6))
    for axis, of in zip(axes, ("mean", "deviation"), strict=True):
        for key, record in networks.items():
            if record["gap"]:
                values = excess(record["gap"], of, "adversarial")
                style = dict(color=colour(key), label=label(key))
                axis.plot(range(1, len(values)), values[1:], **style)
                axis.plot(0, values[0], "o", color=style["color"])
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.axhline(WORTH_MENDING, color="grey", linestyle=":", linewidth=1)
        axis.set(xlabel="BN layer (the first apart)", ylabel="TID − noise floor", title=of)
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
