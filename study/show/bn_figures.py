"""The figures of a fine-tuned BN, for 02, and of 08: what is inside a network.

Decided here: what is drawn. Not here: how a figure is written (figures.py), the numbers (bn_tables.py,
norm_tables.py), a row's colour (define/rows.py).
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap

from study.define.rows import colour, label
from study.show.bn_tables import BELOW, flat, left_by_decay, off, sizes, starts, turned
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
        figure.colorbar(counted, ax=axis, shrink=0.8).ax.set_title("channels", fontsize=7)
        text = f"{symbol}: median |change| {np.median(np.abs(after - before)):.3f}"
        run = record["run"]
        if (before != after).any() and "gamma_decay" not in run:
            text += f" ({np.median(np.abs(before)) * (1 - left_by_decay(run)):.3f} by weight decay alone)"
        said.append(text)
    return figure, "; ".join(said)


def by_layer(record, parent):
    """What became of γ and β in each BN layer of a record, a row of numbers a panel of `bn_layers`."""
    layers = list(record["bn"].values())
    before = np.split(starts(record, parent)[0], np.cumsum(sizes(record))[:-1])
    return {
        "median |γ|": [np.median(np.abs(layer["gamma"])) for layer in layers],
        "median |β|": [np.median(np.abs(layer["beta"])) for layer in layers],
        f"{BELOW} (%)": [off(layer["gamma"]) for layer in layers],
        "γ changed sign (%)": [
            turned(start, layer["gamma"]) for layer, start in zip(layers, before, strict=True)
        ],
    }


def bn_layers(pairs):
    """γ and β by layer, a row a network of {key: (record, parent or None)}, in a panel each of `by_layer`.

    Grey: not known. White lines: where the number of channels changes.
    """
    measured = {key: by_layer(*pair) for key, pair in pairs.items()}
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 0.5 * len(pairs) + 1.6), sharex=True, sharey=True)
    for axis in axes.flat:
        axis.set_facecolor("lightgrey")
        axis.xaxis.get_major_locator().set_params(integer=True)
    if not pairs:
        return figure
    titles, (first, _) = next(iter(measured.values())), next(iter(pairs.values()))
    for axis, title in zip(axes.flat, titles, strict=True):
        values = [panels[title] for panels in measured.values()]
        shown = axis.imshow(values, cmap=DEPTH, vmin=0, aspect="auto", interpolation="none")
        figure.colorbar(shown, ax=axis)
        axis.set(title=title)
        axis.set_yticks(range(len(pairs)), [label(key) for key in pairs])
        for number in np.flatnonzero(np.diff(sizes(first))):
            axis.axvline(number + 0.5, color="white", linewidth=1.5)
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
        layers = np.repeat(range(len(record["bn"])), sizes(record))
        panels = [(axes[1], record["features"]["fragility"])]
        if useful := record["usefulness"]:
            panels.append((axes[2], useful["adversarial"] / useful["clean"]))
        for axis, values in panels:
            axis.plot(pd.Series(values).groupby(layers).median(), color=colour(key), label=label(key))
    axes[1].set(xlabel="BN layer", ylabel="fragility,\nlayer's median", yscale="log")
    axes[2].set(xlabel="BN layer", ylabel="usefulness,\nadversarial / clean")
    axes[2].axhline(0, color="grey", linewidth=0.8)
    images = ", ".join(sorted({str(r["features"]["settings"]["images"]) for r in networks.values()})) or "no"
    figure.suptitle(f"{images} test images, PGD-20", fontsize=8)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def disagreement(networks):
    """TID on adversarial batches less its noise floor, by BN layer, of {key: record}; the first apart."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), sharey=True)
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
