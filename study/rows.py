"""The catalogue of rows: what is compared, as a label, a step and the parameters that are its own.

Decided here: which runs the report shows under which name. Not here: what a missing parameter becomes
(experiments.py), what follows from a row (claims.py).
"""

# the rows of the main table: label, step, parameters
ROWS = {
    "standard": ("Standard training", "pretrain", dict(epsilon=0)),
    "at": ("AT, all weights", "pretrain", dict()),
    "bn_clean": ("BN-only clean, random features", "scratch", dict(epsilon=0)),
    "finetuned": ("BN-only AT, trained features", "finetune", dict()),
    "random": ("BN-only AT, random features", "scratch", dict()),
    "linear": ("AT, linear classifier on pixels", "pretrain", dict(arch="linear")),
    "linear_clean": (
        "Clean, linear classifier on pixels",
        "pretrain",
        dict(arch="linear", epsilon=0, lr=0.01),
    ),
    "perceptron": ("AT, perceptron on block means", "pretrain", dict(arch="perceptron")),
    "two_stages": (
        "BN-only AT after BN-only clean, random",
        "finetune",
        dict(pretrain_trainable="bn"),
    ),
    "linear_long": ("AT, linear classifier, 30 epochs", "pretrain", dict(arch="linear", epochs=30)),
    "perceptron_long": ("AT, perceptron, 30 epochs", "pretrain", dict(arch="perceptron", epochs=30)),
}
# the controls of C6b and of 06_features, alike
CONTROLS = {
    "finetuned_head": ("BN + head AT, trained features", "finetune", dict(trainable="bn+head")),
    "random_head": ("BN + head AT, random features", "scratch", dict(trainable="bn+head")),
    "finetuned_nodecay": ("BN-only AT, trained, no weight decay", "finetune", dict(weight_decay=0)),
    "random_nodecay": ("BN-only AT, random, no weight decay", "scratch", dict(weight_decay=0)),
    "bn_stats": ("BN statistics alone", "finetune", dict(trainable="bn_stats")),
    "head": ("AT of the head alone", "finetune", dict(trainable="head")),
    "head_stats": ("AT of the head, BN statistics follow", "finetune", dict(trainable="head+stats")),
    "conv_subset": ("AT of as many convolution weights", "finetune", dict(trainable="conv_subset", lr=0.8)),
}
# of 07_norms: standard training under C7's normalisations, and AT of the affine parameters of each alone
NORMALISED = {
    f"norm_{norm}": (f"Standard training, {name}", "pretrain", dict(epsilon=0, norm=norm))
    for norm, name in dict(batch="BN", group="group normalisation", layer="layer normalisation",
                           instance="instance normalisation", none="no normalisation").items()
}  # fmt: skip
AFFINE = {
    "affine_bn": ("AT of BN's γ and β, statistics frozen", "finetune", dict(trainable="bn_affine")),
    "affine_group": ("AT of γ and β, group normalisation", "finetune", dict(norm="group", trainable="norm")),
    "affine_layer": ("AT of γ and β, layer normalisation", "finetune", dict(norm="layer", trainable="norm")),
    "affine_instance": ("AT of γ and β, instance normalisation", "finetune",
                        dict(norm="instance", trainable="norm")),
}  # fmt: skip
GAMMA = {
    "finetuned_one": ("BN-only AT, trained, γ decays to 1", "finetune", dict(gamma_decay="one")),
    "random_one": ("BN-only AT, random, γ decays to 1", "scratch", dict(gamma_decay="one")),
    "random_uniform": ("BN-only AT, random, γ starts in [0, 1]", "scratch", dict(gamma_start="uniform")),
}
EVERY = ROWS | CONTROLS | NORMALISED | AFFINE | GAMMA
LABELS = {key: label for key, (label, _, _) in EVERY.items()}
# what the first study did otherwise, three seeds from 0 on (of the controls one, 0); its weights are gone
FIRST_STUDY = {
    "standard": dict(epsilon=0, epochs=8),
    "at": dict(epochs=3, lr=0.1),
    "bn_clean": dict(epsilon=0, epochs=6, lr=0.2),
    "finetuned": dict(epochs=3, lr=0.2, pretrain_epochs=8),
    "random": dict(epochs=3, lr=3.2),
    "finetuned_head": dict(epochs=1, lr=0.2, pretrain_epochs=8),
    "random_nodecay": dict(epochs=1, lr=3.2),
    "bn_stats": dict(epochs=1, lr=0.2, pretrain_epochs=8),
    "head": dict(epochs=1, lr=0.2, pretrain_epochs=8),
    "conv_subset": dict(epochs=1, lr=0.8, pretrain_epochs=8),
}
