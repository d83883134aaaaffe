"""The catalogue of rows: what is compared, each a key, a label, a step and parameters of its own.

Decided here: which runs the report shows under which name and colour (Okabe & Ito: safe for the
colour-blind). A key travels, its label is printed last. Not here: what a missing parameter becomes
(experiment.py), what follows from a row (claims.py).
"""

from dataclasses import dataclass

from study.define.normalisations import NORMS

GAMMA_SETTINGS = {"gamma_start": "γ starts", "gamma_decay": "γ decays to"}  # in words


@dataclass(frozen=True)
class Row:
    """Networks that differ in nothing but the seed."""

    key: str
    label: str
    step: str
    parameters: dict
    short: str = ""  # its name in the statistic of a claim, where the label is long
    colour: str | None = None
    first_study: dict | None = None  # what the first study did otherwise, if it had this row

    def among(self, others):
        """The parameters of this row where others are given: its own win, another network's options go."""
        if "arch" in self.parameters:
            others = {name: value for name, value in others.items() if name != "arch_options"}
        return others | self.parameters


def by_key(*rows):
    """{key: Row}."""
    return {row.key: row for row in rows}


ROWS = by_key(  # of the main table
    Row(
        "standard", "Standard training", "pretrain", dict(epsilon=0),
        short="standard", colour="#0072B2", first_study=dict(epochs=8),
    ),
    Row(
        "at", "AT, all weights", "pretrain", dict(),
        short="AT", colour="#009E73", first_study=dict(epochs=3, lr=0.1),
    ),
    Row(
        "bn_clean", "BN-only clean, random features", "scratch", dict(epsilon=0),
        short="BN-only clean, random", colour="#E69F00", first_study=dict(epochs=6, lr=0.2),
    ),
    Row(
        "finetuned", "BN-only AT, trained features", "finetune", dict(),
        short="BN-only AT, trained", colour="#D55E00",
        first_study=dict(epochs=3, lr=0.2, pretrain_epochs=8),
    ),
    Row(
        "random", "BN-only AT, random features", "scratch", dict(),
        short="BN-only AT, random", colour="#CC79A7", first_study=dict(epochs=3, lr=3.2),
    ),
    Row(
        "linear", "AT, linear classifier on pixels", "pretrain", dict(arch="linear"),
        short="L", colour="#000000",
    ),
    Row(
        "linear_clean", "Clean, linear classifier on pixels", "pretrain",
        dict(arch="linear", epsilon=0, lr=0.01), short="linear, trained clean", colour="#7f7f7f",
    ),
    Row(
        "perceptron", "AT, perceptron on block means", "pretrain", dict(arch="perceptron"),
        short="P", colour="#56B4E9",
    ),
    Row(
        "two_stages", "BN-only AT after BN-only clean, random", "finetune", dict(pretrain_trainable="bn"),
        short="BN-only AT after BN-only clean training, random", colour="#8C564B",
    ),
    Row(
        "linear_long", "AT, linear classifier, 30 epochs", "pretrain",
        dict(arch="linear", epochs=30, lr=0.003), colour="#000000",
    ),
    Row(
        "perceptron_long", "AT, perceptron, 30 epochs", "pretrain",
        dict(arch="perceptron", epochs=30, lr=0.05), colour="#56B4E9",
    ),
)  # fmt: skip

