"""Records as runs leave them, planted: accuracies that are known, and no network behind them."""

import numpy as np

from study.run.records import kinds

RUN = dict(
    data="cifar10", arch="resnet20", step="scratch", parent=None, trainable="bn", epsilon=8.0, epochs=5,
    lr=0.2, weight_decay=5e-4, seed=10,
)  # fmt: skip


def flags(rate, n=1000):
    """bool [n], of which the first are true, so many percent."""
    return np.arange(n) < round(rate * n / 100)


def evaluation(rate, n=1000, clean=None, **settings):
    """An evaluation on n images: robust on `rate` percent of them, right on `clean` percent, or as many."""
    right = flags(rate if clean is None else clean, n)
    predicted = [n // 2, n - n // 2]  # images a class
    asked = dict(epsilon=8, images=n) | settings
    return dict(robust=flags(rate, n), clean=right, clean_predictions=predicted, settings=asked)


def record(rate=None, n=1000, clean=None, tuning=False, losses=(2.1,), run=None, **evaluations):
    """A record with PGD-20 and R of `rate` percent, None for what was not measured.

    tuning: judged on images kept for it; losses: of the adversarial training, by epoch; run: what is not as
    in RUN; evaluations: by kind, in place of those.
    """
    prefix = "tuning_" if tuning else ""
    measured = dict.fromkeys(kinds())
    if rate is not None:
        measured |= {f"{prefix}pgd": evaluation(rate, n, clean), f"{prefix}margin": evaluation(rate, n)}
    history = [dict(train_loss=loss) for loss in losses]
    return measured | dict(run=RUN | (run or {}), history=history) | evaluations


def seeds(*rates, first=10, **same):
    """{seed: record} with R of so many percent, from seed 10 on."""
    numbered = enumerate(rates, first)
    return {seed: record(rate, run=dict(seed=seed), **same) for seed, rate in numbered}


def with_autoattack(survivors, **settings):
    """R = 40 % of 1,000 images; AutoAttack on every fourth leaves so many of the 100 that R has there."""
    robust = flags(40)
    index = list(range(0, 1000, 4))
    robust_there = np.arange(250) < survivors
    autoattack = dict(robust=robust_there, settings=dict(epsilon=8, images=250, index=index) | settings)
    return dict(margin=dict(robust=robust), autoattack=autoattack)


def small(n, *rates, radius="0.5"):
    """Small radii of n images: right on the first so many percent, of which the first so many survive."""
    right, robust = (flags(rate, n) for rate in rates)
    return {
        "0": right,
        radius: robust,
        "settings": dict(images=n, radii=[float(radius)], index=list(range(n))),
    }
