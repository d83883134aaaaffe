"""The sentences that a reading notebook makes of records.

Decided here: how a result is put into words, from numbers alone. Not here: the numbers
(decide/statistics.py), verdicts (decide/claims.py, decide/trust.py), tables and figures.
"""

import numpy as np

from study.decide import axes, claims, rates
from study.decide.statistics import share, sign_flip
from study.decide.verdicts import quoted
from study.define.parameters import PROFILES
from study.define.rows import label
from study.show import tables, trust_tables

# --------------------------------------------------------------------------------------------- 04_robustness
IN_SHORT = 3  # lines of the answer that a reader of the README sees first


def answer(rows, exp):
    """The answer, with the budget and the architecture for which it holds, as lines; the first IN_SHORT
    say it, the others what it rests on."""
    every = [record for seeds in rows.values() for record in seeds.values()]
    measured = any(record["margin"] for record in every)
    measure, name = (rates.ROBUST, "R") if measured else (rates.PGD, "PGD-20")
    decided = {claim.key: claim for claim in claims.decide(rows, PROFILES[exp.profile]["seed"])}
    said = [
        in_short(rows, measure, name),
        features(decided),
        arms(rows, exp, measure, name),
        take_off(rows, measure, name),
        two_stages(rows, measure),
        beside(rows, measure, name),
        f"Claims: {verdicts(decided.values())}.",
    ]
    if not measured:
        said.append(
            "These are accuracies under PGD-20: R, on which the claims rest, is not measured yet. PGD on the "
            "cross-entropy bounds robust accuracy from above, and overrates BN-only networks the most "
            "(`05_trust`): it decides no claim."
        )
    if exp.profile == "quick":
        said.append("Profile `quick` shows that the code works; it is **no evidence** about the paper.")
    return said


def sentences(rows, exp):
    """The answer as a list."""
    return "\n".join(f"- {line}" for line in answer(rows, exp))


def folded(rows, exp):
    """The answer as a list whose first IN_SHORT lines are seen at once."""
    lines = [f"- {line}" for line in answer(rows, exp)]
    seen, rest = "\n".join(lines[:IN_SHORT]), "\n".join(lines[IN_SHORT:])
    return f"{seen}\n\n<details><summary>What it rests on</summary>\n\n{rest}\n\n</details>"


def in_short(rows, measure, name):
    """Where BN-only AT of trained features ends up between AT of all weights and the yardsticks."""
    keys = ("finetuned", "at", "linear", "perceptron")
    trained, at, linear, perceptron = (rates.text(rows[key], measure) for key in keys)
    return (
        f"**BN alone, trained adversarially over trained features, reaches {name} {trained}** (percent, mean "
        f"± sd, seeds); AT of all weights {at}. Networks without features, trained adversarially as briefly: "
        f"L, a linear classifier on the pixels, {linear}; P, a perceptron on block means, {perceptron}."
    )


def arms(rows, exp, measure, name):
    """Both arms and their difference, with its test."""
    epochs = sorted({r["run"]["epochs"] for key in claims.ARMS for r in rows[key].values()})
    budget = f"{'/'.join(map(str, epochs)) or 'no'} adversarial epochs"
    where = f"{exp.run['arch']} on {exp.run['data']}, ε = {exp.run['epsilon']:g}/255, {budget}"
    trained, random = (rates.text(rows[key], measure) for key in claims.ARMS)
    gap = rates.differences(rows["finetuned"], rows["random"], measure)
    test = ""
    if len(gap) > 1:
        p = sign_flip(gap.values())
        test = f" points [95 % t-interval] (seeds), exact sign-flip test p = {p:.3f}"
    elif gap:
        test = " points: one seed is inconclusive"
    return (
        f"**BN-only AT** ({where}), robust accuracy ({name}) in percent: trained features **{trained}**, "
        f"random features **{random}**; trained − random **{rates.points(gap)}**{test}."
    )


def take_off(rows, measure, name):
    """How many trainings of random features left the plateau, and what those that did reach."""
    random = rows["random"]
    if not random:
        return "Whether BN-only AT of random features takes off: not yet run."
    started = {seed: record for seed, record in random.items() if rates.took_off(record)}
    rate, low, high, n = share(len(started), len(random))
    constant, bound = rates.plateau(next(iter(random.values())))
    text = (
        f"**{len(started)} of {n}** trainings of random features took off "
        f"({100 * rate:.0f} % [{100 * low:.0f}, {100 * high:.0f}]): their adversarial training loss fell "
        f"below {bound:.2f}, away from a constant classifier's, {constant:.2f}."
    )
    if not started or len(started) == n:
        return text
    gap = rates.differences(rows["finetuned"], started, measure)
    return (
        f"{text} Those alone reach {name} {rates.text(started, measure)}, and trained features are "
        f"{rates.points(gap)} points ahead of them, which decides no claim."
    )


