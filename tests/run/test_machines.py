"""What a run ran on: recorded, kept over resumptions, said in the table of costs."""

import pytest
from conftest import FAST, REPOSITORY

from study.define.experiment import experiment
from study.run import machines, records, runs
from study.show import tables

OLD = dict(device="CPU, 2 thread(s)", torch="2.14.1", precision="torch.bfloat16", seconds=[10.0, 10.0])
OLD |= dict(peak_memory_bytes=0, images_per_second=90.0)
ONE = dict(device="CPU, 1 thread(s)", cpu="Abacus 1", instructions="AVX2", threads=1)
ONE |= dict(precision="torch.bfloat16", compiled=True, torch="2.14.1")
OTHER = ONE | dict(cpu="Abacus 2", threads=2, device="CPU, 2 thread(s)", compiled=False)


def costs(**found):
    return tables.costs({name: dict(machine=machine) for name, machine in found.items()})


def test_a_run_says_what_it_ran_on(root, digits):
    exp = experiment("pretrain", **FAST | dict(epochs=2))
    machine = runs.train(exp, digits)[2]
    assert machine["threads"] == 1 and machine["cpu"] and not machine["compiled"]
    assert machine["machines"] == [machines.here()] and len(machine["seconds"]) == 2
    assert machines.processor() in costs(run=machine)["device"]["run"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_resumed_run_names_every_machine_once(root, digits, monkeypatch, moved):
    exp = experiment("pretrain", **FAST | dict(epochs=4))
    evaluate, seen = runs.bnat.evaluate, []

    def killed(*arguments, **settings):
        seen.append(1)
        if len(seen) in (2, 4):
            raise KeyboardInterrupt
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(runs.bnat, "evaluate", killed)

    def train_on(machine):
        monkeypatch.setattr(machines, "here", lambda compiled=False: machine)
        return runs.train(exp, digits)[2]

    for machine in (ONE, OTHER if moved else ONE):  # interrupted on both
        with pytest.raises(KeyboardInterrupt):
            train_on(machine)
    machine = train_on(ONE)
    assert machine["machines"] == ([ONE, OTHER] if moved else [ONE])
    assert train_on(dict(ONE, cpu="that only reads")) == machine


def test_a_run_goes_on_from_an_older_machine_s_words():
    assert machines.seen(OLD) == [{key: OLD[key] for key in ("device", "precision", "torch")}]
    machine = machines.with_speed(machines.joined(machines.seen(OLD), ONE), [10.0, 5.0], 100)
    device = "CPU, 2 thread(s); then Abacus 1, 1 thread(s), compiled"
    assert costs(run=machine)["device"].to_dict() == dict(run=device)
    assert machine["images_per_second"] == pytest.approx(200 / 15)


def test_the_table_of_costs_says_where_it_mixes_processors():
    one, other = (machines.with_speed([machine], [10.0], 100) for machine in (ONE, OTHER))
    assert "all" not in costs(a=one, b=one, c=OLD).index
    mixed = costs(a=one, b=other)
    assert mixed["device"]["all"] == "2 processors: the speeds compare these, too"
    assert mixed["minutes"].to_dict() == dict(a="0.2", b="0.2", all="–")


def test_a_run_that_trains_nothing_was_made_somewhere(root, digits):
    machine = runs.train(experiment("pretrain", **FAST | dict(epochs=0)), digits)[2]
    assert machine["machines"] == [machines.here()] and machines.seen(machine) == []
    assert costs(run=machine)["images/s, training"]["run"] == "0"


def test_the_machines_of_committed_records_stay_readable():
    files = sorted((REPOSITORY / "records").glob("*/machine.json"))
    found = {path.parent.name: records.parse_json(path) for path in files}
    assert len(found) > 100 and costs(**found).index.isin([*found, "all"]).all()
