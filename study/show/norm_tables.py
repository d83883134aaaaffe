"""What 07 and 08 say of normalisation, in tables and sentences.

Decided here: how the measures are summed up and from which gap on a penalty on it has something to mend. Not
here: the measures (measure/norms.py), the verdict on C7 (decide/claims.py).
"""

import numpy as np
import pandas as pd

import bnat_utils as bnat
from study.decide import rates
from study.decide.statistics import mean_sd, percent, proportion
from study.define.rows import label, short
from study.measure.norms import SOURCES
from study.show.bn_tables import flat, off, sizes

WORTH_MENDING = 0.05  # TID beyond the noise above which a regulariser of the gap is tried
# rows whose LIGS is said in a sentence
SMOOTH = ("standard", "at", "bn_clean", "finetuned", "random", "linear")


def fragility_table(rows):
    """Standard training under each normalisation {key: {seed: record}} that ran: small radii, LIGS.

    A column a normalisation, a row a measure.
    """
    table, images = {}, set()
    for key, seeds in rows.items():
        measured = [record["small"] for record in seeds.values() if record["small"]]
        if not measured:
            if seeds:
                table[short(key)] = {"clean %": "not yet measured"}
            continue
        images |= {small["settings"]["images"] for small in measured}
        radii = [f"{radius:g}" for radius in measured[0]["settings"]["radii"]]
        column = table[short(key)] = {"clean %": mean_sd([100 * small["0"].mean() for small in measured])}
        for radius in radii:
            column[f"R % at {radius}/255"] = mean_sd([100 * small[radius].mean() for small in measured])
        for radius in radii:
            survived = [100 * small[radius].sum() / small["0"].sum() for small in measured]
            column[f"of those right, % at {radius}/255"] = mean_sd(survived)
        smooth = [record["norms"]["ligs"] for record in seeds.values() if record["norms"]]
        if smooth:
            column[f"LIGS ({smooth[0].size:,} images)"] = mean_sd([each.mean() for each in smooth], 3)
    table = table or {"not yet run": {"clean %": "–"}}
    title = f"{'/'.join(f'{n:,}' for n in sorted(images)) or 'no'} random test images, mean ± sd (seeds)"
    return pd.DataFrame(table).fillna("–").rename_axis(title)


def held_out_images(rows):
    """On how many images a training is judged after each epoch, of {key: {seed: record}}, as text."""
    held_out = {bnat.DATASETS[r["run"]["data"]]["held_out"] for of in rows.values() for r in of.values()}
    return f"{'/'.join(f'{n:,}' for n in sorted(held_out)) or 'no'} held-out images"


def with_history(seeds):
    """{seed: [epoch, ...]} of the records {seed: record} whose small radius was measured epoch by epoch."""
    of_seed = {
        seed: [epoch for epoch in record["history"] if "held_out_small" in epoch]
        for seed, record in seeds.items()
    }
    return {seed: epochs for seed, epochs in of_seed.items() if epochs}


def nearest(of_seed, clean):
    """{seed: epoch} of {seed: [epoch, ...]}: the one whose held-out clean accuracy is nearest to this."""
    return {
        seed: min(epochs, key=lambda epoch: abs(epoch["held_out_clean"] - clean))
        for seed, epochs in of_seed.items()
    }


def meetings(rows):
    """BN beside each other normalisation, {key: {seed: record}}, at one clean accuracy on the way.

    It is the highest that every run of the two reaches; each is looked at after the epoch whose clean
    accuracy is nearest to it. Returns {key: (that accuracy, BN's {seed: epoch}, the other's)}.
    """
    batch, met = with_history(rows.get("norm_batch", {})), {}
    for key, seeds in rows.items():
        other = with_history(seeds)
        if key != "norm_batch" and batch and other:
            every = [*batch.values(), *other.values()]
            common = min(max(epoch["held_out_clean"] for epoch in epochs) for epochs in every)
            met[key] = common, nearest(batch, common), nearest(other, common)
    return met


