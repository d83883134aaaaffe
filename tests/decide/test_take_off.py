"""Which trainings of random features started, on planted records."""

import matplotlib.pyplot as plt
import planted
import pytest

from study.decide import take_off
from study.define.experiment import experiment
from study.show import insights, sentences, tables


def training(lr=0.8, losses=(2.5, 2.2, 2.2, 2.2, 2.1), **changes):
    return planted.record(losses=losses, run=dict(lr=lr, epochs=len(losses)) | changes)


STAYED = (2.4, 2.3, 2.3, 2.3, 2.29)
FINETUNED = dict(step="finetune", parent="a name that says nothing")
FOUND = {
    "a": ("plain", training()),
    "b": ("plain", training(losses=STAYED)),
    "c": ("plain", training(lr=0.2, losses=STAYED)),
    "d": ("two stages", training(lr=0.2, **FINETUNED)),
    "e": ("plain", training(losses=(2.5, 2.3, 2.26))),  # too short to be counted
    "f": ("plain, no decay", training(losses=STAYED, weight_decay=0.0)),
}


@pytest.mark.parametrize(
    "changes, parent, recipe",
    [
        ({}, None, "plain"),
        (dict(weight_decay=0.0), None, "plain, no decay"),
        (dict(gamma_decay="one"), None, "plain, γ decays to one"),
        (dict(gamma_start="uniform"), None, "plain, γ starts uniform"),
        (FINETUNED, dict(step="scratch", epsilon=0.0), "two stages"),
        (FINETUNED, dict(step="scratch", epsilon=8.0), None),
        (FINETUNED, dict(step="pretrain"), None),
    ],
)
def test_a_recipe_is_where_the_training_starts_and_what_pulls_at_it(changes, parent, recipe):
    assert take_off.recipe(training(**changes)["run"], parent) == recipe


def test_the_share_is_of_trainings_as_long_as_the_study_s_by_recipe_and_rate():
    table = tables.taken_off(FOUND)
    assert table.loc["plain, learning rate 0.8"].tolist() == [1, 2, "50 [1, 99]"]
    assert table.loc["plain, learning rate 0.2", "took off"] == 0
    assert table.loc["two stages, learning rate 0.2", "took off"] == 1
    assert table.loc["plain, no decay, learning rate 0.8", "of"] == 1
    assert list(tables.taken_off({}).index) == ["not yet run"]


def test_shorter_trainings_and_those_that_stayed_without_being_constant_are_said():
    assert (
        sentences.said_of_shorter(FOUND) == "Shorter ones that took off: plain, of 3 epochs, at 0.8: 0 of 1."
    )
    assert sentences.said_of_shorter({}) == ""
    constant = dict(clean=planted.flags(10), clean_predictions=[1000, 0], robust=planted.flags(10))
    mixed = constant | dict(clean=planted.flags(23), clean_predictions=[420, 580])
    stayed = {
        name: ("plain", training(lr=3.2, losses=STAYED) | dict(pgd=pgd))
        for name, pgd in (("a", constant), ("b", mixed), ("c", None))
    }
    assert sentences.said_of_stayed(FOUND | stayed) == (
        "Did not take off, and yet no constant classifier: plain, at 3.2, seed 10 (clean accuracy 23.0 %)."
    )


def test_every_training_is_a_line_and_every_group_a_mark():
    left, right = insights.take_off_figure(FOUND, "cifar10").axes
    lines = [line for line in left.lines if len(line.get_xdata()) > 2]
    assert len(lines) == len(FOUND) and sum(line.get_linestyle() == "--" for line in lines) == 1
    assert len(right.containers) == 4
    plt.close("all")


def test_the_committed_trainings_are_of_random_features_at_the_study_s_radius():
    found = take_off.trainings(experiment("pretrain"))
    assert len(found) >= 25 and {record["run"]["epsilon"] for _, record in found.values()} == {8.0}
    parents = {}
    for how, record in found.values():
        parents.setdefault(how, set()).add(record["run"]["parent"])
    assert parents["plain"] == {None}
    assert len(parents["two stages"]) >= 4 and all(
        name.startswith("scratch") for name in parents["two stages"]
    )
