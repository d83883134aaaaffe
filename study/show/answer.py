"""The answer of the study in sentences, for 04 and for the README.

Decided here: how the result is put into words, from numbers alone. Not here: the numbers
(decide/statistics.py), verdicts (decide/claims.py), what is said of the primary claim (primary.py), what the
other notebooks say (sentences.py).
"""

from study.decide import axes, claims, rates
from study.decide.statistics import equivalent, share
from study.decide.verdicts import DELTA
from study.define.rows import ARMS, ROWS
from study.run import datasets
from study.show import claim_tables, primary, sentences


def listed(rows, exp, radii=None):
    """The answer: in short, then what it rests on. radii: of `decide.axes.radius`; None: not said."""
    return f"{in_short(rows, exp)}\n\nWhat it rests on:\n\n{bullets(rests_on(rows, exp, radii))}"


def folded(rows, exp, radii=None):
    """The answer in short; what it rests on in a fold. radii: as in `listed`."""
    rest = bullets(rests_on(rows, exp, radii))
    return f"{in_short(rows, exp)}\n\n<details><summary>What it rests on</summary>\n\n{rest}\n\n</details>"


def bullets(lines):
    """Lines as a list."""
    return "\n".join(f"- {line}" for line in lines)


def measured(rows):
    """What accuracies are compared by, and its name: R, or PGD-20 as long as no network has R."""
    every = [record for seeds in rows.values() for record in seeds.values()]
    if any(record["margin"] for record in every):
        return rates.ROBUST, "R"
    return rates.PGD, "PGD-20"


def decided_of(rows, exp):
    """The claims by their keys."""
    return {claim.key: claim for claim in claims.decide(rows, exp.profile)}


def in_short(rows, exp):
    """What became of the paper's findings, what both arms reach, their difference, and the yardsticks."""
    measure, name = measured(rows)
    decided = decided_of(rows, exp)
    where, evidence = measured_where(rows, exp, name), ""
    if exp.profile == "quick":
        evidence = "Profile `quick` shows that the code works; it is **no evidence** about the paper.\n\n"
    if not compared(rows, decided, measure):
        return f"{evidence}**BN-only AT of trained features against random ones: not yet run.** {where}"
    reached = {key: rates.text(rows[key], measure) for key in ("standard", "finetuned", "at")}
    said = [
        f"**Trained features** go from a robust accuracy ({name}) of {reached['standard']} to "
        f"**{reached['finetuned']}**, random features to {in_both_groups(rows, measure)}; AT of all weights "
        f"reaches {reached['at']}.",
        difference(rows, exp, decided, measure),
        without_features(rows, exp, measure),
    ]
    return f"{evidence}{of_the_paper(decided)}\n\n{bullets(said)}\n\n{where}"


def of_the_paper(decided):
    """What the paper finds, and what became of it here, in a sentence."""
    first, second = (claim_tables.verdict(decided[key]) for key in ("C4", "C5"))
    return (
        "The paper finds that BN-only AT can give trained features *non-trivial* robustness, and random "
        "features no *meaningful* one. **Here, against a linear classifier on the pixels (L), the first "
        f"(C4) is {first}, the second (C5) {second}.**"
    )


def rests_on(rows, exp, radii):
    """What stands behind the answer in short, and what is against it: lines. radii: as in `listed`."""
    measure, name = measured(rows)
    decided = decided_of(rows, exp)
    said = [
        ahead(rows, decided, measure),
        primary.sign_test(rows, exp, decided["C6"].parts[0]),
        take_off(rows, exp, measure),
        random(rows, decided, measure),
        two_stages(rows, measure),
        beside(rows, measure, name),
        *over_radii(rows, radii or {}),
    ]
    if name != "R":
        said.append(
            "These are accuracies under PGD-20: R, on which the claims rest, is not measured yet. PGD on the "
            "cross-entropy bounds robust accuracy from above (`05_trust`): it decides no claim."
        )
    return said


def difference(rows, exp, decided, measure):
    """Trained features less random ones, by seeds and by the rule."""
    gap = compared(rows, decided, measure)
    text = f"**Trained − random: {rates.points(gap)}**"
    if len(gap) == 1:
        text += ": one seed is inconclusive"
    else:
        positive = [points for points in gap.values() if points > 0]
        text += f", above 0 in {len(positive)} of {len(gap)} seeds"
        text += primary.by_signs(exp, decided["C6"].parts[0])
    return f"{text}. {primary.is_it_the_features(rows, decided)}"


def in_both_groups(rows, measure):
    """What random features reach; where some took off and some did not, both apart."""
    started, stayed = rates.split(rows["random"])
    if not (started and stayed):
        return f"**{rates.text(rows['random'], measure)}**"
    return (
        f"**{rates.text(started, measure)}** where the training took off ({len(started)} of "
        f"{len(rows['random'])}), {rates.text(stayed, measure)} where not, "
        f"{rates.text(rows['random'], measure)} in all"
    )


def without_features(rows, exp, measure):
    """What the yardsticks reach, and how far trained features are from them."""
    linear, perceptron = (rates.text(rows[key], measure) for key in ("linear", "perceptron"))
    chance = 100 * datasets.chance(exp.run["data"])
    return (
        f"**Without convolutions**, in as many adversarial epochs: L {linear}, trained − L "
        f"{gap_of(rows, 'finetuned', 'linear', measure)}; a perceptron on the means of an 8 x 8 grid of "
        f"blocks (P) {perceptron}, trained − P {gap_of(rows, 'finetuned', 'perceptron', measure)}"
        f"{within_delta(rows, measure)}; a constant classifier {chance:.1f}."
    )


