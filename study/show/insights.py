"""The figures of 06 and 07: what the answer depends on.

Decided here: what is drawn. Not here: how a figure is written (figures.py), what is inside BN
(bn_figures.py), the numbers, a row's colour (define/rows.py).
"""

import matplotlib.pyplot as plt
import numpy as np

from study.decide import rates, take_off
from study.decide.claims import on_most_images
from study.decide.statistics import share
from study.define.rows import LONGER, OVER_RANDOM, colour, label, short
from study.measure.plan import BY_EPOCH, epsilon_of
from study.show.other_norms import RIGHT, held_out_images, with_history

TICKS_APART = 1.3  # times the value before, on a log axis
RATE_COLOURS = {0.2: "#0072B2", 0.8: "#D55E00", 3.2: "#009E73"}  # of the take-off figure


def seeds_and_mean(axis, runs, measure, **style):
    """Percent of {x: {seed: record}} under a measure (see rates), as `points_and_mean` draws it."""
    points_and_mean(axis, {x: rates.of_seeds(seeds, measure) for x, seeds in runs.items()}, **style)


def points_and_mean(axis, points, fill="full", marker="o", hollow=(), places=None, **style):
    """{x: {seed: number}}: a mark a seed; a line joins the means of the seeds that every x has, none hollow.

    Between the means of other seeds a line would show how the seeds differ. hollow: (x, seed) of the marks
    that are; places: {x: where it is drawn}, for rows that lie side by side.
    """
    shown = {x: of_seeds for x, of_seeds in points.items() if of_seeds}
    filled = [{seed for seed in of_seeds if (x, seed) not in hollow} for x, of_seeds in shown.items()]
    shared = set.intersection(*filled) if filled else ()
    joined = list(shown) if shared else []
    means = [np.mean([shown[x][seed] for seed in shared]) for x in joined]
    places = places or {x: x for x in points}
    line = axis.plot([places[x] for x in joined], means, **style)
    mark = dict(markersize=4, color=line[0].get_color())
    for x, of_seeds in shown.items():
        axis.plot([places[x]] * len(of_seeds), list(of_seeds.values()), marker, fillstyle=fill, **mark)
        inside = [number for seed, number in of_seeds.items() if (x, seed) in hollow]
        if inside:
            axis.plot([places[x]] * len(inside), inside, marker, markerfacecolor="white", **mark)


