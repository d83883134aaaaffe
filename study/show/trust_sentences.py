"""The sentences of 05: which networks are suspect, and what AutoAttack takes.

Decided here: how a finding is put into words, from numbers alone. Not here: when a network is suspect
(decide/trust.py), the tables (trust_tables.py).
"""

from study.decide import rates, trust
from study.decide.statistics import smallest_certain
from study.define.rows import label, short
from study.show.tables import same_images
from study.show.trust_tables import mostly_run


def suspects(tables_of):
    """What the checks find, of {(key, seed): table of trust} of every network: which are suspect, in what.

    Networks on which most checks were run are counted apart from those on which few were.
    """
    counted = []
    looked_into = [table for table in tables_of.values() if "constant" not in set(table.verdict)]
    for text, most in (("on which most checks were run", True), ("on which fewer were", False)):
        judged = [table for table in looked_into if mostly_run(table) == most]
        suspect = [table for table in judged if "suspect" in set(table.verdict)]
        if judged:
            counted.append(f"{len(suspect)} of the {len(judged)} networks {text}")
    lines = [
        f"- {label(key)}: {finding(table)}."
        for key, table in tables_of.items()
        if not {"suspect", "constant"}.isdisjoint(table.verdict)
    ]
    return (
        f"Of every seed, constant classifiers and transfer apart, suspect in some check: "
        f"{', '.join(counted) or 'none was looked into'}.\n\n" + "\n".join(lines)
    )


def finding(table):
    """The checks of one network in a sentence."""
    verdicts_of = set(table.verdict)
    if "constant" in verdicts_of:
        return "a constant classifier, to which the patterns do not apply"
    if "suspect" in verdicts_of:
        suspect = table[table.verdict == "suspect"]
        return f"suspect in {'; '.join(f'{check} ({row.difference})' for check, row in suspect.iterrows())}"
    run = (~table.verdict.isin(trust.UNJUDGED)).sum()
    text = f"no sign of gradient masking in the {run} of {len(table)} checks that were run"
    return f"{text}, which excludes nothing of the other {len(table) - run}" if run < len(table) else text


def left_out(checked):
    """What the checks found in networks that the grid leaves out, {key: table of trust}: a line a finding."""
    findings = {}
    for key, own in checked.items():
        if not mostly_run(own):
            findings.setdefault(finding(own), []).append(label(key))
    return "\n".join(f"- {'; '.join(labels)}: {text}." for text, labels in findings.items())


def parts(networks):
    """What FAB and Square took that APGD had left, and AutoAttack from PGD, over all of {key: record}."""
    attacked = [r for r in networks.values() if same_images(r, "pgd") is not None]
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
        taken = same_images(record, "pgd").mean() - record["autoattack"]["robust"].mean()
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
        n = max(same_images(record, "pgd").size for record in with_r)
        least = round(n * smallest_certain(n))
        text += (
            f" Of the {len(with_r)} that were trained adversarially and are no constant classifiers "
            f"AutoAttack breaks images that R counts as right in {len(broken)}; R is lowered for it in "
            f"{len(lowered)}, where the paired interval excludes 0 (from {least} of {n} images on)."
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
        "These intervals are over seeds: that AutoAttack ran on few images is not in them."
    )


def resolution(checked):
    """From which difference on a paired check can be certain at all, of {key: table of trust}, in words."""
    sizes = sorted({int(n) for table in checked.values() for n in table.n if n >= trust.FEWEST})
    each = [f"{100 * smallest_certain(n):.1f} points on {n}" for n in sizes]
    return f"The least paired difference that can be certain: {', '.join(each)} images." if each else ""
