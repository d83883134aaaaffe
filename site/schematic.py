"""The question as a picture: python site/schematic.py writes figures/schematic.png and .pdf.

One residual block and the head: what is frozen, and what adversarial training may change.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parent.parent
FROZEN, LEARNS = "#E3E3E3", "#F6C6A3"  # the fill of what stays as it is, and of what is trained
HEIGHT, MIDDLE = 0.5, 1.0


def box(axis, x, width, text, colour, edge="#555555", line=0.8):
    """A rounded box with a centred text, at height MIDDLE; the x of its right side."""
    shape = dict(
        boxstyle="round,pad=0.02,rounding_size=0.06", facecolor=colour, edgecolor=edge, linewidth=line
    )
    axis.add_patch(FancyBboxPatch((x, MIDDLE - HEIGHT / 2), width, HEIGHT, **shape))
    axis.text(x + width / 2, MIDDLE, text, ha="center", va="center", fontsize=8)
    return x + width


def arrow(axis, start, end, **style):
    usual = dict(arrowstyle="-|>", mutation_scale=7, color="#555555", linewidth=0.8, shrinkA=0, shrinkB=0)
    axis.add_patch(FancyArrowPatch(start, end, **usual | style))


def draw():
    """The figure."""
    figure, axis = plt.subplots(figsize=(7.2, 2.1))
    parts = [
        ("image\n+ PGD", 0.75, "white"), ("conv", 0.7, FROZEN), ("BN\nγ, β", 0.7, LEARNS),
        ("ReLU", 0.6, "white"), ("conv", 0.7, FROZEN), ("BN\nγ, β", 0.7, LEARNS),
        ("+, ReLU", 0.75, "white"), ("head", 0.7, FROZEN),
    ]  # fmt: skip
    x, gap, sides = 0.0, 0.24, []
    for text, width, colour in parts:
        learns = colour == LEARNS
        right = box(
            axis, x, width, text, colour, edge="#D55E00" if learns else "#555555", line=1.6 if learns else 0.8
        )
        sides.append((x, right))
        x = right + gap
    for (_, left), (right, _) in zip(sides, sides[1:], strict=False):
        arrow(axis, (left + 0.03, MIDDLE), (right - 0.03, MIDDLE))
    skip, end = sides[0][1] + 0.12, (sides[6][0] + sides[6][1]) / 2
    bend = dict(connectionstyle="bar,fraction=0.0", arrowstyle="-")
    arrow(axis, (skip, MIDDLE), (skip, MIDDLE + 0.52), **bend)
    arrow(axis, (skip, MIDDLE + 0.52), (end, MIDDLE + 0.52), **bend)
    arrow(axis, (end, MIDDLE + 0.52), (end, MIDDLE + HEIGHT / 2 + 0.03))
    axis.text(
        0,
        0.42,
        "one of nine residual blocks; grey, frozen: convolutions and head, either after standard training",
        fontsize=7.5,
    )
    axis.text(
        0, 0.20, "(trained features, fragile) or as they were initialised (random features)", fontsize=7.5
    )
    axis.text(
        0,
        -0.06,
        "orange, trained adversarially: every γ and β; running statistics are the adversarial batches'",
        fontsize=7.5,
        color="#B34700",
    )
    axis.set(xlim=(-0.1, x), ylim=(-0.2, 1.7))
    axis.set_axis_off()
    return figure


if __name__ == "__main__":
    plt.style.use(ROOT / "notebooks" / "bnat.mplstyle")
    made = draw()
    for kind, metadata in (("png", None), ("pdf", {"CreationDate": None})):
        made.savefig(ROOT / "figures" / f"schematic.{kind}", metadata=metadata)