# ------------------------------------------------------------------------------------------- 06_features
def take_off_figure(trainings, data):
    """Adversarial training loss by epoch, a line a training, and the share that took off by recipe and rate.

    data: the name of the data set, whose number of classes says where a constant classifier's loss is.
    """
    made, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9), width_ratios=(1.4, 1))
    plateau, bound = rates.plateau(data)
    several = [record for _, record in trainings.values() if len(record["history"]) > 1]
    for record in several:
        run, losses = record["run"], [epoch["train_loss"] for epoch in record["history"]]
        line = "-" if run["step"] == "scratch" else "--"
        if not run["weight_decay"]:
            line = ":"
        shade = RATE_COLOURS.get(run["lr"], "grey")
        width = 0.9 if len(losses) >= take_off.STUDY_LENGTH else 0.4
        left.plot(range(1, len(losses) + 1), losses, line, color=shade, marker="o", linewidth=width)
    left.axhline(plateau, color="grey", linestyle=":", linewidth=1)
    at = dict(xy=(0.98, plateau), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    left.annotate(f"constant classifier: {plateau:.2f}", fontsize=7, **at)
    left.axhline(bound, color="grey", linestyle="--", linewidth=0.7)
    at |= dict(xy=(0.98, bound), va="top")
    left.annotate(f"took off: below {bound:.2f}", fontsize=7, **at)
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set(xlabel="epoch", ylabel="adversarial training loss", title=f"{len(several)} trainings")
    shown = take_off.groups(trainings)
    for place, ((_, lr), started) in enumerate(shown.items()):
        rate, low, high, n = share(started.count(True), len(started))
        error = [[100 * (rate - low)], [100 * (high - rate)]]
        style = dict(fmt="o", markersize=5, color=RATE_COLOURS.get(lr, "grey"), capsize=2)
        right.errorbar(100 * rate, place, xerr=error, **style)
    counted = [f"{started.count(True)} of {len(started)}" for started in shown.values()]
    names = [f"{name}, lr {lr:g}: {k}" for (name, lr), k in zip(shown, counted, strict=True)]
    right.set_yticks(range(len(shown)), names)
    right.invert_yaxis()
    title = f"of {take_off.STUDY_LENGTH} epochs or more,\n95 % interval"
    right.set(xlabel="took off (%)", xlim=(-4, 104), title=title)
    right.margins(y=0.2)
    lines = [plt.Line2D([], [], color=shade, label=f"lr {lr:g}") for lr, shade in RATE_COLOURS.items()]
    if any(record["run"]["lr"] not in RATE_COLOURS for record in several):
        lines += [plt.Line2D([], [], color="grey", label="another rate")]
    lines += [plt.Line2D([], [], color="black", linestyle="--", label=take_off.TWO_STAGES)]
    lines += [plt.Line2D([], [], color="black", linestyle=":", label="no decay")]
    made.legend(handles=lines, loc="outside lower center", ncols=5)
    return made


def along(axis_points, xlabel, measures, log=True):
    """Accuracies against a parameter, of {key: {value: {seed: record}}}: `seeds_and_mean` of each row.

    measures: {title: (kind, flags)}, a panel each where it was measured at two values or more. A variant of a
    row, its key a pair, has hollow diamonds; a row that is trained longer than the others a dotted line.
    """
    measured_at = {title: set() for title in measures}
    for runs in axis_points.values():
        for value, seeds in runs.items():
            for title, measure in measures.items():
                if rates.of_seeds(seeds, measure):
                    measured_at[title].add(value)
    shown = {title: measures[title] for title, values in measured_at.items() if len(values) > 1}
    height = 2.6 + 0.15 * np.ceil(len(axis_points) / 3)  # the legend's lines take nothing from the panels
    figure, axes = plt.subplots(1, max(len(shown), 1), figsize=(7.2, height), sharex=True, squeeze=False)
    axes = axes[0]
    values = sorted({value for runs in axis_points.values() for value in runs}) or [1]
    handles = []
    for key in axis_points:
        line, marker, fill = ":" if key in LONGER else "-", "o", "full"
        if isinstance(key, tuple):
            line, marker, fill = "--", "D", "none"
        style = dict(color=colour(key), linestyle=line, marker=marker)
        for axis, measure in zip(axes, shown.values(), strict=False):
            seeds_and_mean(axis, axis_points[key], measure, fill=fill, **style)
        handles.append(plt.Line2D([], [], label=label(key), markersize=4, fillstyle=fill, **style))
    for axis, title in zip(axes, shown, strict=False):
        axis.set(xlabel=xlabel, title=title)
        axis.set_ylim(0, 1.08 * axis.dataLim.y1)
    axes[0].set_xscale("log" if log else "linear")
    # two values that all but coincide on the axis share a tick, that of the smaller
    pairs = zip([0, *values], values, strict=False)
    ticks = [value for before, value in pairs if not log or value > TICKS_APART * before]
    for axis in axes:
        axis.set_xticks(ticks, [f"{value:g}" for value in ticks], rotation=90 if len(ticks) > 6 else 0)
        axis.minorticks_off()
    axes[0].set_xlim(min(values) / 1.5 if log else None, max(values) * 1.5 if log else None)
    axes[0].set_ylabel("accuracy (%)" if shown else "not yet run")
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def hollow_marks(key, points):
    """(x, seed) of a row's {x: {seed: record}}: the AT of random features that did not take off."""
    return {
        (x, seed)
        for x, seeds in points.items()
        for seed, record in seeds.items()
        if key in OVER_RANDOM and not rates.took_off(record)
    }


def side_by_side(rows):
    """{key: step to the right} of rows at the same x, about the middle."""
    return {key: number - (len(rows) - 1) / 2 for number, key in enumerate(rows)}


def against_radius(radii, gaps):
    """R against the ε of training and attack, and by how much trained features are ahead, a mark a seed.

    radii, gaps: of `decide.axes`. Hollow: an adversarial training of random features that did not take off.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8))
    for key, step in side_by_side(radii).items():
        places = {eps: eps + 0.12 * step for eps in radii[key]}
        style = dict(color=colour(key), hollow=hollow_marks(key, radii[key]), places=places)
        seeds_and_mean(left, radii[key], rates.ROBUST, label=label(key), **style)
        if key in gaps:
            attacked = {eps: points for eps, points in gaps[key].items() if eps}
            points_and_mean(right, attacked, **style)
    right.axhline(0, color="grey", linewidth=0.8)
    left.set(ylabel="R (%)", title="robust accuracy", ylim=(0, None))
    right.set(ylabel="points of R", title="how far trained features are ahead")
    values = sorted({eps for points in radii.values() for eps in points})
    for axis in (left, right):
        axis.set(xlabel="ε of training and attack (1/255)")
        axis.set_xticks(values)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def capacity(sizes, perceptron):
    """R against the number of γ and β, of `decide.axes.capacity`; dotted: P, {seed: record}.

    Hollow: as in `against_radius`.
    """
    figure, axis = plt.subplots(figsize=(4.2, 2.9))
    for key, step in side_by_side(sizes).items():
        places = {size: size * 1.02**step for size in sizes[key]}
        style = dict(color=colour(key), hollow=hollow_marks(key, sizes[key]), places=places)
        seeds_and_mean(axis, sizes[key], rates.ROBUST, label=label(key), **style)
    reached = list(rates.of_seeds(perceptron, rates.ROBUST).values())
    if reached:
        style = dict(color=colour("perceptron"), linestyle=":", label=label("perceptron"))
        axis.axhline(np.mean(reached), **style)
    values = sorted({value for points in sizes.values() for value in points})
    axis.set(xscale="log", xlabel="number of γ and β", ylabel="R (%)", ylim=(0, None))
    axis.set_xticks(values, [f"{value:,}" for value in values])
    axis.minorticks_off()
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


# ---------------------------------------------------------------------------------------------- 07_norms
def fragility(rows):
    """Standard training under each normalisation, {key: {seed: record}}: R by radius, and on the way.

    Left: R at small radii on test images, a line a seed. Right: after each epoch accuracy under PGD-10 of an
    eighth of ε against clean accuracy, on held-out images: a dot, the last large. In brackets: seeds of both.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9))
    kept, _ = on_most_images(rows, RIGHT)
    shown = [
        record["small"]["settings"] for seeds in kept.values() for record in seeds.values() if record["small"]
    ]
    epsilons = sorted({epsilon_of(settings) for settings in shown})
    for number, (key, seeds) in enumerate(rows.items()):
        style, measured = dict(color=f"C{number}"), [r["small"] for r in kept[key].values() if r["small"]]
        if measured:
            radii = [0, *measured[0]["settings"]["radii"]]
            reached = [rates.of_seeds(kept[key], ("small", f"{radius:g}")) for radius in radii]
            counted = f"{len(measured)}; {len(with_history(seeds))}"
            left.plot([], [], "o-", label=f"{short(key)} ({counted})", markersize=4, **style)
            lines = [list(of_seeds.values()) for of_seeds in reached]
            left.plot(radii, lines, "o-", markersize=3, linewidth=0.9, **style)
            left.set_xticks(radii, [f"{radius:g}" for radius in radii])
            left.set_title(f"{measured[0]['0'].size:,} random test images")
        for epochs in with_history(seeds).values():
            clean, small = ([100 * e[f"held_out_{of}"] for e in epochs] for of in ("clean", "small"))
            right.plot(clean, small, ".", markersize=4, alpha=0.5, **style)
            right.plot(clean[-1], small[-1], "o", markersize=5, **style)
    left.set(xlabel="attack radius (1/255)", ylabel="R (%)", ylim=(0, 100))
    attack = f"PGD-10 at {BY_EPOCH * epsilons[0]:g}/255 (%)" if epsilons else "PGD-10 at ε/8 (%)"
    right.set(xlabel="clean accuracy (%)", ylabel=attack, title=f"{held_out_images(rows)}, by epoch")
    right.set_ylim(0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
