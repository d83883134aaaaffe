"""Which records a reading notebook shows, and the sentences that it makes of them.

Decided here: how a result is put into words, from numbers alone. Not here: the numbers (statistics.py),
verdicts (claims.py, checks.py), tables and figures.
"""

import numpy as np
import pandas as pd

from study import ablations, claims, records, runs, tables
from study.experiments import LABELS, ROWS, experiment
from study.parameters import PROFILES
from study.statistics import mean_sd


# --------------------------------------------------------------------------------------------- 04_robustness
def rates(rows, key, kind, flags="robust"):
    """A row's accuracies in percent, one a seed, as "mean ± sd (seeds)"."""
    return mean_sd([100 * r[kind][flags].mean() for r in rows[key].values() if r[kind]])


def sentences(rows, exp):
    """The answer in a few lines, with the budget and the architecture for which it holds."""
    every = [r for seeds in rows.values() for r in seeds.values()]
    measured = any(r["margin"] for r in every)
    kind, name = ("margin", "R") if measured else ("pgd", "PGD-20")
    epochs = sorted({r["run"]["epochs"] for key in ("finetuned", "random") for r in rows[key].values()})
    budget = f"{'/'.join(map(str, epochs)) or 'no'} adversarial epochs"
    difference = tables.seed_difference(rows["finetuned"], rows["random"], kind)
    gap = "not yet run"
    if difference:
        gap = f"**{tables.points(difference)}** points [95 % interval] (seeds)"
    where = f"{exp.run['arch']} on {exp.run['data']}, ε = {exp.run['epsilon']:g}/255, {budget}"
    at, standard, linear, perceptron, finetuned, random = (
        rates(rows, key, kind) for key in ("at", "standard", "linear", "perceptron", "finetuned", "random")
    )
    clean = [rates(rows, key, "pgd", "clean") for key in ("finetuned", "random")]
    said = [
        f"**BN-only AT** ({where}), robust accuracy ({name}) in percent: trained features **{finetuned}**, "
        f"random features **{random}**; paired difference {gap}.",
        f"Beside them: AT of all weights {at}; standard training {standard}; trained adversarially, a linear "
        f"classifier on the pixels {linear}, a perceptron on block means {perceptron}. Clean accuracy: "
        f"trained features {clean[0]}, random features {clean[1]}.",
        "Claims: " + verdicts(claims.decide(rows)) + ".",
    ]
    if difference and difference[-1] < 2:
        tuned = {LABELS[key]: while_tuning(exp, key) for key in ("finetuned", "random")}
        said.append(
            "One seed decides nothing of the contrast: whether BN-only AT of random features takes off "
            "at all hangs on the seed and the rate (`06_features`). On the seeds kept for tuning, at the "
            "rates chosen by them and on training images held out, R: "
            + ", ".join(f"{label} {found}" for label, found in tuned.items())
            + "."
        )
    if not measured:
        said.append(
            "These are PGD-20's rates: R, on which the claims rest, is not measured yet. PGD on the "
            "cross-entropy bounds robust accuracy from above, and overrates BN-only networks the most "
            "(`05_trust`): it decides no claim."
        )
    if exp.profile == "quick":
        said.append("Profile `quick` shows that the code works; it is **no evidence** about the paper.")
    return "\n".join(f"- {line}" for line in said)


def while_tuning(exp, key):
    """R of a row's tuning runs at the rate that its main runs have, as "mean ± sd (seeds)"."""
    _, step, own = ROWS[key]
    lr = experiment(step, profile=exp.profile, data=exp.run["data"], arch=exp.run["arch"], **own).run["lr"]
    found = ablations.tuning(exp.profile, exp.run["data"], (key,)).get(LABELS[key], {})
    return mean_sd(ablations.rates(found.get(lr, {}), ablations.TUNING["R"]))


def verdicts(decided):
    """The claims by verdict, in a line."""
    groups = {}
    for claim in decided:
        groups.setdefault(claim.verdict, []).append(claim.key)
    return "; ".join(f"**{verdict}** {', '.join(keys)}" for verdict, keys in groups.items())


def open_questions(decided):
    """What would decide each claim that is not decided."""
    lines = [f"- **{c.key}** ({c.verdict}): {c.would_decide}" for c in decided if c.would_decide]
    return "\n".join(lines) or "Every claim is decided."


