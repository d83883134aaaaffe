"""The answer of the study in sentences, for 04 and for the README.

Decided here: how the result and the claims are put into words, from numbers alone. Not here: the numbers
(decide/statistics.py), verdicts (decide/claims.py), what the other notebooks say (sentences.py).
"""

from study.decide import claims, rates
from study.decide.statistics import share, sign_flip
from study.decide.verdicts import exceeds, exceeds_by_signs, quoted
from study.define.rows import ARMS
from study.show import claim_tables

KNOWN = 10  # the seed that was known when C6 went over to the sign-flip test (04's ledger)


def lines(rows, exp):
    """The answer as lines: in short, then what is measured, then what it rests on."""
    every = [record for seeds in rows.values() for record in seeds.values()]
    measured = any(record["margin"] for record in every)
    measure, name = (rates.ROBUST, "R") if measured else (rates.PGD, "PGD-20")
    decided = {claim.key: claim for claim in claims.decide(rows, exp.profile)}
    said = [
        in_short(rows, decided, measure, name),
        measured_where(rows, exp, name),
        trained(rows, measure),
        random(rows, decided, measure),
        ahead(rows, exp, decided, measure),
        sign_test(exp, decided["C6"].parts[0]),
        take_off(rows, exp, measure),
        two_stages(rows, measure),
        beside(rows, measure, name),
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
    """The answer: in short, then as a list."""
    short, measured, *others = lines(rows, exp)
    return f"{short}\n\n{measured}\n\n" + "\n".join(f"- {line}" for line in others)


def folded(rows, exp):
    """The answer in short, the list in a fold."""
    short, measured, *others = lines(rows, exp)
    rest = "\n".join(f"- {line}" for line in others)
    return f"{short}\n\n<details><summary>What it rests on</summary>\n\n{measured}\n\n{rest}\n\n</details>"


def in_short(rows, decided, measure, name):
    """The answer so far in a sentence, what the rule makes of it, and what it is to be compared with."""
    reached = {key: rates.text(rows[key], measure) for key in (*ARMS, "at", "perceptron", "linear")}
    gap = compared(rows, decided, measure)
    positive = [points for points in gap.values() if points > 0]
    return (
        f"**BN-only AT takes trained features to a robust accuracy ({name}, in %) of {reached['finetuned']}, "
        f"random features to {reached['random']}: a difference of {rates.points(gap)}, above 0 in "
        f"{len(positive)} of {len(gap)} seeds.** *It is the features* (C6, C6s): "
        f"{is_it_the_features(decided)}. For comparison, AT of all weights: {reached['at']}; without "
        f"convolutions, a perceptron on block means (P) {reached['perceptron']}, a linear classifier on the "
        f"pixels (L) {reached['linear']}. Mean ± sd, [95 % interval], (seeds)."
    )


def is_it_the_features(decided):
    """What the rule says of the primary claim and its control together, in short."""
    both = [decided["C6"], decided["C6s"]]
    if any(claim.verdict != "confirmed" for claim in both):
        return "not shown"
    text = "confirmed"
    if any(claim.interim for claim in both):
        text += " so far"
    if both[0].size == "size undecided":
        text += ", by how much is undecided"
    return text if head_in_both(decided).values else f"{text}; not controlled for yet: the head (C6b)"


def head_in_both(decided):
    """The part of C6b in which the head is trained in both arms."""
    return next(part for part in decided["C6b"].parts if part.rows == ("finetuned_head", "random_head"))


def measured_where(rows, exp, name):
    """What the numbers are, and the budget and the architecture for which they hold."""
    epochs = sorted({r["run"]["epochs"] for key in ARMS for r in rows[key].values()})
    budget = f"{'/'.join(map(str, epochs)) or 'no'} adversarial epochs"
    return (
        f"BN-only AT of {exp.run['arch']} on {exp.run['data']}, ε = {exp.run['epsilon']:g}/255, {budget}: "
        f"robust accuracy ({name}) in percent, mean ± sd (seeds); differences in points [95 % t-interval] "
        "(seeds)."
    )


def gap_of(rows, minuend, subtrahend, measure):
    """The difference of two rows by seed, as text."""
    return rates.points(rates.differences(rows[minuend], rows[subtrahend], measure))


def trained(rows, measure):
    """Where trained features end up between standard training, AT of all weights and the yardsticks."""
    keys = ("finetuned", "standard", "at", "linear", "perceptron")
    reached, standard, at, linear, perceptron = (rates.text(rows[key], measure) for key in keys)
    return (
        f"**Trained features: {reached}**; after standard training, before AT, {standard}; AT of all weights "
        f"{at}. Trained adversarially as briefly: L {linear}, P, on the means of an 8 x 8 grid of blocks, "
        f"{perceptron}; trained − L {gap_of(rows, 'finetuned', 'linear', measure)}, trained − P "
        f"{gap_of(rows, 'finetuned', 'perceptron', measure)}."
    )


def apart(rows):
    """The trainings of random features that took off, and those that did not: two {seed: record}."""
    started = {seed: record for seed, record in rows["random"].items() if rates.took_off(record)}
    return started, {seed: record for seed, record in rows["random"].items() if seed not in started}


def random(rows, decided, measure):
    """Where random features end up, with those that took off alone, and whether that is meaningful (C5)."""
    started, stayed = apart(rows)
    text = f"**Random features: {rates.text(rows['random'], measure)}**"
    if started and stayed:
        text += (
            f"; {len(stayed)} of {len(rows['random'])} trainings stayed a constant classifier's, the others "
            f"reach {rates.text(started, measure)}"
        )
    return f"{text}. That this is no meaningful robustness (C5): {claim_tables.verdict(decided['C5'])}."


def compared(rows, decided, measure):
    """Trained features less random ones, {seed: points}: C6's of the seeds that count, where R is there."""
    if measure == rates.ROBUST:
        return decided["C6"].values
    return rates.differences(rows["finetuned"], rows["random"], measure)


def ahead(rows, exp, decided, measure):
    """Trained features less random ones: by how much, in how many seeds, and whether it is the features."""
    gap = compared(rows, decided, measure)
    text = f"**Trained − random: {rates.points(gap)}**"
    if len(gap) == 1:
        text += ": one seed is inconclusive"
    if len(gap) > 1:
        positive = [points for points in gap.values() if points > 0]
        text += f", above 0 in {len(positive)} of {len(gap)} seeds{by_take_off(rows, gap)}"
    return f"{text}. {features(exp, decided)}"


def by_take_off(rows, gap):
    """The differences where random features took off, and where not, in words; "" where all did, or none."""
    started, stayed = ([gap[seed] for seed in part if seed in gap] for part in apart(rows))
    if not (started and stayed):
        return ""
    ranges = [f"{min(part):+.1f} to {max(part):+.1f}" for part in (started, stayed)]
    if len(stayed) == 1:
        ranges[1] = f"{stayed[0]:+.1f}"
    return f" ({ranges[0]} where random features took off, {ranges[1]} where not)"


def amended_once_known(exp):
    """Whether this is the study whose rules were amended when one of its seeds, KNOWN, was known."""
    return (exp.profile, exp.run["data"], exp.run["arch"]) == ("cpu", "cifar10", "resnet20")


def sign_test(exp, part):
    """The test that decides C6, and what is to be said against it. part: the claim's."""
    gap = part.values
    if len(gap) < 2:
        return "C6 is decided by the exact sign-flip test over seeds: not yet run."
    p, by_interval = sign_flip(gap.values()), exceeds(part)[0]
    text = f"C6 is decided by the exact sign-flip test over the {len(gap)} differences, p = {p:.3f}"
    if by_interval != exceeds_by_signs(part)[0]:
        text += f"; by their t-interval it would be {by_interval}"
    others = [points for seed, points in gap.items() if seed != KNOWN]
    if amended_once_known(exp) and len(others) > 1:
        text += (
            f". That test was chosen when seed {KNOWN} was known; the other {len(others)} alone give "
            f"p = {sign_flip(others):.3f}"
        )
    return f"{text}."


def take_off(rows, exp, measure):
    """How many trainings of random features left the plateau, and what those that did reach."""
    if not rows["random"]:
        return "Whether BN-only AT of random features takes off: not yet run."
    started, stayed = apart(rows)
    rate, low, high, n = share(len(started), len(rows["random"]))
    constant, bound = rates.plateau(exp.run["data"])
    text = (
        f"**{len(started)} of {n}** trainings of random features took off "
        f"({100 * rate:.0f} % [{100 * low:.0f}, {100 * high:.0f}]): their adversarial training loss fell "
        f"below {bound:.2f}, away from a constant classifier's, {constant:.2f}."
    )
    if not (started and stayed):
        return text
    gap = rates.differences(rows["finetuned"], started, measure)
    return f"{text} Trained − those {rates.points(gap)}, which decides no claim."


def two_stages(rows, measure):
    """What random features reach that get clean training of BN first, as trained features had theirs."""
    if not rows["two_stages"]:
        return "Random features with the same two stages, clean and then adversarial: not yet run."
    return (
        "With the same two stages, clean training and then AT, of BN alone, random features reach "
        f"**{rates.text(rows['two_stages'], measure)}**; trained − these "
        f"{gap_of(rows, 'finetuned', 'two_stages', measure)} (C6s)."
    )


def trained_longer(rows, key, title, measure):
    """What a yardstick reaches in 30 epochs, and how far trained features are from it after their five."""
    if not rows[key]:
        return f"{title} after 30 epochs not yet run"
    gap = gap_of(rows, "finetuned", key, measure)
    return f"{title} after 30 epochs {rates.text(rows[key], measure)}, trained − that {gap}"


def beside(rows, measure, name):
    """The yardsticks trained longer, and clean accuracies."""
    linear = trained_longer(rows, "linear_long", "L", measure)
    perceptron = trained_longer(rows, "perceptron_long", "P", measure)
    clean, clean_random = (rates.text(rows[key], rates.CLEAN) for key in ARMS)
    return (
        f"Beside them, {name}: {linear}; {perceptron}. Clean accuracy: trained features {clean}, random "
        f"features {clean_random}."
    )


def features(exp, decided):
    """Is it the features? Said only if the primary claim and its two-stage control are both confirmed."""
    primary, control = decided["C6"], decided["C6s"]
    if primary.verdict == control.verdict == "confirmed" and not (primary.interim or control.interim):
        chosen = ", by a test chosen when one seed was known," if amended_once_known(exp) else ""
        text = f"Confirmed (C6{chosen} and C6s), which by the rule reads *it is the features*."
        head = head_in_both(decided).values
        if head:
            return f"{text} With the head trained in both arms it is {rates.points(head)}."
        return f"{text} Not controlled for yet: the head, trained in one arm, random in the other (C6b)."
    if primary.verdict == "confirmed":
        return (
            f"**Trained features let BN-only AT start** (C6). That it is the features is not shown: C6s, "
            f"random features with the same two stages, is {claim_tables.verdict(control)}."
        )
    both = f"C6 is {claim_tables.verdict(primary)}, C6s {claim_tables.verdict(control)}"
    return f"That it is the features is not shown: {both}."


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