def within_delta(rows, measure):
    """Whether trained features and P are equivalent within δ, which carries no verdict, in words, or ""."""
    gap = rates.differences(rows["finetuned"], rows["perceptron"], measure)
    return f", equivalent within {DELTA:g} points" if equivalent(gap.values(), DELTA) else ""


def measured_where(rows, exp, name):
    """What the numbers are, and the budget and the architecture for which they hold."""
    epochs = sorted({r["run"]["epochs"] for key in ARMS for r in rows[key].values()})
    budget = f"{'/'.join(map(str, epochs)) or 'no'} adversarial epochs"
    what = "right under PGD-20" + (" and multi-targeted PGD" if name == "R" else "")
    return (
        f"{exp.run['arch']}, {exp.run['data']}, {budget}; {name}: % of the test images that are {what} at "
        f"ε = {exp.run['epsilon']:g}/255. Mean ± sd (seeds); differences in points [95 % t-interval] (seeds)."
    )


def gap_of(rows, minuend, subtrahend, measure):
    """The difference of two rows by seed, as text."""
    return rates.points(rates.differences(rows[minuend], rows[subtrahend], measure))


def random(rows, decided, measure):
    """How far random features are from L, all and those that took off, and whether C5 holds."""
    started, stayed = rates.split(rows["random"])
    text = f"**Random features less L**: {gap_of(rows, 'random', 'linear', measure)}"
    if started and stayed:
        gap = rates.differences(started, rows["linear"], measure)
        text += f"; those that took off {rates.points(gap)}"
    verdict = claim_tables.verdict(decided["C5"])
    return f"{text}. That this is no meaningful robustness (C5, by its seeds alone): {verdict}."


def compared(rows, decided, measure):
    """Trained features less random ones, {seed: points}: C6's of the seeds that count, where R is there."""
    if measure == rates.ROBUST:
        return decided["C6"].values
    return rates.differences(rows["finetuned"], rows["random"], measure)


def ahead(rows, decided, measure):
    """Whether it is the features, and how the difference hangs on which random features took off."""
    groups = primary.by_take_off(rows["random"], compared(rows, decided, measure))
    return f"**Trained − random**{groups}. {primary.features(rows, decided)}"


def take_off(rows, exp, measure):
    """How many trainings of random features left the plateau, and what those that did reach."""
    if not rows["random"]:
        return "Whether BN-only AT of random features takes off: not yet run."
    started, stayed = rates.split(rows["random"])
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
    without = rates.differences(rates.split(rows["random"])[0], rows["two_stages"], measure)
    return (
        "With the same two stages, clean training and then AT, of BN alone, random features reach "
        f"**{rates.text(rows['two_stages'], measure)}**; trained − these "
        f"{gap_of(rows, 'finetuned', 'two_stages', measure)} (C6s). Random features that took off "
        f"without the clean stage, less these: {rates.points(without)}."
    )


def trained_longer(rows, key, title, measure):
    """What a yardstick reaches that is trained longer, and how far trained features are from it."""
    after = f"{title} after {ROWS[key].parameters['epochs']} epochs"
    if not rows[key]:
        return f"{after} not yet run"
    gap = gap_of(rows, "finetuned", key, measure)
    return f"{after} {rates.text(rows[key], measure)}, trained − that {gap}"


def beside(rows, measure, name):
    """The yardsticks trained longer, and clean accuracies."""
    linear = trained_longer(rows, "linear_long", "L", measure)
    perceptron = trained_longer(rows, "perceptron_long", "P", measure)
    clean, clean_random = (rates.text(rows[key], rates.CLEAN) for key in ARMS)
    text = (
        f"Beside them, {name}: {linear}; {perceptron}. Clean accuracy: trained features {clean}, random "
        f"features {clean_random}."
    )
    return f"{text}{with_autoattack(rows)}"


def over_radii(rows, radii):
    """How far trained features are ahead of random ones, and those of L, at each ε: a line, where two ran."""
    ahead = axes.gaps(radii, rows).get("random", {})
    each = [f"ε = {eps:g}/255 {rates.points(gap)}" for eps, gap in ahead.items() if eps and gap]
    if len(each) < 2:
        return []
    beside = sentences.said_of_random(radii, "{:g}/255")
    return [
        f"**Trained − random, trained and attacked at other ε** (06_features): {'; '.join(each)}. {beside}"
    ]


def with_autoattack(rows):
    """How far trained features are from P with AutoAttack taken in, and on how few images, or ""."""
    arms = rows["finetuned"], rows["perceptron"]
    gap = rates.differences_after_autoattack(*arms)
    if not gap:
        return ""
    by_r = {seed: points for seed, points in rates.differences(*arms).items() if seed in gap}
    broken, of_p = (
        "{} of {}".format(*rates.broken_by_autoattack({seed: row[seed] for seed in gap})) for row in arms
    )
    return (
        f" With AutoAttack taken in (two-phase estimate): trained − P {rates.points(gap)}, by R "
        f"{rates.points(by_r)}. Between them lie few images: of those that R counts as right AutoAttack "
        f"breaks {of_p} of P's, {broken} of trained features'."
    )
