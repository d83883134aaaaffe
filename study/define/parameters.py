"""What can be asked for: the profiles, the parameters of a run, their ranges, and what refuses them.

Decided here: which values are allowed, the defaults of a profile, every learning rate that is a default. Not
here: what belongs to a run's identity (experiment.py), how a notebook shows its parameters (notebook.py).
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import bnat_utils as bnat
from study.define.normalisations import NORMS

ROOT = Path(__file__).resolve().parents[2]

# epsilon in 1/255; seed: the first; (epochs, learning rate) of each step, clean or with an attack (_at). The
# rates of cpu with an attack are tuned on seeds 1 to 3, which count for nothing else (06_features)
PROFILES = {
    "quick": dict(
        data="digits", arch="resnet8", epsilon=32, seed=0, batch_size=64, pretrain=(12, 0.2),
        pretrain_at=(12, 0.2), finetune=(20, 0.2), finetune_at=(20, 0.2), scratch=(20, 0.2),
        scratch_at=(20, 0.2), eval_images=500, eval_restarts=2, margin_images=500, aa_images=100,
        curve_images=500, check_images=150, small_images=100,
    ),
    "cpu": dict(
        data="cifar10", arch="resnet20", epsilon=8, seed=10, batch_size=128, pretrain=(15, 0.1),
        pretrain_at=(5, 0.2), finetune=(15, 0.2), finetune_at=(5, 0.2), scratch=(15, 0.2),
        scratch_at=(5, 0.8), eval_images=10000, eval_restarts=1, margin_images=10000, aa_images=200,
        curve_images=500, check_images=200, small_images=200,
    ),
    "paper": dict(
        data="cifar10", arch="resnet18", epsilon=8, seed=0, batch_size=128, pretrain=(30, 0.2),
        pretrain_at=(30, 0.2), finetune=(30, 0.2), finetune_at=(30, 0.2), scratch=(30, 0.2),
        scratch_at=(30, 3.2), eval_images=10000, eval_restarts=1, margin_images=10000, aa_images=500,
        curve_images=1000, check_images=1000, small_images=1000,
    ),
}  # fmt: skip
YARDSTICK_RATES = {"linear": 0.0003, "perceptron": 0.2}  # whatever the profile; tuned on seed 1
BN_PARTS = ("bn", "bn+head", "bn_affine", "bn_stats")  # of a network with BN alone
PARTS = (*bnat.TRAINABLE, "conv_subset")  # conv_subset: as many weights of convolutions as BN has γ and β
PRETRAINED = {"all": "pretrain", "bn": "scratch"}  # pretrain_trainable: the step that made the network
Radius = Annotated[float, Field(strict=True, ge=0, le=255, allow_inf_nan=False)]
Above = Annotated[float, Field(strict=True, gt=0, le=255, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1, le=100000)]  # more is a slip of the pen
Passes = Annotated[int, Field(strict=True, ge=0, le=100000)]
Batch = Annotated[int, Field(strict=True, ge=2)]
Images = Annotated[int, Field(strict=True, ge=0)]
Rate = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Side = Annotated[int, Field(strict=True, ge=8, le=1024)]
ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[\w.]+$", description="package.module:function")]
Folder = Annotated[str, Field(pattern=r"^folder_[0-9a-f]{10}$")]  # its name once brought.py has seen it
Seed = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]


def choices(values):
    """The values of a table as pydantic wants them."""
    return Literal[tuple(values)]


class Parameters(BaseModel):
    """The parameters of the notebooks; None takes the profile's value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: choices(PROFILES) = Field(
        "cpu", description="defaults: digits in minutes, the study's, or one GPU"
    )
    data: choices((*bnat.DATASETS, "folder")) | Folder | None = Field(None, description="dataset")
    data_dir: str | Path | None = Field(
        None, description="folder of its files, else `$BNAT_DATA`, else ./data"
    )
    image_size: Side = Field(32, description="to which the images of a folder are resized")
    arch: choices(bnat.ARCHS) | ImportPath | None = Field(None, description="network")
    arch_options: dict | None = Field(None, description="arguments of an arch that is an import path")
    norm: choices(NORMS) | None = Field("batch", description="normalisation of a ResNet; weight: of weights")
    normalize: bool | None = Field(
        None,
        description="of images; None: yes, but not before `pretrain_weights` of an arch named here",
    )
    trainable: choices(PARTS) | None = Field("bn", description="what learns")
    epsilon: Radius | None = Field(
        None, description="radius of the training attack in 1/255; 0: clean training"
    )
    pretrain_epsilon: Radius | None = Field(
        0, description="ε of the network to start from; 0: standard training"
    )
    pretrain_trainable: Literal["all", "bn"] | None = Field(
        "all", description="what learnt in that network; bn: BN alone, over random features"
    )
    pretrain_epochs: Count | None = Field(None, description="epochs of that network's training")
    pretrain_images: Batch | None = Field(
        None, description="that network is trained on the first so many images"
    )
    pretrain_weights: str | Path | None = Field(
        None,
        description='state_dict to start from in place of a training here; "pyautoattack": its ResNet-18',
    )
    seed: Seed | None = Field(
        None, description="of initialisation, batches, random starts; None: the profile's first"
    )
    epochs: Passes | None = Field(None, description="passes over the training images")
    batch_size: Batch | None = Field(None, description="images an update")
    lr: Rate | None = Field(None, description="peak (cycle) or first (steps) learning rate of SGD")
    weight_decay: Share | None = Field(5e-4, description="L2 penalty of SGD")
    gamma_decay: Literal["zero", "one"] = Field("zero", description="where weight decay pulls γ")
    gamma_start: Literal["one", "uniform", "zero"] = Field(  # Frankle et al. 2021; Goyal et al. 2017
        "one", description="γ before training; uniform: 0 to 1; zero: 0 at branches' ends"
    )
    schedule: choices(bnat.SCHEDULES) | None = Field(
        "cycle",
        description="of lr: up over 40 % and back to 0, or x 0.1 at 40, 60 and 80 %",
    )
    attack_steps: Count | None = Field(7, description="steps of the training attack")
    attack_step_size: Above | None = Field(None, description="their size in 1/255; None: epsilon / 4")
    train_images: Batch | None = Field(
        None, description="train on the first so many; None: all but the held out"
    )
    eval_epsilon: Above | None = Field(
        None, description="of the evaluation in 1/255; None: epsilon, or the profile's"
    )
    eval_steps: Count | None = Field(20, description="steps of the evaluation's PGD")
    eval_restarts: Count | None = Field(None, description="random restarts of the evaluation's PGD")
    eval_images: Images | None = Field(None, description="images for clean and PGD accuracy; 0: none")
    margin_images: Images | None = Field(None, description="of these, images for multi-targeted PGD; 0: none")
    eval_split: Literal["test", "tuning"] | None = Field(
        "test", description="judged on the test images, or on the last tenth of the training images"
    )
    aa_images: Images | None = Field(
        None, description="random test images for AutoAttack, the same for all; 0: none"
    )
    check_images: Images | None = Field(
        None,
        description="test images for the checks; 0: none, and no look at what BN does inside",
    )
    small_images: Images | None = Field(
        None, description="random test images for R at small radii after standard training; 0: none"
    )


