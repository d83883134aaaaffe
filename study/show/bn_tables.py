"""What BN does to features, in tables and sentences: what became of γ and β, and of the fragile channels.

Decided here: how the measures are summed up, from which correlation on one is said. Not here: the measures
(measure/channels.py), figures.
"""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import bnat_utils as bnat
from study.decide.statistics import t_interval
from study.define.rows import label
from study.show.tables import by_row

OFF = 0.01  # |γ| below which a channel counts as switched off (Frankle et al. 2021)
BELOW = f"|γ| < {OFF:g}"
WEAK, CLEAR = 0.2, 0.4  # |ρ| from which a correlation is called weak, and clear


# ---------------------------------------------------------------------------------------------- γ and β
def flat(record, key):
    """γ or β ("gamma", "beta") of all BN channels of a record, float [channels]."""
    return np.concatenate([layer[key] for layer in record["bn"].values()])


def off(gamma):
    """The share of channels that are switched off, in percent."""
    return 100 * np.mean(np.abs(gamma) < OFF)


def far_below(record):
    """Channels whose |γ| is below 2 % of the largest of their layer, in percent."""
    layers = [np.abs(layer["gamma"]) for layer in record["bn"].values()]
    return 100 * np.mean(np.concatenate([layer < 0.02 * layer.max() for layer in layers]))


def turned(before, after):
    """The channels whose γ has another sign than before, in percent; NaN where that is not known."""
    return np.nan if np.isnan(before).any() else 100 * np.mean(np.multiply(before, after) < 0)


def sizes(record):
    """The number of channels of each BN layer."""
    return [len(layer["gamma"]) for layer in record["bn"].values()]


def starts(record, parent):
    """γ and β where the run started: the parent's, or 1 and 0; NaN where they are not known."""
    gamma, run = flat(record, "gamma"), record["run"]
    usual = run["arch"] in bnat.ARCHS and not run.keys() & {"norm", "gamma_start", "pretrain_weights"}
    if not run["parent"] and usual:
        return np.ones_like(gamma), np.zeros_like(gamma)
    if parent and parent["weights"] == record["initial_weights"]:
        return flat(parent, "gamma"), flat(parent, "beta")
    return np.full_like(gamma, np.nan), np.full_like(gamma, np.nan)


