"""Which evaluation of a record counts for a row."""

import pytest
from planted import record

from study.decide import select
from study.define.experiment import experiment
from study.measure import plan


def as_measured(exp, images=50):
    """What `exp` asks for, planted: every kind with the settings of a run, on so many images."""
    asked = {settings["kind"]: settings for settings in plan.evaluations(exp).values()}
    return {kind: dict(settings=settings | dict(images=images)) for kind, settings in asked.items()}


def test_what_was_measured_as_the_row_asks_counts_whatever_the_images():
    exp = experiment("pretrain", epsilon=0)
    shown = select.as_asked(record(None, **as_measured(exp)), exp)
    assert {kind for kind in plan.MEASUREMENTS if shown[kind] is None} == {"worst_case"}, "of L alone"


@pytest.mark.parametrize("other", [dict(eval_epsilon=4), dict(eval_steps=1), dict(eval_restarts=2)])
def test_another_epsilon_or_a_weaker_attack_does_not_count(other):
    exp = experiment("pretrain", epsilon=0)
    found = record(None, **as_measured(experiment("pretrain", epsilon=0, **other)))
    shown = select.as_asked(found, exp)
    assert shown["pgd"] is None and shown["margin"] is None


def test_the_network_that_a_package_ships_is_looked_for_at_the_data_of_the_notebook(root):
    found = select.shipped(select.experiment("pretrain", profile="quick", data="cifar10", arch="resnet18"))
    assert found == {"before": None}
    assert select.shipped(select.experiment("pretrain", profile="quick")) == {}
