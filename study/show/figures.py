"""The report's figures, each from records, and how they are written.

Decided here: what is drawn. Not here: the numbers, a row's colour (define/rows.py), those of 06 and 07
(insights.py) and of BN (bn_figures.py).
"""

import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import bnat_utils as bnat
from study.decide import rates, verdicts
from study.decide.claims import BY_SIGNS
from study.decide.statistics import proportion, sign_flip, t_interval
from study.define import parameters
from study.define.rows import LONGER, OVER_RANDOM, colour, label
from study.measure.masking import CHECK_RESTARTS, CHECK_STEPS
from study.run import records


def use_style():
    """The house style, for every figure that this process draws from now on."""
    plt.style.use(parameters.ROOT / "notebooks" / "bnat.mplstyle")


def save(figure, exp, name):
    """Write a figure to out/<profile>/figures/<name>.png and .pdf, the same bytes each time.

    The PNG has 256 colours, unless the figure shows images.
    """
    files = {}
    for kind, metadata in (("png", None), ("pdf", {"CreationDate": None})):
        image = io.BytesIO()
        figure.savefig(image, format=kind, metadata=metadata)
        files[f"{name}.{kind}"] = image.getvalue()
    if not any(axis.images for axis in figure.axes):
        files[f"{name}.png"] = in_256_colours(files[f"{name}.png"])
    records.keep(exp, files)


def in_256_colours(png):
    """A PNG of lines and text as one with a palette: it looks the same and is a third as large."""
    image = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize().save(image, "PNG", optimize=True)
    return image.getvalue()


def chance_line(axis, chance):
    """The accuracy of a constant classifier."""
    axis.axhline(100 * chance, color="grey", linestyle=":", linewidth=1)


def points(outcomes):
    """Rates and 95 % Wilson intervals in percent of several outcomes: float [len, 3] (rate, low, high)."""
    return 100 * np.array([proportion(flags)[:3] for flags in outcomes]).reshape(-1, 3)


LEARNING = ("held_out_clean", "held_out_robust")  # of each epoch, what is drawn from above
FEW = 4  # networks whose intervals are told apart in one panel
MARKED = 5  # epochs, at most, that have a mark each: one alone would be no line


def curves(networks):
    """Held-out accuracy after each epoch and robust accuracy against ε, a line a network {key: record}.

    Trainings of different length have columns of their own: clean accuracy above, PGD-10's on the same
    held-out images below. Bands around the robust accuracies of FEW networks alone: of more they would hide
    the lines.
    """
    lengths = sorted({len(record["history"]) for record in networks.values() if record["history"]})
    figure = plt.figure(figsize=(7.2, 4.4))
    grid = figure.add_gridspec(2, len(lengths) + 1, width_ratios=[*[1] * len(lengths), 1.8])
    radii = figure.add_subplot(grid[:, -1])
    radii.set(xlabel="attack radius ε (1/255)", ylabel="accuracy under PGD (%)", title="PGD, test images")
    panels = learning_panels(figure, grid, lengths)
    handles = []
    for place, (key, record) in enumerate(networks.items()):
        longer = dict(linestyle=":") if key in LONGER else {}
        style = dict(color=colour(key) or f"C{place}", marker="o", clip_on=False) | longer
        handles.append(plt.Line2D([], [], color=style["color"], marker="o", label=label(key), **longer))
        history = record["history"]
        for measured in LEARNING if history else ():
            accuracies = [100 * epoch[measured] for epoch in history]
            epochs = [epoch["epoch"] for epoch in history]
            marker = "o" if len(history) <= MARKED else ""
            panels[len(history), measured].plot(epochs, accuracies, **style | dict(marker=marker))
        if record["curve"]:
            against_radius(radii, record["curve"], bands=len(networks) <= FEW, **style)
    info = [bnat.DATASETS[record["run"]["data"]] for record in networks.values()]
    n = "/".join(sorted({f"{each['held_out']:,}" for each in info}))
    for chance in sorted({each["chance"] for each in info}):
        for axis in figure.axes:
            chance_line(axis, chance)
        radii.annotate("chance", (0, 100 * chance + 0.5), fontsize=7, color="grey")
    for axis in figure.axes:
        axis.set_ylim(0, max(25, axis.get_ylim()[1]))  # a flat line looks flat
    radii.set_ylim(0, 100)
    if lengths:
        for measured, name in zip(LEARNING, ("clean", "PGD-10"), strict=True):
            panels[lengths[0], measured].set_ylabel(f"{name} (%),\n{n} held-out images")
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def learning_panels(figure, grid, lengths):
    """{(epochs, key of LEARNING): axes} in the columns of a grid from the left, a row with one y-axis."""
    panels = {}
    for column, length in enumerate(lengths):
        for row, key in enumerate(LEARNING):
            beside = panels[lengths[0], key] if column else None
            panels[length, key] = figure.add_subplot(grid[row, column], sharey=beside)
            panels[length, key].tick_params(labelleft=not column, labelbottom=bool(row))
            panels[length, key].xaxis.get_major_locator().set_params(integer=True)
        panels[length, LEARNING[0]].set_title(f"{length} epoch{'s' if length > 1 else ''}")
        panels[length, LEARNING[1]].set_xlabel("epoch")
    return panels


