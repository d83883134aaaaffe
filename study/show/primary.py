"""What the answer says of the primary claim: is it the features, and by which test.

Decided here: how C6, its controls C6s and C6b, and the history of its test are put into words. Not here: the
verdicts (decide/claims.py), the rest of the answer (answer.py).
"""

from study.decide import rates
from study.decide.statistics import sign_flip
from study.decide.verdicts import exceeds, exceeds_by_signs
from study.show import claim_tables

KNOWN = 10  # the seed that was known when C6 went over to the sign-flip test (04's ledger)


def shown(decided):
    """Whether the rule says that it is the features: C6 and C6s are confirmed, on all of their seeds."""
    both = decided["C6"], decided["C6s"]
    return all(claim.verdict == "confirmed" and not claim.interim for claim in both)


def is_it_the_features(rows, decided):
    """What the rule says of the primary claim and its control together, in a sentence.

    The head's control is one from two seeds on.
    """
    if not shown(decided):
        return "That it is the features is not shown (C6, C6s)."
    both = "C6, its size undecided; C6s" if decided["C6"].size == "size undecided" else "C6, C6s"
    head = head_in_both(decided)
    if len(head.values) < 2:
        return (
            f"Trained weights get further ({both}); whether by the features or by the head, pre-trained in "
            "one arm and random in the other, is open (C6b)."
        )
    with_head = f"with the head trained in both arms, trained − random: {said_of_head(rows, head)} (C6b)"
    if head.interval()[1] > 0:
        return f"By the rule it is *the features* ({both}); {with_head}."
    return (
        f"Trained weights get further ({both}); whether by the features or by the head, pre-trained in one "
        f"arm and random in the other, stays open: {with_head}."
    )


def features(rows, decided):
    """Is it the features? Said only if the primary claim and its two-stage control are both confirmed."""
    primary, control = decided["C6"], decided["C6s"]
    if shown(decided):
        text = "C6 and C6s are confirmed, which by the rule reads *it is the features*"
        head = head_in_both(decided)
        if len(head.values) < 2:
            text += ", but the head, pre-trained in one arm, random in the other, is not controlled for (C6b)"
        if head.values:
            text += f". With the head trained in both arms it is {said_of_head(rows, head)}"
        return f"{text}."
    if primary.verdict == "confirmed":
        return (
            f"**Trained features let BN-only AT start** (C6). That it is the features is not shown: C6s, "
            f"random features with the same two stages, is {claim_tables.verdict(control)}."
        )
    both = f"C6 is {claim_tables.verdict(primary)}, C6s {claim_tables.verdict(control)}"
    return f"That it is the features is not shown: {both}."


def head_in_both(decided):
    """The part of C6b in which the head is trained in both arms."""
    return next(part for part in decided["C6b"].parts if part.rows == ("finetuned_head", "random_head"))


def said_of_head(rows, part):
    """The difference with the head trained in both arms, and what that leaves open, in words."""
    _, low, high = part.interval()
    text = rates.points(part.values)
    started = [rates.took_off(rows["random_head"][seed]) for seed in part.values]
    if not any(started):
        return f"{text}, where random features never took off, so it says nothing of the features"
    text += by_take_off(rows["random_head"], part.values)
    if len(part.values) == 1:
        return f"{text}: one seed, of which nothing is certain"
    if high < 0:
        return f"{text}, which speaks against it"
    return f"{text}, not certainly above 0" if low <= 0 else text


def by_take_off(random, gap):
    """The differences where random features took off, and where not, in words; "" where all did, or none.

    random: {seed: record} of the random arm; gap: {seed: points}.
    """
    started, stayed = ([gap[seed] for seed in part if seed in gap] for part in rates.split(random))
    if not (started and stayed):
        return ""
    return f" ({span(started)} where random features took off, {span(stayed)} where not)"


def span(values):
    """The least and the largest of differences in words, or the only one."""
    if len(values) == 1:
        return f"{values[0]:+.1f}"
    return f"{min(values):+.1f} to {max(values):+.1f}"


def by_signs(exp, part):
    """The test that decides C6, its p, and what the t-interval says where that differs, in brackets.

    part: the claim's; "" of fewer than two seeds.
    """
    if len(part.values) < 2:
        return ""
    chosen = f", chosen when seed {KNOWN} was known" if amended_once_known(exp) else ""
    text = f"p = {sign_flip(part.values.values()):.3f} by the sign-flip test{chosen}"
    by_interval = exceeds(part)[0]
    if by_interval != exceeds_by_signs(part)[0]:
        text += f"; {by_interval} by the t-interval"
    return f" ({text})"


def hangs_on(rows, part):
    """The smallest difference behind C6, where the test images alone might turn its sign, in words."""
    arms = [rows[key] for key in part.rows]
    seed = min(part.values, key=lambda seed: abs(part.values[seed]))
    points, error = part.values[seed], rates.error_over_images(*arms, [seed])
    if not error or abs(points) > 2 * error:
        return ""
    return (
        f". It needs every seed, and seed {seed} has {points:+.1f} with a standard error over the images "
        f"of {error:.1f}: on other images its sign might be another"
    )


def sign_test(rows, exp, part):
    """The test that decides C6, and what is to be said against it. part: the claim's."""
    gap = part.values
    if len(gap) < 2:
        return "C6 is decided by the exact sign-flip test over seeds: not yet run."
    by_interval = exceeds(part)[0]
    least = with_least(gap.values())
    text = f"C6 is decided by the exact sign-flip test over the {len(gap)} differences, {least}"
    if by_interval != exceeds_by_signs(part)[0]:
        text += f"; by their t-interval it would be {by_interval}"
    others = [points for seed, points in gap.items() if seed != KNOWN]
    if amended_once_known(exp) and len(others) > 1:
        text += (
            f". That test was chosen when seed {KNOWN} was known; the other {len(others)} alone give "
            f"{with_least(others)}"
        )
    if exceeds_by_signs(part)[0] == "confirmed":
        text += hangs_on(rows, part)
    return f"{text}."


def with_least(differences):
    """p of the exact sign-flip test as text, and whether so many differences could give a lower one."""
    p, least = sign_flip(differences), 2 ** (1 - len(differences))
    return f"p = {p:.3f}" + (f", the least that {len(differences)} can give" if p <= least else "")


def amended_once_known(exp):
    """Whether this is the study whose rules were amended when one of its seeds, KNOWN, was known."""
    return (exp.profile, exp.run["data"], exp.run["arch"]) == ("cpu", "cifar10", "resnet20")
