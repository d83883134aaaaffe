"""What 07 and 08 say of what BN does to gradients and signals, in tables and sentences.

Decided here: how the measures are summed up and from which gap on a penalty on it has something to mend. Not
here: the measures (measure/norms.py), γ and β (bn_tables.py).
"""

import numpy as np

from study.decide import rates
from study.decide.statistics import mean_sd, paired, percent, proportion, smallest_certain
from study.define.rows import ARMS, label
from study.measure.norms import SOURCES
from study.show.bn_tables import BELOW, flat, off, sizes
from study.show.tables import by_row

WORTH_MENDING = 0.05  # TID beyond the noise above which a regulariser of the gap is tried


def smoothness_table(rows):
    """LIGS of {key: {seed: record}}: the mean over images, over seeds, and the quartiles of all images.

    What took off apart from what did not.
    """
    table = {}
    for key, seeds in rows.items():
        measured = {seed: record for seed, record in seeds.items() if record["norms"]}
        for group, those in rates.by_take_off(measured).items():
            each = [record["norms"]["ligs"] for record in those.values()]
            low, middle, high = np.percentile(np.concatenate(each), (25, 50, 75))
            table[f"{label(key)}{group}"] = {
                "LIGS, mean ± sd (seeds)": mean_sd([ligs.mean() for ligs in each], 3),
                "median [quartiles] of all images": f"{middle:.2f} [{low:.2f}, {high:.2f}]",
                "images a network": "/".join(sorted({f"{ligs.size:,}" for ligs in each})),
            }
    return by_row(table, "model")


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
    return by_row(table, "TID − noise floor")


def enters_a_relu(path):
    """Whether a ReLU follows a BN of bnat's ResNets at once: behind bn2 and a shortcut's comes a sum."""
    return path.rpartition(".")[2] == "bn1"


def never_above_zero(record):
    """Of the channels before a ReLU the share that is never above 0, and how many such channels there are."""
    before_relu = np.repeat([enters_a_relu(path) for path in record["bn"]], sizes(record))
    return np.mean(record["norms"]["highest"][before_relu] <= 0), before_relu.sum()


def collapsed_table(networks):
    """Dead channels of {key: record}, in percent: before a ReLU never above 0; constant; |γ| small."""
    table = {}
    for key, record in networks.items():
        measured = record["norms"] or {}
        if "highest" in measured:
            low, high = measured["lowest"], measured["highest"]
            (dead, before_relu), gamma = never_above_zero(record), flat(record, "gamma")
            table[label(key)] = {
                "channels before a ReLU": before_relu,
                "of these never above 0 (%)": f"{100 * dead:.1f}",
                "channels": gamma.size,
                "of these the same for every image (%)": f"{100 * np.mean(high - low < 1e-3):.1f}",
                f"{BELOW} (%)": f"{off(gamma):.1f}",
            }
    return by_row(table, "model")


def gamma_table(tuned):
    """Share of |γ| < 0.01 after the tuning runs {key: {lr: {seed: record}}}, with decay or without."""
    table = {}
    for key, points in tuned.items():
        for lr, seeds in points.items():
            small = [off(flat(record, "gamma")) for record in seeds.values() if record["bn"]]
            started = [rates.took_off(record) for record in seeds.values()]
            if small:
                row = table[f"{label(key)}, lr {lr:g}"] = {f"{BELOW} (%), mean ± sd (seeds)": mean_sd(small)}
                row["took off"] = f"{started.count(True)} of {len(started)}"
    return by_row(table, "tuning run")


def said_of_gamma(tuned):
    """|γ| < 0.01 after the tuning runs of both arms, {key: {lr: {seed: record}}}, at the rates of both.

    Of the seeds that took off in both.
    """
    each = []
    for lr in sorted(set.intersection(*(set(tuned.get(key, {})) for key in ARMS))):
        arms = {key: tuned[key][lr] for key in ARMS}
        started = [rates.split(seeds)[0].keys() for seeds in arms.values()]
        both = sorted(set.intersection(*map(set, started)))
        if both:
            trained, random = (
                mean_sd([off(flat(seeds[seed], "gamma")) for seed in both]) for seeds in arms.values()
            )
            each.append(f"at {lr:g} trained features {trained}, random ones {random}")
    return f"At the same rate, % (seeds): {'; '.join(each)}." if each else "Not yet run at the same rate."


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
                table[f"{label(key)}: {source}"] = {
                    f"{what} % (n)": percent(proportion(measured[f"{what} {source}"]))
                    for what in ("clean", "R")
                }
    return by_row(table, "statistics of")


