"""The sentences of 05: which networks are suspect, and what AutoAttack takes.

Decided here: how a finding is put into words, from numbers alone. Not here: when a network is suspect
(decide/trust.py), the tables (trust_tables.py).
"""

from study.decide import rates, trust
from study.decide.statistics import share, smallest_certain
from study.decide.verdicts import DELTA
from study.define.rows import label, short
from study.show.trust_tables import mostly_run


def suspects(tables_of):
    """What the checks find, of {(key, seed): table of trust} of every network: which are suspect, in what.

    Counted among the networks on which most checks were run.
    """
    looked_into = [t for t in tables_of.values() if {trust.CONSTANT, trust.BROKEN}.isdisjoint(t.verdict)]
    judged = [table for table in looked_into if mostly_run(table)]
    suspect = [table for table in judged if trust.SUSPECT in set(table.verdict)]
    counted = "no network was looked into"
    if judged:
        counted = f"{len(suspect)} of the {len(judged)} networks on which most checks were run"
    if len(judged) < len(looked_into):
        counted += f" (few were run on {len(looked_into) - len(judged)} more)"
    lines = [
        f"- {label(key)}: {finding(table)}."
        for key, table in tables_of.items()
        if not {trust.SUSPECT, trust.CONSTANT}.isdisjoint(table.verdict)
    ]
    return (
        "Of every seed, suspect in some check, transfer, constant classifiers and networks that PGD breaks "
        f"apart: {counted}.\n\n" + "\n".join(lines)
    )


def finding(table):
    """The checks of one network in a sentence."""
    verdicts_of = set(table.verdict)
    if trust.CONSTANT in verdicts_of:
        return "a constant classifier, to which the patterns do not apply"
    if trust.BROKEN in verdicts_of:
        least = f"{100 * trust.LEFT_OF_BROKEN:g} %"
        return f"PGD leaves less than {least} of the images, so that no robustness could be false"
    if trust.SUSPECT in verdicts_of:
        suspect = table[table.verdict == trust.SUSPECT]
        return f"suspect in {'; '.join(f'{check} ({row.difference})' for check, row in suspect.iterrows())}"
    run, of = (~table.verdict.isin(trust.UNJUDGED)).sum(), (table.verdict != trust.TOO_FEW).sum()
    text = f"no sign of gradient masking in the {run} of {of} checks that were run"
    return f"{text}, which excludes nothing of the other {of - run}" if run < of else text


def left_out(checked):
    """What the checks found in networks that the grid leaves out, {key: table of trust}: a line a finding."""
    findings = {}
    for key, own in checked.items():
        if not mostly_run(own):
            findings.setdefault(finding(own), []).append(label(key))
    return "\n".join(f"- {'; '.join(labels)}: {text}." for text, labels in findings.items())


def parts(networks):
    """What FAB and Square took that APGD had left, and AutoAttack from PGD, over all of {key: record}."""
    attacked = [r for r in networks.values() if rates.same_images(r, "pgd") is not None]
    if not attacked:
        return "AutoAttack: not yet run."
    late = []
    for record in attacked:
        attack = record["autoattack"]
        by_apgd = attack.get("apgd-t", attack["apgd-ce"])  # targeted APGD needs four classes
        if (by_apgd != attack["square"]).any():
            late.append(record)
    judged = [r for r in attacked if r["run"]["epsilon"] and not trust.constant(r)]
    of_bn, of_others = [], []
    for record in judged:
        taken = rates.same_images(record, "pgd").mean() - record["autoattack"]["robust"].mean()
        group = of_bn if record["run"]["trainable"] == "bn" else of_others
        group.append(100 * taken)
    groups = {"BN-only AT networks": of_bn, "others trained adversarially": of_others}
    said = [
        f"by {min(points):.1f} to {max(points):.1f} points in {len(points)} {group}"
        for group, points in groups.items()
        if points
    ]
    text = (
        "FAB and Square took something that APGD on the cross-entropy and targeted APGD had left in "
        f"{len(late)} of {len(attacked)} networks."
    )
    with_r = [record for record in judged if rates.flags(record, rates.ROBUST) is not None]
    if with_r:
        lowered = [record for record in with_r if rates.robust_accuracy(record)[1]]
        broken = [record for record in with_r if rates.broken_by_autoattack({0: record})[0]]
        n = max(rates.same_images(record, "pgd").size for record in with_r)
        least = round(n * smallest_certain(n))
        text += (
            f" Of the {len(with_r)} that were trained adversarially and are no constant classifiers "
            f"AutoAttack breaks images that R counts as right in {len(broken)}; R is lowered for it in "
            f"{len(lowered)}, where the paired interval excludes 0 (from {least} of {n} images on). Where it "
            f"breaks none of {n}, R may still be up to {100 * share(0, n).high:.1f} points too high (95 %): "
            f"that is to be held against the {DELTA:g} points from which a difference is called meaningful."
        )
    if said:
        text += (
            f" PGD-20 on the cross-entropy leaves more than AutoAttack on the same images: {', '.join(said)}."
        )
    return text


def by_two_phase(rows):
    """Trained features less others by R, and by the two-phase estimate that takes AutoAttack in; a line."""
    each = []
    for key in ("perceptron", "two_stages", "linear"):
        estimated = rates.differences_after_autoattack(rows["finetuned"], rows[key])
        by_r = rates.differences(rows["finetuned"], rows[key])
        by_r = {seed: points for seed, points in by_r.items() if seed in estimated}
        if estimated:
            each.append(f"{short(key)} {rates.points(estimated)} (by R {rates.points(by_r)})")
    if not each:
        return ""
    return (
        f"Trained features less others by the two-phase estimate, points [95 %] (seeds): {'; '.join(each)}. "
        "These intervals are over seeds: that AutoAttack ran on few images, and that what moves is the few "
        "that it breaks (the table's last column), is not in them."
    )


def against_square(networks):
    """What the gradient-free attack makes of R, on the images of both, over all of {key: record}."""
    broken, right, left, judged = 0, 0, 0, 0
    for record in networks.values():
        if not record["checks"] or not record["margin"] or trust.exempt(record):
            continue
        r = rates.outcomes_of(record["margin"], "robust")
        both = rates.on_shared(*r, *rates.outcomes_of(record["checks"], "square"))
        if both:
            robust, square = both
            broken += int((robust & ~square).sum())
            right += int(robust.sum())
            left += int((square & ~robust).sum())
            judged += 1
    if not judged:
        return ""
    return (
        f"Square alone, without gradients, breaks {broken} of the {right:,} images on which R is right, all "
        f"{judged} networks' that it ran on together, and leaves {left} on which R is wrong."
    )


def resolution(checked):
    """From which difference on a paired check can be certain at all, of {key: table of trust}, in words."""
    sizes = sorted({int(n) for table in checked.values() for n in table.n if n >= trust.FEWEST})
    each = [f"{100 * smallest_certain(n):.1f} points on {n}" for n in sizes]
    return f"The least paired difference that can be certain: {', '.join(each)} images." if each else ""
