"""Which records the report looks at: every one of a network, those of a row, the one that stands for a row.

Decided here: what belongs to a row, and which evaluation of it counts. Not here: the rows (define/rows.py),
how a record is read (run/records.py), the values on the axes of 06 (axes.py). Rows are {key: {seed: record}}.
"""

from study.decide import rates
from study.define import parameters
from study.define.experiment import digest_of, experiment
from study.define.rows import ROWS
from study.measure import plan
from study.run.records import kinds, read_record


def all_records(exp, same=("data", "arch")):
    """{name: record} of every record with the data and architecture of `exp`, committed or made here.

    Of evaluations that differ in nothing but their images the one on most counts.
    """
    roots, wanted = [root / "records" for root in (parameters.ROOT, exp.out)], plan.evaluations(exp)
    names = sorted({path.name for root in roots for path in root.glob("*")})
    every = {
        name: read_record(*(root / name for root in roots), wanted=wanted, exactly=False) for name in names
    }
    return {
        name: record
        for name, record in every.items()
        if record and all(record["run"][key] == exp.run[key] for key in (*same, "generation"))
    }


def of_step(exp):
    """{name: record} of every record of an experiment's step, data and architecture."""
    return all_records(exp, same=("data", "arch", "step"))


def as_asked(record, exp):
    """The record without what was measured otherwise than `exp` asks: at another ε, by a weaker attack."""
    asked = [plan.attack_of(settings) for settings in plan.evaluations(exp).values()]
    other = [k for k in kinds() if record[k] and plan.attack_of(record[k]["settings"]) not in asked]
    return record | dict.fromkeys(other)


def study_rows(profile="cpu", rows=ROWS, known=None, **parameters):
    """{key: {seed: record}} of rows {key: Row} at a profile's settings or others given.

    parameters: of those rows that do not have their own. known: a dict that keeps what was read, for
    further calls. What was measured otherwise than the row asks for is hidden; a row that was not run has no
    seeds.
    """
    known, chosen = {} if known is None else known, {}
    for key, row in rows.items():
        try:
            exp = experiment(row.step, profile=profile, **row.among(parameters))
        except ValueError:  # no such row of this network, as of a classifier without BN
            chosen[key] = {}
            continue
        place = exp.run["arch"], exp.held_out_epsilon  # which evaluation counts hangs on the ε, too
        if place not in known:
            known[place] = all_records(exp)
        chosen[key] = {}
        for seed in sorted({record["run"]["seed"] for record in known[place].values()}):
            of_seed = experiment(row.step, profile=profile, **row.among(parameters) | dict(seed=seed))
            if of_seed.name in known[place]:
                chosen[key][seed] = as_asked(known[place][of_seed.name], of_seed)
    return chosen


def by_seed(rows):
    """{(key, seed): record} of every row and seed."""
    return {(key, seed): record for key, seeds in rows.items() for seed, record in seeds.items()}


def first_seeds(rows):
    """{key: record} of each row's first seed."""
    return {key: next(iter(seeds.values())) for key, seeds in rows.items() if seeds}


def representative(rows):
    """{key: record} that stands for a row where one network is looked into: that of its first seed.

    Of random features the first seed that took off and was looked into; a constant classifier shows nothing.
    """
    started = list(rates.split(rows["random"])[0].values())
    started.sort(key=lambda record: record["features"] is None)
    return first_seeds(rows) | ({"random": started[0]} if started else {})


def stayed_inside(rows):
    """{(key, seed): record} of random features whose AT did not take off and that were looked into."""
    _, stayed = rates.split(rows["random"])
    return {("random", seed): record for seed, record in stayed.items() if record["features"]}


def with_parents(first):
    """{key: (record, parent or None)} of the rows with BN, {key: record}; parents are those among them."""
    by_name = {record["name"]: record for record in first.values()}
    return {
        key: (record, by_name.get(record["run"]["parent"])) for key, record in first.items() if record["bn"]
    }


def shipped(exp):
    """The ResNet-18 of the package pyautoattack before, and every run that started from it."""
    if exp.run["data"] != "cifar10":
        return {}
    network = dict(profile=exp.profile, data="cifar10", arch="resnet18", epsilon=0)
    other = experiment("pretrain", **network, pretrain_weights="pyautoattack")
    every = all_records(other)
    chosen = {"before": every.get(other.name)}
    for record in every.values():
        if record["run"]["parent"] == other.name:
            run = record["run"]
            chosen[f"{run['trainable']} of {run['train_images']:,} images, {digest_of(run)}"] = record
    return chosen