def left_by_decay(run):
    """What weight decay alone leaves of a γ that no gradient holds, as a share of where it started."""
    updates = run["epochs"] * (run["train_images"] // run["batch_size"])
    points, shares = bnat.SCHEDULES[run["schedule"]]
    mean_rate = run["lr"] * np.trapezoid(shares, points)
    return np.exp(-run["weight_decay"] * updates * mean_rate / (1 - bnat.MOMENTUM))


def gamma_beta_table(pairs):
    """γ and β against where they started, a row a model of {key: (record, parent or None)}."""
    table = {}
    for key, (record, parent) in pairs.items():
        g, b = flat(record, "gamma"), flat(record, "beta")
        g0, b0 = starts(record, parent)
        known = not np.isnan(g0).any()
        start = f"{np.median(abs(g0)):.2f}" if known else "–"
        start_beta = f"{np.median(b0):+.2f}" if known else "–"
        decayed = f"{np.median(abs(g0)) * left_by_decay(record['run']):.2f}" if known else "–"
        table[label(key)] = {
            f"{BELOW} (%), before → after": f"{off(g0):.1f} → {off(g):.1f}" if known else f"– → {off(g):.1f}",
            "below 2 % of the layer's largest |γ| (%)": f"{far_below(record):.1f}",
            "γ < 0 (%)": f"{100 * np.mean(g < 0):.1f}",
            "γ changed sign (%)": f"{turned(g0, g):.1f}" if known else "–",
            "β changed sign (%)": f"{turned(b0, b):.1f}" if known and parent else "–",
            "median |γ|, before → after": f"{start} → {np.median(abs(g)):.2f}",
            "median |γ| by weight decay alone": decayed,
            "median β, before → after": f"{start_beta} → {np.median(b):+.2f}",
        }
    counts = sorted({flat(record, "gamma").size for record, _ in pairs.values()})
    title = f"model, {' or '.join(map(str, counts))} channels"
    return by_row(table, title)


def switched_off(record):
    """The share of channels that are switched off, and of which network, as text."""
    return f"{off(flat(record, 'gamma')):.1f} % (seed {record['run']['seed']})"


def switched_off_sentence(random, clean, bare):
    """How much BN-only training of random features switches off, and how far decay alone takes a γ.

    random, clean: records of AT and of clean training; bare: of AT without weight decay. Each may be None.
    """
    if not random:
        return "Not yet run."
    run, shrunk = random["run"], left_by_decay(random["run"])
    text = f"Channels with {BELOW}: after BN-only AT over random features at lr {run['lr']:g}, "
    text += switched_off(random)
    if clean:
        text += f", after BN-only clean training {switched_off(clean)}"
    if bare:
        text += f", after AT without weight decay {switched_off(bare)}"
    enough = "enough to switch it off"
    if shrunk >= OFF:
        enough = f"not enough to switch it off, unless gradients took it below {OFF / shrunk:.1g} before"
    return (
        f"{text}; Frankle et al. report about a third after clean training. Weight decay alone takes a γ "
        f"that no gradient holds from 1 to {shrunk:.1g} in that AT: {enough}."
    )


# ---------------------------------------------------------------------------------- fragility and usefulness
COLUMNS = {  # kind of evaluation and its key
    "fragility": ("features", "fragility"),
    "usefulness, clean": ("usefulness", "clean"),
    "usefulness, adversarial": ("usefulness", "adversarial"),
    "drift of the mean (sd)": ("features", "shift"),
    "variance, adversarial / clean": ("features", "variance_ratio"),
}


def feature_table(networks):
    """Medians and quartiles over channels of what was measured of them, a row a model {key: record}.

    Last, the share of channels that mislead under attack: their usefulness is below 0.
    """
    table = {}
    for key, record in networks.items():
        row = table[label(key)] = {"n": record["features"]["settings"]["images"]}
        for name, (kind, column) in COLUMNS.items():
            row[name] = "not yet run"
            if record[kind]:
                low, middle, high = np.percentile(record[kind][column], (25, 50, 75))
                row[name] = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
        if useful := record["usefulness"]:
            row["mislead under attack (%)"] = f"{100 * np.mean(useful['adversarial'] < 0):.1f}"
    return by_row(table, "median [quartiles] over channels")


def comparable(parent, record):
    """Are both records there, with features, and did the run start from exactly that network?"""
    both = parent and record and parent["features"] and record["features"]
    return bool(both) and parent["weights"] == record["initial_weights"]


def scale(parent, record):
    """log2 of each channel's |γ after / γ before|, its layer, and that log2 by weight decay alone.

    None of these where the run did not start from that network.
    """
    if not comparable(parent, record):
        return None, None, None
    change = np.log2(abs(flat(record, "gamma")) / abs(flat(parent, "gamma")))
    layer = np.repeat(range(len(parent["bn"])), sizes(parent))
    return change, layer, np.log2(left_by_decay(record["run"]))


def rank(values, layer):
    """A channel's rank among those of its layer, from 0 to 1."""
    return pd.Series(values).groupby(layer).rank(pct=True)


def correlate(xs, ys, third=None):
    """Spearman's ρ of two features' values, with the rank of a third taken out of both."""
    if third is None:
        return spearmanr(xs, ys).statistic
    xy, xz, yz = (spearmanr(*two).statistic for two in ((xs, ys), (xs, third), (ys, third)))
    return (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))


