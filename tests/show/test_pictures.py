"""The pictures of an attack, of planted records: what stands under them, and the original above."""

import numpy as np
from matplotlib import pyplot as plt
from planted import record

from study.define.experiment import experiment
from study.show import pictures


def said(data_dir):
    """The words of the figure of one network, which takes a cat for a dog."""
    cat, dog = np.eye(10)[[3]], 0.9 * np.eye(10)[[5]]
    pixels = np.zeros((1, 3, 32, 32), np.int8)
    measured = dict(gradient=pixels, perturbation=pixels, label=np.array([3.0]), clean=cat, adversarial=dog)
    networks = {"standard": record(perturbations=measured), "at": record()}
    figure = pictures.under_attack(networks, experiment("pretrain", data_dir=data_dir))
    drawn = [(axis.get_title(), axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes]
    plt.close(figure)
    return [word for words in drawn for word in words if word]


def test_a_record_shows_what_the_network_says_of_an_image_and_of_its_attack(tmp_path):
    shown = [
        "original: not at hand",
        "gradient",
        "cat 100 %",
        "Standard training",
        "perturbation",
        "→ dog 90 %",
    ]
    assert said(tmp_path) == shown  # of a folder without data


def test_the_original_stands_above_where_the_data_are(monkeypatch, tmp_path):
    images = np.zeros((1, 3, 32, 32), np.uint8)
    monkeypatch.setattr(pictures.datasets, "first_test_images", lambda exp, n: images)
    assert said(tmp_path)[0] == "original: cat"