def said_of_sources(networks):
    """What statistics of adversarial images cost in clean accuracy, and how R differs among the sources."""
    cost, apart, least = [], [], []  # apart: points of R, of the networks trained adversarially
    for key, record in networks.items():
        measured = record["statistics"]
        if measured:
            moved, low, high, _ = paired(measured["clean adversarial"], measured["clean clean"])
            cost.append(f"{label(key)} {100 * moved:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")
            reached = [100 * measured[f"R {source}"].mean() for source in SOURCES]
            if record["run"]["epsilon"]:
                apart.append(max(reached) - min(reached))
                least.append(100 * smallest_certain(measured["settings"]["images"]))
    if not cost:
        return "Not yet run."
    text = f"Clean accuracy with statistics of adversarial images, less with clean ones: {'; '.join(cost)}."
    if not apart:
        return text
    return (
        f"{text} In the {len(apart)} networks trained adversarially R differs among the sources by at most "
        f"{max(apart):.1f} points; a difference below {max(least):.1f} cannot be certain on so few images."
    )


def condensation_table(rows):
    """The mean cosine of two images of a batch, a line a network of {key: {seed: record}}, by layer."""
    table = {}
    for key, seeds in rows.items():
        for seed, record in seeds.items():
            if record["condensation"]:
                *layers, head = record["condensation"]["clean"]
                trained = "took off" if rates.took_off(record) else "did not take off"
                table[f"{label(key)}, seed {seed}"] = {
                    "training": trained if record["run"]["epsilon"] else "clean",
                    "first BN layer": f"{layers[0]:.2f}",
                    "median BN layer": f"{np.median(layers):.2f}",
                    "head": f"{head:.2f}",
                    "head, under PGD-20": f"{record['condensation']['adversarial'][-1]:.2f}",
                }
    return by_row(table, "mean cosine of two images")


def said_of_condensation(rows):
    """How alike images look to the head, of {key: {seed: record}}, in a sentence; what took off, apart."""
    each = []
    for key, seeds in rows.items():
        measured = {seed: record for seed, record in seeds.items() if record["condensation"]}
        for group, those in rates.by_take_off(measured).items():
            at_head = [record["condensation"]["clean"][-1] for record in those.values()]
            each.append(f"{label(key)}{group} {mean_sd(at_head, 2)}")
    if not each:
        return "Not yet run."
    text = f"What enters the head, clean images, mean cosine ± sd (seeds): {'; '.join(each)}."
    return f"{text}{by_what_was_trained(rows)}"


def by_what_was_trained(rows):
    """The range of condensation at the head where BN alone was trained, and where all weights were; or "".

    Without adversarial trainings that did not take off.
    """
    ranges = {"bn": [], "all": []}
    for seeds in rows.values():
        for record in seeds.values():
            run, measured = record["run"], record["condensation"]
            if measured and run["trainable"] in ranges and (not run["epsilon"] or rates.took_off(record)):
                ranges[run["trainable"]].append(measured["clean"][-1])
    of_bn, of_all = (f"{min(v):.2f} to {max(v):.2f} ({len(v)})" if v else "" for v in ranges.values())
    if not (of_bn and of_all):
        return ""
    return f" Without those that did not take off: BN alone trained {of_bn}, all weights {of_all}."


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
    shown = "; ".join(f"{label(key)} {value:.3f}" for key, value in largest.items())
    text = f"On adversarial batches, beyond the noise floor, the largest after the first layer: {shown}."
    if max(largest.values()) > WORTH_MENDING:
        return f"{text} Above {WORTH_MENDING}, a penalty on the gap is worth a try."
    return f"{text} None of these is above {WORTH_MENDING}, from which a penalty on the gap would be tried."
