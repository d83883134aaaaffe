"""A network that was trained elsewhere and is evaluated alone: what was measured of it, on one screen.

Decided here: what stands on that screen. Not here: how a file of weights fills a network (run/networks.py),
the intervals (decide/statistics.py), the checks and their sentence (decide/trust.py, trust_sentences.py).
"""

from study.decide import rates
from study.decide.statistics import percent, proportion
from study.decide.trust import NOT_RUN, trust
from study.run.records import prefix
from study.run.terminal import say
from study.show import trust_sentences

MEASURED = {"clean": rates.CLEAN, "PGD": rates.PGD, "R": rates.ROBUST}


def screen(exp, record):
    """The accuracies of a network in percent [95 % interval] (images), and the checks in a sentence.

    exp, record: an experiment with `pretrain_weights` of its own, and what it measured. What was not asked
    for is no line.
    """
    filled = ", filled in their order" if record.get("filled_by") == "order" else ""
    before = prefix(exp.asked.split)
    pgd = record[f"{before}pgd"]
    radius = f", ε = {pgd['settings']['epsilon']:g}/255" if pgd else ""
    lines = [f"{exp.run['arch']} with the weights of {exp.weights}{filled}, on {exp.run['data']}{radius}:"]
    for title, (kind, flags) in MEASURED.items():
        measured = record[f"{before}{kind}"]
        if measured:
            name = f"PGD-{measured['settings']['steps']}" if title == "PGD" else title
            lines.append(f"  {name:11} {percent(proportion(measured[flags]))}")
    if attack := record["autoattack"]:
        parts = [part for part in attack if part not in ("robust", "settings", "weights")]
        lines.append(f"  AutoAttack  {percent(proportion(attack['robust']))}, of {', '.join(parts)}")
    images = "training images kept for tuning" if before else "test images"
    lines.append(f"  in percent [95 % interval] ({images}); R survives PGD and multi-targeted PGD")
    table = trust(record)
    looked = (table.verdict != NOT_RUN).any()
    masking = trust_sentences.finding(table) if looked else "not looked for; check_images asks for it"
    lines.append(f"Gradient masking: {masking}.")
    return "\n".join(lines)


def show(exp, record):
    """Print the screen of a network that was trained elsewhere, in the notebook and on the terminal."""
    say(screen(exp, record))