def two_stages(rows, measure):
    """What random features reach that get clean training of BN first, as trained features had theirs."""
    gap = rates.points(rates.differences(rows["finetuned"], rows["two_stages"], measure))
    if not rows["two_stages"]:
        return "Random features with the same two stages, clean and then adversarial: not yet run."
    return (
        "With the same two stages, clean training and then AT of BN alone, random features reach "
        f"**{rates.text(rows['two_stages'], measure)}**; trained − these {gap}."
    )


def trained_longer(rows, key, title, measure):
    """What a yardstick reaches in 30 epochs, and how far trained features are from it after their five."""
    if not rows[key]:
        return f"{title} after 30 epochs not yet run"
    gap = rates.points(rates.differences(rows["finetuned"], rows[key], measure))
    return f"{title} after 30 epochs {rates.text(rows[key], measure)}, trained features less it {gap}"


def beside(rows, measure, name):
    """The yardsticks trained longer, standard training, and clean accuracies."""
    linear = trained_longer(rows, "linear_long", "L", measure)
    perceptron = trained_longer(rows, "perceptron_long", "P", measure)
    standard = rates.text(rows["standard"], measure)
    trained, random = (rates.text(rows[key], rates.CLEAN) for key in claims.ARMS)
    return (
        f"Beside them: {linear}; {perceptron}; standard training, without AT, {name} {standard}. "
        f"Clean accuracy: trained features {trained}, random features {random}."
    )


def features(decided):
    """Is it the features? Said only if the primary claim and its two-stage control are both confirmed."""
    primary, control = decided["C6"], decided["C6s"]
    if primary.verdict == control.verdict == "confirmed" and not (primary.interim or control.interim):
        return "**It is the features**: C6 and its control with the same two stages, C6s, are both confirmed."
    if primary.verdict == "confirmed":
        return (
            f"**Trained features let BN-only AT start** (C6). That it is the features is not shown: C6s, "
            f"random features with the same two stages, is {tables.verdict(control)}."
        )
    both = f"C6 is {tables.verdict(primary)}, C6s {tables.verdict(control)}"
    return f"That it is the features is not shown: {both}."


def verdicts(decided):
    """The claims by verdict, in a line; those with seeds missing are marked interim."""
    groups = {}
    for claim in decided:
        name = f"{claim.key} (interim)" if claim.interim else claim.key
        groups.setdefault(claim.verdict, []).append(name)
    return "; ".join(f"**{verdict}** {', '.join(keys)}" for verdict, keys in groups.items())


def rules(decided):
    """Each claim's statistic, rule, and what stands beside its verdict, in a fold."""
    lines = []
    for c in decided:
        beside = f" *Beside*: {c.note}." if c.note else ""
        lines.append(f"- **{c.key}**, {c.statistic}. {c.rule}{beside}")
    return (
        "<details><summary>What each claim measures, its rule, and what stands beside the verdict</summary>"
        "\n\n" + "\n".join(lines) + "\n\n</details>"
    )


def open_questions(decided):
    """What would decide each claim that is not decided; those whose rows have not run in one line."""
    waiting = [claim for claim in decided if claim.verdict == "not yet run" and claim.lacking]
    lines = [
        f"- **{claim.key}** ({claim.verdict}): {claim.would_decide}"
        for claim in decided
        if claim.would_decide and claim not in waiting
    ]
    if waiting:
        wanted = [f"**{c.key}** {quoted(c.lacking)}" for c in waiting]
        lines.append(f"- Not yet run, two seeds or more of: {'; '.join(wanted)}.")
    return "\n".join(lines) or "Every claim is decided."


def not_run(rows):
    """Which of some rows {key: {seed: record}} have no run, in a sentence; "" where all have."""
    missing = [label(key) for key, seeds in rows.items() if not seeds]
    return f"Not yet run: {'; '.join(missing)}." if missing else ""


# -------------------------------------------------------------------------------------------------- 05_trust
def suspects(tables_of):
    """What the checks find, of {(key, seed): table of trust} of every network: which are suspect, in what."""
    suspect = {key: finding(table) for key, table in tables_of.items() if "suspect" in set(table.verdict)}
    counted = f"{len(suspect)} of {len(tables_of)} networks, of every seed, are suspect in some check"
    if not suspect:
        return f"{counted}."
    return f"{counted}:\n\n" + "\n".join(f"- {label(key)}: {text}." for key, text in suspect.items())