def against_radius(axis, curve, bands, **style):
    """Robust accuracy against the radius of the attack, with its interval if `bands`; 0, then a log axis."""
    settings, shown = curve["settings"], points(curve["robust"])
    axis.plot(settings["epsilons"], shown[:, 0], **style)
    if bands:
        band = dict(alpha=0.2, color=style["color"], linewidth=0)
        axis.fill_between(settings["epsilons"], shown[:, 1], shown[:, 2], **band)
    first, *others = [eps for eps in settings["epsilons"] if eps]
    axis.set_xscale("symlog", linthresh=first, linscale=0.5)
    ticks = [0, first, *(eps for eps in others if np.log2(eps / first) % 1 == 0)]
    axis.set_xticks(ticks, [f"{eps:g}" for eps in ticks])
    axis.minorticks_off()
    axis.set_title(f"PGD, {settings['images']:,} test images")


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


INTERVAL = dict(color="black", capsize=2, linewidth=1.2, markersize=9, markeredgewidth=1.6)


def headline(rows, decided, chance):
    """R of every row and the claims' differences: a mark a seed, bars the mean and its 95 % t-interval.

    rows: {key: {seed: record}}; decided: a claims.Claim each; chance: a constant classifier's accuracy.
    Hollow is an adversarial training of random features that did not take off.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.3), width_ratios=(1.25, 1))
    shown = [key for key in FOREST if rates.of_seeds(rows[key], rates.ROBUST)]
    for place, key in enumerate(shown):
        measured = rates.of_seeds(rows[key], rates.ROBUST)
        stayed = {seed for seed in measured if key in OVER_RANDOM and not rates.took_off(rows[key][seed])}
        colours = ["none" if seed in stayed else colour(key) for seed in measured]
        style = dict(s=16, edgecolors=colour(key), facecolors=colours, linewidths=1, zorder=3)
        left.scatter(list(measured.values()), spread(place, len(measured)), **style)
        left.plot([np.mean(list(measured.values()))] * 2, [place - 0.35, place + 0.35], color=colour(key))
    counted = [len(rates.of_seeds(rows[key], rates.ROBUST)) for key in shown]
    names = [f"{label(key)} ({n})" for key, n in zip(shown, counted, strict=True)]
    left.set_yticks(range(len(shown)), names)
    left.axvline(100 * chance, color="grey", linestyle=":", linewidth=1)
    left.annotate("chance", (100 * chance + 0.5, len(shown) - 0.5), fontsize=7, color="grey")
    left.set(xlabel="R (%), a mark a seed", title="Robust accuracy (seeds)", xlim=(-1, None))
    compared = pairs(rows, decided)
    for place, (values, over_random) in enumerate(compared.values()):
        stayed = [seed for seed in values if over_random and not rates.took_off(rows[over_random][seed])]
        colours = ["none" if seed in stayed else "#7f7f7f" for seed in values]
        style = dict(s=12, edgecolors="#7f7f7f", facecolors=colours, linewidths=1, zorder=3)
        right.scatter(list(values.values()), spread(place, len(values)), **style)
        mean, low, high = t_interval(values.values())
        if np.isfinite(low):
            bar = dict(xerr=[[mean - low], [high - mean]], fmt="|", zorder=4)
            right.errorbar(mean, place - 0.3, **bar, **INTERVAL)
    right.axvspan(-verdicts.DELTA, verdicts.DELTA, color="grey", alpha=0.15, linewidth=0)
    right.axvline(0, color="grey", linewidth=0.8)
    right.set_yticks(range(len(compared)), list(compared))
    right.set(xlabel="difference of R (points)", title="Paired by seed, 95 % t-interval")
    for axis in (left, right):
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(-0.6, None)
    right.set_ylim(-0.7, None)  # intervals stand below their marks
    return figure


def pairs(rows, decided):
    """The headline's right panel from below: {label: ({seed: points}, its row of random features)}."""
    known = {claim.key: claim for claim in decided if claim.values}
    shown = {}
    for key in reversed([key for key in DIFFERENCES if key in known]):
        values = known[key].values
        test = ""
        if key == BY_SIGNS and len(values) > 1:
            test = f", sign-flip\np = {sign_flip(values.values()):.3f}"
        rows_of = {row for part in known[key].parts for row in part.rows}
        over_random = next((row for row in OVER_RANDOM if row in rows_of), None)
        shown[f"{DIFFERENCES[key]}\n({key}, {len(values)} seeds{test})"] = values, over_random
    gap = rates.differences(rows["finetuned"], rows["perceptron"])
    if gap:  # beside the claims
        shown = {f"trained − P\n({len(gap)} seeds)": (gap, None)} | shown
    return shown


