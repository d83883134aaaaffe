"""Single images under attack: the original, each network's gradient and perturbation, what it says of both.

Decided here: what is drawn. Not here: how it is measured (measure/perturbations.py). The original is drawn
only where the data set is at hand: records hold no images.
"""

import matplotlib.pyplot as plt
import numpy as np

from study.define.rows import label
from study.run import datasets


def _draw(axis, pixels):
    """Draw an image, pixels in [0, 1], [C, H, W]."""
    picture = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)


def _said(probabilities, names):
    """What a network says of an image: the class and the percentage it gives it."""
    best = int(np.argmax(probabilities))
    return f"{names[best]} {100 * probabilities[best]:.0f} %"


def under_attack(networks, exp):
    """Input gradient and PGD-20 perturbation of the first test images, {key: record}; grey is zero.

    exp: an experiment with the data set, whose images stand above them where they are at hand; the place is
    kept where they are not, so that a notebook says the same of its figure.
    """
    networks = {key: record for key, record in networks.items() if record["perturbations"]}
    count = max((len(record["perturbations"]["label"]) for record in networks.values()), default=1)
    images, names = datasets.first_test_images(exp, count), datasets.class_names(exp.run["data"])
    height = 1 + max(len(networks), 1)
    figure, axes = plt.subplots(height, 2 * count, figsize=(2.5 * count, 1.4 * height), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    labels = next((record["perturbations"]["label"] for record in networks.values()), ())
    true = [names[int(number)] for number in labels] or ["?"] * count
    for place in range(count):
        axes[0, 2 * place].set_title("original: not at hand")
        if images is not None:
            axes[0, 2 * place].set_title(f"original: {true[place]}")
            _draw(axes[0, 2 * place], images[place] / 255)
    for row, (key, record) in zip(axes[1:], networks.items(), strict=False):
        measured = record["perturbations"]
        for place in range(count):
            gradient, perturbation = row[2 * place : 2 * place + 2]
            _draw(gradient, (measured["gradient"][place] / 127 + 1) / 2)
            _draw(perturbation, (measured["perturbation"][place] / 127 + 1) / 2)
            gradient.set_xlabel(_said(measured["clean"][place], names), fontsize=7)
            perturbation.set_xlabel(f"→ {_said(measured['adversarial'][place], names)}", fontsize=7)
        row[0].set_ylabel(label(key).replace(", ", ",\n"), fontsize=7)
    for number, axis in enumerate(axes[1]):
        axis.set_title("perturbation" if number % 2 else "gradient")
    return figure