CONTROLS = by_key(  # of C6b and of 06_features, alike
    Row(
        "finetuned_head", "BN + head AT, trained features", "finetune", dict(trainable="bn+head"),
        short="BN + head AT, trained", first_study=dict(epochs=1, lr=0.2, pretrain_epochs=8),
    ),
    Row(
        "random_head", "BN + head AT, random features", "scratch", dict(trainable="bn+head"),
        short="BN + head AT, random",
    ),
    Row(
        "finetuned_nodecay", "BN-only AT, trained, no weight decay", "finetune", dict(weight_decay=0),
        short="BN-only AT without weight decay, trained",
    ),
    Row(
        "random_nodecay", "BN-only AT, random, no weight decay", "scratch", dict(weight_decay=0),
        short="BN-only AT without weight decay, random", first_study=dict(epochs=1, lr=3.2),
    ),
    Row(
        "bn_stats", "BN statistics alone", "finetune", dict(trainable="bn_stats"),
        short="BN statistics alone", first_study=dict(epochs=1, lr=0.2, pretrain_epochs=8),
    ),
    Row(
        "head", "AT of the head alone", "finetune", dict(trainable="head"),
        short="head alone", first_study=dict(epochs=1, lr=0.2, pretrain_epochs=8),
    ),
    Row("head_stats", "AT of the head, BN statistics follow", "finetune", dict(trainable="head+stats")),
    Row(
        "conv_subset", "AT of as many convolution weights", "finetune", dict(trainable="conv_subset", lr=0.8),
        short="as many convolution weights", first_study=dict(epochs=1, lr=0.8, pretrain_epochs=8),
    ),
)  # fmt: skip

NORMALISED = by_key(  # of C7 and 07_norms: standard training under each normalisation, at its own best rate
    *(
        Row(
            f"norm_{key}", f"Standard training, {norm.name}", "pretrain",
            dict(epsilon=0, norm=key, lr=norm.lr), short=norm.name,
        )
        for key, norm in NORMS.items()
    )
)  # fmt: skip
BESIDE_C7 = by_key(  # of 07_norms: what else may explain the differences that C7 looks at
    Row(
        "norm_layer_lower", "Standard training, layer normalisation at 0.1", "pretrain",
        dict(epsilon=0, norm="layer", lr=0.1), short="layer, at 0.1",
    ),
    Row(
        "norm_zero", "Standard training, BN, residual branches from 0", "pretrain",
        dict(epsilon=0, lr=NORMS["batch"].lr, gamma_start="zero"), short="batch, branches from 0",
    ),
)  # fmt: skip
AFFINE = by_key(  # of 07_norms: AT of the affine parameters of each alone
    Row("affine_bn", "AT of BN's γ and β, statistics frozen", "finetune", dict(trainable="bn_affine")),
    *(
        Row(
            f"affine_{key}", f"AT of {norm.affine}, {norm.name}", "finetune",
            dict(norm=key, trainable="norm"),
        )
        for key, norm in NORMS.items()
        if norm.affine
    ),
)  # fmt: skip
GAMMA = by_key(  # of 07_norms: where γ starts and where weight decay pulls it
    Row("finetuned_one", "BN-only AT, trained, γ decays to 1", "finetune", dict(gamma_decay="one")),
    Row("random_one", "BN-only AT, random, γ decays to 1", "scratch", dict(gamma_decay="one")),
    Row("random_uniform", "BN-only AT, random, γ starts in [0, 1]", "scratch", dict(gamma_start="uniform")),
)
ARMS = ("finetuned", "random")  # BN-only AT of trained and of random features: what the study compares
OVER_RANDOM = ("random", "two_stages")  # rows whose adversarial training may not take off
EVERY = ROWS | CONTROLS | NORMALISED | BESIDE_C7 | AFFINE | GAMMA
# trained longer than the others of their kind
LONGER = {key for key, row in ROWS.items() if "epochs" in row.parameters}
# the first study: shorter, three seeds from 0 on (of the controls one, 0); its weights are gone
FIRST_STUDY = {key: row.first_study for key, row in EVERY.items() if row.first_study}


def label(key):
    """What a reader sees of a key: of a row its label, of another text the text itself.

    A pair is a row and what sets its networks apart from the row's others: a seed (int) or words.
    """
    if isinstance(key, tuple):
        row, variant = key
        words = f"seed {variant}" if isinstance(variant, int) else variant
        return f"{label(row)} ({words})"
    return EVERY[key].label if key in EVERY else key


def short(key):
    """What a reader sees of a row's key in a formula; of anything else what `label` says."""
    return (key in EVERY and EVERY[key].short) or label(key)


def colour(key):
    """The colour of a row, by its key or by a pair with it (see `label`); None for what has none."""
    row = key[0] if isinstance(key, tuple) else key
    return EVERY[row].colour if row in EVERY else None