def ahead(bn, other):
    """PGD-10 accuracy at ε/8 of BN less another's, points by seed: {seed: points} of {seed: epoch}."""
    both = sorted(bn.keys() & other.keys())
    return {seed: 100 * (bn[seed]["held_out_small"] - other[seed]["held_out_small"]) for seed in both}


def at_equal_accuracy(rows):
    """The `meetings` as a table: clean, and under PGD-10 of an eighth of ε, on held-out images."""
    table = {}
    for key, (common, bn, other) in meetings(rows).items():
        row = table[label(key)] = {"near %": f"{100 * common:.1f}"}
        for name, met in (("BN", bn), ("it", other)):
            row[f"{name}: after epoch"] = "/".join(str(epoch["epoch"]) for epoch in met.values())
            row[f"{name}: clean %"] = mean_sd([100 * epoch["held_out_clean"] for epoch in met.values()])
            reached = [100 * epoch["held_out_small"] for epoch in met.values()]
            row[f"{name}: PGD-10 % at ε/8"] = mean_sd(reached)
    table = table or {"not yet run": {}}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(held_out_images(rows))


def said_of_equal_accuracy(rows):
    """By how much BN is ahead of each other normalisation at equal clean accuracy, or behind, in a line."""
    gaps = {key: ahead(bn, other) for key, (_, bn, other) in meetings(rows).items()}
    each = [f"{short(key)} {rates.points(gap)}" for key, gap in gaps.items() if gap]
    if not each:
        return "Not yet run."
    return f"PGD-10 accuracy at ε/8, BN less it, points (seeds): {'; '.join(each)}."


def held_out_rates(points_of):
    """{key: {lr: {seed: record}}} after the last epoch, on the held-out images: mean ± sd (seeds)."""
    table = {}
    for key, points in points_of.items():
        for lr, seeds in points.items():
            ends = [record["history"][-1] for record in seeds.values()]
            table[f"{label(key)}, learning rate {lr:g}"] = {
                "clean %": mean_sd([100 * end["held_out_clean"] for end in ends]),
                "PGD-10 %": mean_sd([100 * end["held_out_robust"] for end in ends]),
            }
    table = table or {"not yet run": {}}
    every = {(key, lr): seeds for key, points in points_of.items() for lr, seeds in points.items()}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(held_out_images(every))


