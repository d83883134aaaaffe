"""Does BN-only AT of random features start? Every such training there is, by its adversarial training loss.

Decided here: which records are such trainings, and how they are grouped: by recipe (plain, or two stages:
BN-only clean training first) and by learning rate. Not here: what taking off is (rates.py), what follows for
a claim (claims.py). Nothing here looks at test images.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import bnat_utils as bnat
from study import rates
from study.records import all_records
from study.statistics import share

PLAIN, TWO_STAGES = "plain", "two stages"
STUDY_LENGTH = 5  # epochs; a shorter training has not had the time
COLOURS = {0.2: "#0072B2", 0.8: "#D55E00", 3.2: "#009E73"}


def trainings(exp):
    """{name: record} of every BN-only AT over random features, at the data, network and ε of `exp`."""
    found = {}
    for name, record in all_records(exp).items():
        run = record["run"]
        if run["trainable"] == "bn" and run["epsilon"] == exp.held_out_epsilon and recipe(run):
            found[name] = record
    return found


def recipe(run):
    """How a training of random features differs from the others but for its rate; None: of trained ones."""
    if run["step"] == "scratch":
        name = PLAIN
    elif (run["parent"] or "").startswith("scratch_"):
        name = TWO_STAGES
    else:
        return None
    if not run["weight_decay"]:
        return f"{name}, no decay"
    changed = [run[key] for key in ("gamma_decay", "gamma_start") if key in run]
    return ", ".join([name, *(f"γ to {value}" for value in changed)])


def groups(found):
    """{(recipe, learning rate): [took off?, ...]} of the trainings as long as the study's, or longer."""
    grouped = {}
    for record in found.values():
        run = record["run"]
        if run["epochs"] >= STUDY_LENGTH:
            grouped.setdefault((recipe(run), run["lr"]), []).append(rates.took_off(record))
    return dict(sorted(grouped.items()))


def table(found):
    """How many took off, a row a recipe and rate, with the Clopper-Pearson interval."""
    rows = {}
    for (name, lr), started in groups(found).items():
        rate, low, high, n = share(sum(started), len(started))
        percent = f"{100 * rate:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
        rows[f"{name}, learning rate {lr:g}"] = {"took off": sum(started), "of": n, "% [95 %]": percent}
    if not rows:
        rows["not yet run"] = {"took off": "–", "of": "–", "% [95 %]": "–"}
    title = f"trainings of {STUDY_LENGTH} epochs or more"
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(title)


def figure(found, data):
    """Adversarial training loss by epoch, a line a training, and the share that took off by recipe and rate.

    data: the name of the data set, whose number of classes says where a constant classifier's loss is.
    """
    made, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9), width_ratios=(1.5, 1))
    plateau = np.log(bnat.DATASETS[data]["classes"])
    several = [record for record in found.values() if len(record["history"]) > 1]
    for record in several:
        run, losses = record["run"], [epoch["train_loss"] for epoch in record["history"]]
        line = "-" if run["step"] == "scratch" else "--"
        colour = COLOURS.get(run["lr"], "grey")
        left.plot(range(1, len(losses) + 1), losses, line, color=colour, marker="o", linewidth=0.9)
    left.axhline(plateau, color="grey", linestyle=":", linewidth=1)
    place = dict(xy=(0.98, plateau), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    left.annotate(f"constant classifier: ln {np.exp(plateau):.0f} = {plateau:.2f}", fontsize=6, **place)
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set(xlabel="epoch", ylabel="adversarial training loss", title=f"{len(several)} trainings")
    shown = groups(found)
    for place, ((_, lr), started) in enumerate(shown.items()):
        rate, low, high, n = share(sum(started), len(started))
        error = [[100 * (rate - low)], [100 * (high - rate)]]
        style = dict(fmt="o", markersize=5, color=COLOURS.get(lr, "grey"), capsize=2)
        right.errorbar(place, 100 * rate, yerr=error, **style)
        right.annotate(
            f"{sum(started)} of {n}", (place, 100 * rate), (5, 3), textcoords="offset points", fontsize=6
        )
    right.set_xticks(range(len(shown)), [f"{name}\nlr {lr:g}".replace(", ", ",\n") for name, lr in shown])
    right.set(ylabel="took off (%)", ylim=(-4, 104), title=f"of {STUDY_LENGTH} epochs or more, 95 % interval")
    right.margins(x=0.2)
    lines = [plt.Line2D([], [], color=colour, label=f"lr {lr:g}") for lr, colour in COLOURS.items()]
    lines += [plt.Line2D([], [], color="grey", label="another rate")]
    lines += [plt.Line2D([], [], color="black", linestyle="--", label=TWO_STAGES)]
    made.legend(handles=lines, loc="outside lower center", ncols=5)
    return made
