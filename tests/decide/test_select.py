"""Which evaluation of a record counts for a row."""

from planted import evaluation, record

from study.decide import select
from study.measure import plan


def test_evaluations_at_another_epsilon_are_hidden():
    found = record(20, small=evaluation(20, radii=plan.small_radii(8)), curve=evaluation(20, epsilons=[4, 8]))
    shown = select.at_epsilon(found, 8)
    assert all(shown[kind] for kind in ("pgd", "margin", "small", "curve"))
    shown = select.at_epsilon(found, 4)
    assert shown["curve"] and not any(shown[kind] for kind in ("pgd", "margin", "small"))


def test_the_network_that_a_package_ships_is_looked_for_at_the_data_of_the_notebook(root):
    found = select.shipped(select.experiment("pretrain", profile="quick", data="cifar10", arch="resnet18"))
    assert found == {"before": None}
    assert select.shipped(select.experiment("pretrain", profile="quick")) == {}