def smoothness_table(networks):
    """LIGS of {key: record}: the mean over images with its 95 % interval, and its quartiles."""
    table = {}
    for key, record in networks.items():
        if record["norms"]:
            ligs = record["norms"]["ligs"]
            mean, half = ligs.mean(), 1.96 * ligs.std(ddof=1) / ligs.size**0.5
            low, middle, high = np.percentile(ligs, (25, 50, 75))
            table[label(key)] = {"LIGS [95 %]": f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"}
            table[label(key)] |= {
                "median [quartiles]": f"{middle:.2f} [{low:.2f}, {high:.2f}]",
                "n": ligs.size,
            }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("model")


def excess(measured, of, images):
    """TID less its noise floor by layer, float [layers]. of: "mean", "deviation"; images: of the batches."""
    return measured[f"tid_{of}_{images}"] - measured[f"floor_{of}_{images}"]


def disagreement_table(networks):
    """TID of {key: record} less its noise floor: in the first layer, and the largest of the others."""
    table = {}
    for key, record in networks.items():
        for images in ("clean", "adversarial") if record["gap"] else ():
            row = table[f"{label(key)}: {images} batches"] = {}
            for of in ("mean", "deviation"):
                values, floor = excess(record["gap"], of, images), record["gap"][f"floor_{of}_{images}"]
                row[f"{of}, first layer"] = f"{values[0]:+.3f}"
                worst = 1 + values[1:].argmax()
                row[f"{of}, largest other"] = f"{values[worst]:+.3f} ({list(record['bn'])[worst]})"
                row[f"{of}, floor"] = f"{floor.min():.3f} to {floor.max():.3f}"
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("TID − noise floor")


def enters_a_relu(path):
    """Whether a ReLU follows a BN of bnat's ResNets at once: behind bn2 and a shortcut's comes a sum."""
    return path.rpartition(".")[2] == "bn1"


def collapsed_table(networks):
    """Dead channels of {key: record}, in percent: before a ReLU never above 0; constant; |γ| small."""
    table = {}
    for key, record in networks.items():
        measured = record["norms"] or {}
        if "highest" in measured:
            low, high = measured["lowest"], measured["highest"]
            before_relu = np.repeat([enters_a_relu(path) for path in record["bn"]], sizes(record))
            gamma = flat(record, "gamma")
            table[label(key)] = {
                "channels before a ReLU": before_relu.sum(),
                "of these never above 0 (%)": f"{100 * np.mean(high[before_relu] <= 0):.1f}",
                "channels": gamma.size,
                "of these the same for every image (%)": f"{100 * np.mean(high - low < 1e-3):.1f}",
                "|γ| < 0.01 (%)": f"{off(gamma):.1f}",
            }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("model")


def gamma_table(tuned):
    """Share of |γ| < 0.01 after the tuning runs {key: {lr: {seed: record}}}, with decay or without."""
    table = {}
    for key, points in tuned.items():
        for lr, seeds in points.items():
            small = [off(flat(record, "gamma")) for record in seeds.values() if record["bn"]]
            started = [rates.took_off(record) for record in seeds.values()]
            if small:
                row = table[f"{label(key)}, lr {lr:g}"] = {
                    "|γ| < 0.01 (%), mean ± sd (seeds)": mean_sd(small)
                }
                row["took off"] = f"{started.count(True)} of {len(started)}"
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("tuning run")


def source_table(networks):
    """Accuracy in percent of {key: record} with running statistics of other images, beside its own."""
    table = {}
    for key, record in networks.items():
        measured = record["statistics"]
        if measured:
            n = measured["settings"]["images"]  # the first so many, for its own statistics, too
            own = [rates.flags(record, measure) for measure in (rates.CLEAN, rates.ROBUST)]
            table[f"{label(key)}: its own"] = {
                name: "not yet run" if flags is None else percent(proportion(flags[:n]))
                for name, flags in zip(("clean % (n)", "R % (n)"), own, strict=True)
            }
            for source in SOURCES:
                clean, robust = (percent(proportion(measured[f"{key} {source}"])) for key in ("clean", "R"))
                table[f"{label(key)}: {source}"] = {"clean % (n)": clean, "R % (n)": robust}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("statistics of")


def said_of_sources(networks):
    """How much R differs between the sources of the running statistics, and from R of a network's own."""
    apart, from_own, n = [], [], 0
    for record in networks.values():
        if record["statistics"] and record["run"]["epsilon"]:
            n = record["statistics"]["settings"]["images"]
            reached = [record["statistics"][f"R {source}"].sum() for source in SOURCES]
            apart.append(max(reached) - min(reached))
            own = rates.flags(record, rates.ROBUST)
            if own is not None:
                from_own += [abs(robust - own[:n].sum()) for robust in reached]
    if not apart:
        return "Not yet run."
    text = (
        f"In each of the {len(apart)} networks that were trained adversarially R differs among the three "
        f"sources by at most {max(apart)} of {n} images ({100 * max(apart) / n:.1f} points)"
    )
    if not from_own:
        return f"{text}."
    return f"{text}, from R of its own by at most {max(from_own)} ({100 * max(from_own) / n:.1f} points)."


def said_of_smoothness(first):
    """LIGS of the rows {key: record} in a sentence."""
    means = {key: r["norms"]["ligs"].mean() for key, r in first.items() if r["norms"] and key in SMOOTH}
    if len(means) < 2:
        return "Not yet run."
    each = "; ".join(f"{label(key)} {mean:.3f}" for key, mean in means.items())
    return f"LIGS, mean over the images of one network each: {each}."


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
    shown = "; ".join(f"{label(key)} {value:.2f}" for key, value in largest.items())
    text = f"On adversarial batches, beyond the noise floor, the largest after the first layer: {shown}."
    if max(largest.values()) > WORTH_MENDING:
        return f"{text} Above {WORTH_MENDING}, a penalty on the gap is worth a try."
    return f"{text} None of these is above {WORTH_MENDING}, from which a penalty on the gap would be tried."
