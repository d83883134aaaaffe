"""The answer of the study in sentences, for 04 and for the README.

Decided here: how the result and the claims are put into words, from numbers alone. Not here: the numbers
(decide/statistics.py), verdicts (decide/claims.py), what the other notebooks say (sentences.py).
"""

from study.decide import claims, rates
from study.decide.statistics import share, sign_flip, t_interval
from study.decide.verdicts import quoted
from study.define.parameters import PROFILES
from study.define.rows import ARMS
from study.show import tables

IN_SHORT = 3  # lines of the answer that a reader of the README sees first


def lines(rows, exp):
    """The answer, with the budget and the architecture for which it holds, as lines; the first IN_SHORT
    say it, the others what it rests on."""
    every = [record for seeds in rows.values() for record in seeds.values()]
    measured = any(record["margin"] for record in every)
    measure, name = (rates.ROBUST, "R") if measured else (rates.PGD, "PGD-20")
    decided = {claim.key: claim for claim in claims.decide(rows, PROFILES[exp.profile]["seed"])}
    said = [
        in_short(rows, measure, name),
        features(decided),
        arms(rows, exp, decided, measure, name),
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


def listed(rows, exp):
    """The answer as a list."""
    return "\n".join(f"- {line}" for line in lines(rows, exp))


def folded(rows, exp):
    """The answer as a list whose first IN_SHORT lines are seen at once."""
    every = [f"- {line}" for line in lines(rows, exp)]
    seen, rest = "\n".join(every[:IN_SHORT]), "\n".join(every[IN_SHORT:])
    return f"{seen}\n\n<details><summary>What it rests on</summary>\n\n{rest}\n\n</details>"


def in_short(rows, measure, name):
    """Where BN-only AT of trained features ends up between AT of all weights and the yardsticks."""
    keys = ("finetuned", "at", "linear", "perceptron")
    trained, at, linear, perceptron = (rates.text(rows[key], measure) for key in keys)
    gap = rates.points(rates.differences(rows["finetuned"], rows["perceptron"], measure))
    return (
        f"**BN alone, trained adversarially over trained features, reaches a robust accuracy ({name}) of "
        f"{trained}** (percent, mean ± sd over seeds, their number); AT of all weights {at}. Networks "
        "without convolutions, trained adversarially as briefly: a linear classifier on the pixels (L) "
        f"{linear}; a perceptron on the means of an 8 x 8 grid of blocks (P) {perceptron}, trained features "
        f"less it {gap}."
    )


def arms(rows, exp, decided, measure, name):
    """Both arms and their difference, with its test: C6's, where R is there."""
    epochs = sorted({r["run"]["epochs"] for key in ARMS for r in rows[key].values()})
    budget = f"{'/'.join(map(str, epochs)) or 'no'} adversarial epochs"
    where = f"{exp.run['arch']} on {exp.run['data']}, ε = {exp.run['epsilon']:g}/255, {budget}"
    trained, random = (rates.text(rows[key], measure) for key in ARMS)
    gap = rates.differences(rows["finetuned"], rows["random"], measure)
    if measure == rates.ROBUST:
        gap = decided["C6"].values  # of the seeds that count
    test = ""
    if len(gap) > 1:
        p, (_, low, high) = sign_flip(gap.values()), t_interval(gap.values())
        test = f" points [95 % t-interval] (seeds), exact sign-flip test p = {p:.3f}"
        if p <= 0.05 and low <= 0 <= high:
            test += ", which decides C6; by the t-interval, its rule until 2026-11-24, it would be undecided"
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
    trained, random = (rates.text(rows[key], rates.CLEAN) for key in ARMS)
    return (
        f"Beside them: {linear}; {perceptron}; standard training, without AT, {name} {standard}. "
        f"Clean accuracy: trained features {trained}, random features {random}."
    )


def features(decided):
    """Is it the features? Said only if the primary claim and its two-stage control are both confirmed."""
    primary, control = decided["C6"], decided["C6s"]
    if primary.verdict == control.verdict == "confirmed" and not (primary.interim or control.interim):
        text = (
            "**Trained features carry BN-only AT further than random ones, with the same two stages of "
            "training, too**: C6 and C6s are both confirmed, which by the rule fixed beforehand reads *it is "
            "the features*."
        )
        if decided["C6b"].verdict == "not yet run":
            text += (
                " Whether it is the head, trained in one arm and random in the other, is a control that is "
                "not yet run (C6b)."
            )
        elif head := decided["C6b"].parts[0].values:  # the first of its differences, see claims.py
            text += f" With the head trained in both arms, trained − random is {rates.points(head)} points."
        return text
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