def allowed(name):
    """The values of a parameter, in words."""
    schema = Parameters.model_json_schema()["properties"][name]
    schema, *others = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
    if "enum" in schema:
        described = [s["description"] for s in others if "description" in s]
        return ", ".join([*described, *schema["enum"]])
    low, above, high = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if low is None and above is None:
        return ""
    start = f"above {above:g}" if low is None else f"{low:g}"
    if high is None:
        return start if low is None else f"from {start}"
    return f"{start} to {high:.10g}"


def table():
    """The parameters as a Markdown table, for the README."""
    lines = ["| parameter | what it is | values |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {field.description} | {allowed(name)} |"
        for name, field in Parameters.model_fields.items()
    ]
    return "\n".join(lines) + "\n"


def checked(values):
    """Parameters, or a ValueError of one sentence."""
    try:
        return Parameters(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name, message, value = first["loc"][0], first["msg"], first["input"]
        if first["type"] == "extra_forbidden":
            message = f"a parameter must be one of {', '.join(Parameters.model_fields)}; got {name!r}"
        elif [each["loc"][0] for each in error.errors()].count(name) > 1:  # neither of two kinds of values
            message = f"{name} must be one of {allowed(name)}; got {value!r}"
        else:
            message = f"{name} {message.replace('Input should', 'must', 1)}, got {value!r}"
        raise ValueError(message) from None