def finding(table):
    """The checks of one network in a sentence."""
    verdicts_of = set(table.verdict)
    if "constant" in verdicts_of:
        return "a constant classifier, to which the patterns do not apply"
    if "suspect" in verdicts_of:
        return f"suspect in {'; '.join(table.index[table.verdict == 'suspect'])}"
    run = (table.verdict != "not yet run").sum()
    return f"no sign of gradient masking in the {run} of {len(table)} checks that were run"


def left_out(checked):
    """What was found in the networks that the grid leaves out, of {key: table of trust}: a line a finding."""
    found = {}
    for key, own in checked.items():
        if not trust_tables.mostly_run(own):
            found.setdefault(finding(own), []).append(label(key))
    return "\n".join(f"- {'; '.join(labels)}: {text}." for text, labels in found.items())


def parts(networks):
    """What FAB and Square took that APGD had left, and AutoAttack from PGD, over all of {key: record}."""
    attacked = [r for r in networks.values() if tables.same_images(r, "pgd") is not None]
    if not attacked:
        return "AutoAttack: not yet run."
    late = []
    for record in attacked:
        attack = record["autoattack"]
        by_apgd = attack.get("apgd-t", attack["apgd-ce"])  # targeted APGD needs four classes
        if (by_apgd != attack["square"]).any():
            late.append(record)
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


def said_of_representative(first):
    """Which networks stand for their rows, in a sentence."""
    seeds = {key: record["run"]["seed"] for key, record in first.items()}
    usual = min(seeds.values(), default=0)
    other = []
    for key, seed in seeds.items():
        why = ", the first that took off" if key == "random" else ""
        if seed != usual:
            other.append(f"{label(key)}, seed {seed}{why}")
    text = f"One network a row is looked into: that of seed {usual}"
    if "random" in first and not rates.took_off(first["random"]):
        return f"{text}; BN-only AT of random features did not take off there."
    if not other:
        return f"{text}."
    text = f"{text}, but for {'; '.join(other)}."
    missing = "random" in first and first["random"]["features"] is None
    return f"{text} What is inside that one is not yet run." if missing else text


# ----------------------------------------------------------------------------------------------- 06_features
def best(tuned, judge="R"):
    """Which learning rate of a tuning is best by a key of TUNING, and whether at an edge: a line a row.

    The rates are compared on the seeds that all of them have; a rate with more seeds than that is not judged
    by the others. One at which the training diverged has no record.
    """
    lines = []
    for key, points in tuned.items():
        judged = {lr: rates.of_seeds(seeds, axes.TUNING[judge]) for lr, seeds in points.items()}
        judged = {lr: of_seeds for lr, of_seeds in judged.items() if of_seeds}
        if not judged:
            continue
        shared = sorted(set.intersection(*(set(of_seeds) for of_seeds in judged.values())))
        if not shared:
            lines.append(f"- {label(key)}: no seed has every rate")
            continue
        means = {lr: np.mean([of_seeds[seed] for seed in shared]) for lr, of_seeds in judged.items()}
        lr = max(means, key=means.get)
        note = ""
        if len(points) == 1:
            note = ", the only one tried"
        elif lr == max(points):
            note = ", the highest with a record"
        elif lr == min(points):
            note = ", the lowest with a record"
        seeds = f"seed{'s' if len(shared) > 1 else ''} {', '.join(map(str, shared))}"
        lines.append(f"- {label(key)}: {lr:g} ({judge} {means[lr]:.1f} % on {seeds}{note})")
    return "\n".join(lines) or "Not yet run."


def numbers_of(points_of, name):
    """Where the numbers of an axis stand, in a line; or that nothing but the study's own value has run."""
    if axes.explored(points_of):
        return f"The numbers: [figures/{name}.csv](../figures/{name}.csv)."
    return "Not yet run."


def said_of_gap(gaps, clean):
    """By how much trained features are ahead at each ε: a line a row of `decide.axes.gaps`.

    clean: the same at ε = 0, {seed: points} of clean accuracy, after clean training of what learns there.
    """
    lines = []
    for key, points in gaps.items():
        by_radius = [f"ε = 0: {rates.points(clean)}"] if clean else []
        by_radius += [f"{eps:g}/255: {rates.points(of_seed)}" for eps, of_seed in points.items()]
        if len(points) > 1:
            lines.append(f"- Trained features less {label(key)}, points (seeds), {'; '.join(by_radius)}.")
    return "\n".join(lines) or "Not yet run at other ε than the study's."