def suppression(parent, record):
    """Does BN-only AT turn fragile features down? Correlations of what a feature was with its γ's change."""
    change, layer, _ = scale(parent, record)
    table = {}
    if change is not None:
        gamma = rank(abs(flat(parent, "gamma")), layer)
        names = {"fragility before": parent["features"]["fragility"]}
        if useful := parent["usefulness"]:
            names |= {
                "usefulness before, clean": useful["clean"],
                "usefulness before, adversarial": useful["adversarial"],
                "usefulness that the attack takes before": useful["clean"] - useful["adversarial"],
            }
        moved = rank(change, layer)
        for name, values in names.items():
            ranked = rank(values, layer)
            table[name] = {
                "all channels": f"{correlate(values, change):+.2f}",
                "within layers": f"{correlate(ranked, moved):+.2f}",
                "within layers, given |γ before|": f"{correlate(ranked, moved, gamma):+.2f}",
                "channels": change.size,
            }
    title = "Spearman ρ with log₂ |γ after / γ before|"
    return by_row(table, title)


def of_fragility(parent, record):
    """Spearman's ρ, within layers and given |γ| before, of fragility before with the change of |γ|."""
    change, layer, _ = scale(parent, record)
    before, gamma = parent["features"]["fragility"], abs(flat(parent, "gamma"))
    return correlate(rank(before, layer), rank(change, layer), rank(gamma, layer))


def over_pairs(pairs):
    """ρ of `of_fragility` of one pair a seed, with its 95 % interval: (ρ, low, high, what it is of).

    Of one pair Fisher's over its channels, one variable taken out; of more their mean, by t over seeds.
    """
    each = [of_fragility(*pair) for pair in pairs]
    if len(each) > 1:
        return *t_interval(each), f"over {len(each)} seeds"
    channels = flat(pairs[0][0], "gamma").size
    half = 1.96 / np.sqrt(channels - 4)
    low, high = np.tanh(np.arctanh(each[0]) + np.array([-half, half]))
    return each[0], low, high, f"were all {channels} channels of this one network independent"


def reading(parent, record, further=()):
    """What `suppression` comes to, in words. further: such pairs of other seeds, for ρ alone.

    record: of a run in which the convolutions were frozen, so that what enters the first BN layer is what it
    was: how its channels are moved is the attack's doing alone.
    """
    if not comparable(parent, record):
        return "Not yet run."
    change, _, by_decay = scale(parent, record)
    before, after = parent["features"]["fragility"], record["features"]["fragility"]
    unchanged = sizes(parent)[0]
    more = (after[:unchanged] > before[:unchanged]).sum()
    pairs = [(parent, record), *(pair for pair in further if comparable(*pair))]
    rho, low, high, of = over_pairs(pairs)
    end, strength = "", "no certain"
    if abs(rho) >= WEAK:
        strength = f"a {'weak' if abs(rho) < CLEAR else 'clear'} {'negative' if rho < 0 else 'positive'}"
    elif low > 0 or high < 0:
        strength = f"a very weak {'negative' if rho < 0 else 'positive'}"
    if rho <= -WEAK:
        end = ": the more fragile, the more γ was turned down"
    if rho >= WEAK:
        end = ": the more fragile, the less γ was turned down"
    kept = 100 * np.mean(change > by_decay)
    less = 100 * np.mean(after < before)
    return (
        f"After fine-tuning {less:.0f} % of the channels are moved less than before, each network by its own "
        f"attack (median {np.median(before):.2f} → {np.median(after):.2f}). Of the "
        f"{unchanged} of the first layer, which are the same function of the image before and after, {more} "
        "are moved more: there the attack alone makes the difference. Among the channels of a layer, given "
        f"|γ| before, there is {strength} correlation (ρ = {rho:+.2f} [{low:+.2f}, {high:+.2f}] {of}) of "
        f"fragility before with the change of |γ|{end}. Weight decay alone would leave every |γ| at "
        f"{2**by_decay:.2g} of what it was; {kept:.0f} % end above that."
    )