def spread(place, n):
    """Heights around a row's own for its n marks, so that equal ones are seen."""
    return place + 0.12 * (np.arange(n) - (n - 1) / 2) / max(1, n / 4)


# ---------------------------------------------------------------------------------------------- 05_trust
def attacks(networks, epsilon, chance):
    """Robust accuracy against the attack's steps and restarts, and under Square and an unbounded attack."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), sharey=True)
    measured = {key: record["checks"] for key, record in networks.items() if record["checks"]}
    restarts = range(1, CHECK_RESTARTS + 1)
    last = {"PGD-20": "restarts 1", f"{CHECK_RESTARTS}\nrestarts": f"restarts {CHECK_RESTARTS}"}
    last |= {"Square": "square", "unbounded": "unbounded"}
    for place, (row, c) in enumerate(measured.items()):
        style = dict(color=colour(row))
        for axis, key, xs in ((axes[0], "steps", CHECK_STEPS), (axes[1], "restarts", restarts)):
            shown = points(c[f"{key} {x}"] for x in xs)
            axis.plot(xs, shown[:, 0], marker="o", label=label(row), **style)
            axis.fill_between(xs, shown[:, 1], shown[:, 2], alpha=0.15, linewidth=0, **style)
        shown = points(c[key] for key in last.values())
        x = np.arange(len(last)) + 0.6 / max(len(measured), 5) * (place - (len(measured) - 1) / 2)
        axes[2].errorbar(x, shown[:, 0], np.abs(shown[:, 1:].T - shown[:, 0]), fmt="o", **style)
    axes[2].set_xticks(range(len(last)), list(last))
    axes[0].set(
        xscale="log", xlabel="PGD steps", ylabel=f"robust accuracy (%), ε = {epsilon:g}/255", ylim=(-2, None)
    )
    axes[0].set_xticks(CHECK_STEPS, CHECK_STEPS)
    axes[0].minorticks_off()
    axes[1].set(xlabel="restarts of PGD-20")
    axes[2].set(xlabel="attack")
    for axis in axes:
        chance_line(axis, chance)
    axes[1].annotate("chance", (1, 100 * chance - 1), fontsize=7, color="grey", va="top")
    sizes = ", ".join(sorted({str(c["square"].size) for c in measured.values()})) or "no"
    figure.suptitle(f"the first {sizes} test images (unbounded: ε = 1)", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def transfer(matrix, title):
    """Accuracy (%) of the network in a column on examples made on that in a row, a DataFrame."""
    figure, axis = plt.subplots(figsize=(7.2, 1.4 + 0.3 * len(matrix)))
    picture = axis.imshow(matrix, vmin=0, vmax=100, aspect="auto")
    for (i, j), value in np.ndenumerate(matrix.to_numpy()):
        text = "–" if np.isnan(value) else f"{value:.0f}"
        style = dict(ha="center", va="center", fontsize=7)
        axis.text(j, i, text, color="white" if value < 60 else "black", **style)
    axis.set_xticks(range(len(matrix)), matrix.columns, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(matrix)), matrix.index)
    axis.set(xlabel="evaluated on", ylabel="examples made on", title=title)
    figure.colorbar(picture, label="accuracy (%)")
    return figure


def landscape(networks):
    """The mean loss around the images, a panel a record: along the gradient's sign and along random signs."""
    measured = {key: record["checks"] for key, record in networks.items() if record["checks"]}
    figure, axes = plt.subplots(1, max(len(measured), 1), figsize=(7.2, 2.1), sharey=True, squeeze=False)
    for axis, (key, c) in zip(axes[0], measured.items(), strict=False):
        radii = np.linspace(-1, 1, len(c["landscape"])) * c["settings"]["epsilon"]
        axis.contourf(radii, radii, c["landscape"], 12)
        lowest, highest = c["landscape"].min(), c["landscape"].max()
        name = label(key).replace(", ", ",\n") + ("" if ", " in label(key) else "\n")
        axis.set(title=f"{name}\nloss {lowest:.2f} to {highest:.2f}", xlabel="b, random signs")
    axes[0][0].set_ylabel("a, sign of the gradient")
    sizes = ", ".join(sorted({str(c["square"].size) for c in measured.values()})) or "no"
    figure.suptitle(f"cross-entropy, mean over {sizes} test images; a, b in 1/255", fontsize=8)
    return figure
