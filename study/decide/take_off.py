"""Does BN-only AT of random features start? Every such training there is, by its adversarial training loss.

Decided here: which records are such trainings, and how they are grouped: by recipe (plain, or two stages:
BN-only clean training first) and by learning rate. Not here: what taking off is (rates.py), what follows for
a claim (claims.py). Nothing here looks at test images.
"""

from study.decide import rates
from study.decide.select import all_records
from study.define.rows import GAMMA_SETTINGS

PLAIN, TWO_STAGES = "plain", "two stages"
STUDY_LENGTH = 5  # epochs; a shorter training has not had the time


def trainings(exp):
    """{name: (recipe, record)} of every BN-only AT over random features at the data, network, ε of `exp`."""
    every, runs = all_records(exp), {}
    for name, record in every.items():
        run, parent = record["run"], every.get(record["run"]["parent"])
        how = recipe(run, parent and parent["run"])
        if how and run["trainable"] == "bn" and run["epsilon"] == exp.held_out_epsilon:
            runs[name] = how, record
    return runs


def recipe(run, parent=None):
    """How a training of random features differs from the others but for its rate; None: of trained ones.

    run, parent: what decides the weights of the training, and of the one that it started from.
    """
    if run["step"] == "scratch":
        name = PLAIN
    elif parent and parent["step"] == "scratch" and not parent["epsilon"]:
        name = TWO_STAGES
    else:
        return None
    decay = [] if run["weight_decay"] else ["no decay"]
    changed = [f"{what} {run[key]}" for key, what in GAMMA_SETTINGS.items() if key in run]
    return ", ".join([name, *decay, *changed])


def groups(runs):
    """{(recipe, learning rate): [took off?, ...]} of the trainings as long as the study's, or longer."""
    grouped = {}
    for how, record in runs.values():
        run = record["run"]
        if run["epochs"] >= STUDY_LENGTH:
            grouped.setdefault((how, run["lr"]), []).append(rates.took_off(record))
    return dict(sorted(grouped.items()))
