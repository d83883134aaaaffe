"""A run as a notebook shows it: which parameters it has, how its cell says them, what its figures are called.

Decided here: how papermill's values are read, and what a name that a notebook does not have comes to. Not
here: the values that are allowed (parameters.py), what a run is (experiment.py).
"""

import hashlib
import json
import re
import textwrap

from study.define.experiment import OF_THE_PARENT, digest_of, experiment
from study.define.parameters import Parameters, allowed

NOTEBOOKS = {"pretrain": "01_pretrain", "finetune": "02_bn_finetune", "scratch": "03_bn_scratch"}
READING = ("04_robustness", "05_trust", "06_features", "07_norms", "08_inside")  # read records, train nothing
LINE = 110  # characters of a line of a parameters cell
STARTS = {"pretrain": {"epsilon": 0}}  # where a notebook's default differs: 01 shows standard training


def names(step):
    """The parameters that the notebook of a step has; of the reading ones for any other word."""
    if step not in NOTEBOOKS:
        return ["profile", "data", "data_dir", "image_size", "arch", "arch_options"]
    of_the_parent = ("pretrain_trainable", *OF_THE_PARENT)
    left_out = {
        "pretrain": ("trainable", *of_the_parent),
        "scratch": (*of_the_parent, "pretrain_weights"),
        "finetune": ("gamma_start",),  # its parent's
    }
    return [name for name in Parameters.model_fields if name not in left_out[step]]


def cell(step):
    """A notebook's parameters cell: a line a parameter, its comment is what papermill's help shows.

    Of a comment that is too long for a line the end is left out.
    """
    lines = []
    for name in names(step):
        field, values = Parameters.model_fields[name], allowed(name)
        value = STARTS.get(step, {}).get(name, field.default)
        shown = json.dumps(value) if isinstance(value, str) else repr(value)
        code, comment = f"{name} = {shown}  # ", field.description + (f" ({values})" if values else "")
        lines.append(code + textwrap.shorten(comment, LINE - len(code), placeholder=" …"))
    return "\n".join(lines)


def parameters(cells, values):
    """A notebook's parameters from its `In` and `globals()`, as papermill or a reader set them, as a dict.

    ValueError for a name that papermill was given and that the notebook does not have: it would run with a
    default.
    """
    written = [c for c in cells if re.match(r"profile *=|# Parameters\n", c)]
    own, *injected = [re.findall(r"^(\w+) *=", c, re.MULTILINE) for c in written] or [[]]
    if not written:  # nbval keeps no history, and gives no parameters
        own = [name for name in Parameters.model_fields if name in values]
    for name in [name for names_ in injected for name in names_]:
        if name not in own:
            raise ValueError(f"a parameter of this notebook must be one of {', '.join(own)}; got {name!r}")
    return {name: values[name] for name in own}


def figure_name(exp):
    """The stem of a run's figures: with the run's hash, unless it is what the profile does at this ε.

    With that of what was asked to be measured, too, unless it is what the profile asks.
    """
    run = exp.run
    same = {} if exp.step == "pretrain" else dict(trainable=run["trainable"])
    usual = experiment(exp.step, profile=exp.profile, data=run["data"], epsilon=run["epsilon"], **same)
    part = "" if exp.step == "pretrain" else f"_{run['trainable']}"
    stem = f"{NOTEBOOKS[exp.step].split('_')[0]}_{exp.step}{part}_eps{run['epsilon']:g}"
    if exp.name != usual.name:
        stem += f"_{digest_of(exp.run)}"
    if exp.asked != usual.asked:
        stem += f"_{hashlib.sha256(repr(exp.asked).encode()).hexdigest()[:10]}"
    return stem