# -------------------------------------------------------------------------------------------------- 05_trust
def transfers(rows, given):
    """PGD-20 examples made on each row's network and shown to the others, of the seed with most pairs.

    Returns {label: [bool [n] under another network's examples]} for the first seed, the matrix of
    accuracies in percent (examples made on, evaluated on), and its seed.
    """
    images = PROFILES[given["profile"]]["curve_images"]
    found = {}
    for seed in sorted({seed for seeds in rows.values() for seed in seeds}):
        own = {
            LABELS[key]: experiment(ROWS[key][1], **given | ROWS[key][2] | dict(seed=seed))
            for key, seeds in rows.items()
            if seed in seeds
        }
        found[seed] = {label: runs.transfer(own, exp, images) for label, exp in own.items()}
    if not found:
        return {}, pd.DataFrame(), None
    moved = {}
    for source, targets in next(iter(found.values())).items():
        for label, flags in targets.items():
            if label != source:
                moved.setdefault(label, []).append(flags)
    fullest = max(found, key=lambda seed: sum(map(len, found[seed].values())))
    labels = list(found[fullest])
    shares = {
        target: [100 * found[fullest][source][target].mean() if target in found[fullest][source] else np.nan
                 for source in labels]
        for target in labels
    }  # fmt: skip
    return moved, pd.DataFrame(shares, index=labels).rename_axis("examples made on"), fullest


def suspects(own, every):
    """What the checks find: a line a network of the first seed, and the suspect ones of the other seeds."""
    lines = [f"- **{label}**: {finding(table)}." for label, table in own.items()]
    others = {k: table for k, table in every.items() if k.split(" (seed")[0] in own}
    suspect = {k: finding(table) for k, table in others.items() if (table.verdict == "suspect").any()}
    lines.append(f"\nOf all {len(others)} networks, of every seed, {len(suspect)} are suspect in some check:")
    return "\n".join(lines + [f"- {label}: {text}." for label, text in suspect.items()])


def finding(table):
    """The checks of one network in a sentence."""
    if (table.verdict == "constant").any():
        return "a constant classifier, to which the patterns do not apply"
    done, bad = (table.verdict != "not yet run").sum(), list(table.index[table.verdict == "suspect"])
    return (
        f"suspect in {'; '.join(bad)}"
        if bad
        else f"no sign of gradient masking in {done} of {len(table)} checks"
    )


def parts(found):
    """What FAB and Square took that APGD had left, and what AutoAttack took from PGD, over all networks."""
    attacked = [r for r in found.values() if tables.same_images(r, "pgd") is not None]
    if not attacked:
        return "AutoAttack: not yet run."
    late = [r for r in attacked if (r["autoattack"]["apgd-t"] != r["autoattack"]["square"]).any()]
    taken = [tables.same_images(r, "pgd").mean() - r["autoattack"]["robust"].mean() for r in attacked]
    bn = [
        t
        for t, r in zip(taken, attacked, strict=True)
        if r["run"]["trainable"] == "bn" and r["run"]["epsilon"]
    ]
    text = (
        "FAB and Square took something that APGD on the cross-entropy and targeted APGD had left in "
        f"{len(late)} of {len(attacked)} networks: a margin loss is what counts."
    )
    if bn:
        text += (
            f" On the same images AutoAttack leaves {100 * min(bn):.1f} to {100 * max(bn):.1f} points less "
            "than PGD-20 on the cross-entropy of the BN-only AT networks."
        )
    return text


# ----------------------------------------------------------------------------------------------- 06_features
def shipped(profile, exp):
    """The ResNet-18 of the package pyautoattack before, and every run that started from it."""
    if exp.run["data"] != "cifar10":
        return {}
    other = experiment(
        "pretrain", profile=profile, arch="resnet18", epsilon=0, pretrain_weights="pyautoattack"
    )
    every = records.all_records(other)
    found = {"before": every.get(other.name)}
    for name, record in every.items():
        if record["run"]["parent"] == other.name:
            label = f"{record['run']['trainable']} of {record['run']['train_images']:,} images, {name[-10:]}"
            found[label] = record
    return found


def with_parents(first):
    """{label: (record, parent or None)} of the first seed's rows with BN; parent: its standard network."""
    standard = first.get("standard")
    return {LABELS[k]: (r, standard if r["run"]["parent"] else None) for k, r in first.items() if r["bn"]}
