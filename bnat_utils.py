"""Adversarial training of batch normalisation (BN): everything that the bnat notebooks call.

Reproduces Walter, Stutz, Schiele, "On Fragile Features and Batch Normalization in Adversarial Training" (arXiv 2204.12393).
Images are uint8 in storage and float in [0, 1] for every network; the per-channel normalisation is the network's first
layer, so an L-inf radius is in pixel units: notebooks give `epsilon` in 1/255, functions take `eps` in [0, 1].
"""

import copy
import ctypes
import hashlib
import importlib.util
import inspect
import io
import itertools
import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections import OrderedDict, namedtuple
from contextlib import contextmanager, suppress
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from scipy.stats import binomtest, entropy
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.datasets import CIFAR10, CIFAR100, SVHN
from torchvision.datasets.utils import check_integrity
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
GENERATION = 1  # raise it when a change to this file changes, beyond rounding, the weights of a run;
EVALUATION = 2  # this one, when it changes what its evaluation says
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EVAL_BATCH = int(os.environ.get("BNAT_EVAL_BATCH", 500))  # images evaluated at a time; fewer where memory is short
torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True  # float32 is not TF32; same seed, same record
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(ROOT / "out" / "compiled"))  # code compiled once is there for the next run
if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # glibc hands big freed blocks back to the kernel,
    for option, value in ((-3, 2**25), (-1, 2**31 - 1), (-2, 2**28)):  # which clears them anew at every layer; here they are kept
        libc.mallopt(option, value)  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD: a fifth more steps a second on a CPU

plt.style.use(ROOT / "notebooks" / "bnat.mplstyle")

# ---------------------------------------------------------------------------------------- settings
TRAINABLE = {  # the modules whose parameters learn; conv_subset: two weights of each convolution's output channel, as many as γ and β
    "all": nn.Module, "bn": nn.BatchNorm2d, "bn+head": (nn.BatchNorm2d, nn.Linear), "head": nn.Linear, "bn_stats": (),
    "conv_subset": nn.Conv2d,
}
ARCHS = {  # stage widths, residual blocks a stage; resnet8 is for the 8x8 digits
    "resnet8": ((4, 8, 16), 1), "resnet20": ((16, 32, 64), 3), "resnet56": ((16, 32, 64), 9),
    "resnet18": ((64, 128, 256, 512), 2),
}
DATASETS = {  # images: training images in all; held_out: the last of them, for every choice; pad, flip: augmentation; chance: share of
    # the test images in their most frequent class, the accuracy, clean and robust, of a constant classifier
    "digits": dict(mean=(0.305,), std=(0.376,), images=1297, held_out=200, test=500, classes=10, chance=0.10, pad=1, flip=False),
    "cifar10": dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), images=50000, held_out=1000, test=10000,
                    classes=10, chance=0.10, pad=4, flip=True),
    "cifar100": dict(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762), images=50000, held_out=1000, test=10000,
                     classes=100, chance=0.01, pad=4, flip=True),
    "svhn": dict(mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970), images=73257, held_out=1000, test=26032,
                 classes=10, chance=0.196, pad=4, flip=False),
}
PROFILES = {  # epsilon in 1/255; epochs and learning rate of each step, clean or with an attack (_at)
    "quick": dict(data="digits", arch="resnet8", epsilon=32, batch_size=64, pretrain=(12, 0.2), pretrain_at=(12, 0.2),
                  finetune=(20, 0.2), finetune_at=(20, 0.2), scratch=(20, 0.2), scratch_at=(20, 0.2), eval_images=500, eval_restarts=2, aa_images=100, curve_images=500, check_images=100, control_epochs=20),
    "cpu": dict(data="cifar10", arch="resnet20", epsilon=8, batch_size=128, pretrain=(8, 0.1), pretrain_at=(3, 0.1),
                finetune=(6, 0.2), finetune_at=(3, 0.2), scratch=(6, 0.2), scratch_at=(3, 3.2), eval_images=10000, eval_restarts=1, aa_images=500, curve_images=500, check_images=200, control_epochs=1),
    "paper": dict(data="cifar10", arch="resnet18", epsilon=8, batch_size=128, pretrain=(30, 0.2), pretrain_at=(30, 0.2),
                  finetune=(30, 0.2), finetune_at=(30, 0.2), scratch=(30, 0.2), scratch_at=(30, 3.2), eval_images=10000, eval_restarts=10, aa_images=1000, curve_images=1000, check_images=500, control_epochs=30),
}
SCHEDULES = {  # learning rate, as a share of lr, over the share of updates done: linear between these points
    "cycle": ((0, 0.4, 1), (0, 1, 0)), "steps": ((0, .4, .4, .6, .6, .8, .8), (1, 1, .1, .1, .01, .01, .001)),
}


CONTROLS = {  # label: step and its parameters; epochs: times the profile's control_epochs; lr: times the profile's
    "BN": ("finetune", {}), "BN statistics": ("finetune", dict(trainable="bn_stats")), "head": ("finetune", dict(trainable="head")),
    "BN + head": ("finetune", dict(trainable="bn+head")),
    "as many random convolution weights": ("finetune", dict(trainable="conv_subset", lr=4)),
    "BN, random features": ("scratch", {}), "BN, random features, 3 x epochs": ("scratch", dict(epochs=3)),
    "BN, random features, no weight decay": ("scratch", dict(weight_decay=0)),
    "BN, clean, robust features": ("finetune", dict(pretrain_epsilon=None, epsilon=0)),
}
CONTROLS |= {f"{label}, lr x {factor:g}": (CONTROLS[label][0], CONTROLS[label][1] | dict(lr=factor)) for label, factors in {
    "BN": (0.25, 4, 16), "BN, random features": (0.0625, 0.25, 4), "head": (0.0625, 0.25, 4),
    "as many random convolution weights": (0.0625, 0.25, 1, 16, 64)}.items()
    for factor in factors}
CONTROLS |= {f"BN, features of {dose} epoch{'s' * (dose > 1)}": ("finetune", dict(pretrain_epochs=dose)) for dose in (1, 2, 5, 10)}


MANY = 10**5  # more epochs, steps or restarts than this are a slip of the pen


def _number(name, value, default, low, high=None, whole=True, above=False):
    """The number `value`, or `default` where it is None; ValueError unless it is finite and in range."""
    value = default if value is None else value
    if (not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < np.inf or value < low
            or (whole and value % 1) or (above and value == low) or (high is not None and value > high)):
        span = f"{'above' if above else 'from'} {low}{f' to {high}' if high is not None else '' if above else ' up'}"
        raise ValueError(f"{name} must be a {'whole ' * whole}number {span}, got {value!r}")
    return int(value) if whole else float(value)


def _choice(name, value, default, allowed):
    value = default if value is None else value
    if value not in tuple(allowed):
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    return value


def _weights_file(name):
    """The file of notebook parameter `pretrain_weights`; "pyautoattack": the standard ResNet-18 that ships in that package."""
    shipped = name == "pyautoattack" and importlib.util.find_spec(name).submodule_search_locations[0]
    path = Path(shipped, "examples", "model_test.pt") if shipped else Path(str(name))
    if not path.is_file():
        raise ValueError(f"pretrain_weights must be \"pyautoattack\" or a file with a network's state_dict, got {str(name)!r}")
    return path


def parameters(cells, values):
    """The parameters of a notebook from its `In` and its `globals()`: {name: value}, as papermill or the reader set them.

    ValueError for a name that papermill was given and that the notebook does not have: it would run with a default.
    """
    names = [re.findall(r"^(\w+) *=", cell, re.MULTILINE) for cell in cells if re.match(r"profile *=|# Parameters\n", cell)]
    if not names:  # nbval keeps no history, and gives no parameters
        names = [[name for name in inspect.signature(experiment).parameters if name in values]]
    if unknown := [name for cell in names[1:] for name in cell if name not in names[0]]:
        raise ValueError(f"a parameter of this notebook must be one of {', '.join(names[0])}; got {unknown[0]!r}")
    return {name: values[name] for name in names[0]}


def experiment(step, *, profile="quick", data=None, data_dir=None, arch=None, trainable=None, epsilon=None, pretrain_epsilon=0,
               pretrain_epochs=None, pretrain_weights=None, seed=0, epochs=None, batch_size=None, lr=None, weight_decay=None, schedule=None,
               attack_steps=None, attack_step_size=None, train_images=None, eval_epsilon=None, eval_steps=None,
               eval_restarts=None, eval_images=None, aa_images=None, check_images=None):
    """Check the parameters of one experiment and fill in the profile's defaults; does no work.

    step: "pretrain" or "scratch" (from random initialisation: all weights, a part) or "finetune" (from a pretrain run);
    the rest are notebook parameters, explained there; None takes the default. pretrain_weights: for "pretrain", weights to be
    taken as they are, in place of training; for "finetune", those of its parent. Returns a dict: `run`, all that decides
    the weights; `name`, ending in the hash of `run`; `parent`, the experiment whose weights it starts from, or None;
    `evaluations`, {file name: settings}; `out`, the folder to write. ValueError: what is allowed, and what it got.
    """
    defaults = PROFILES[_choice("profile", profile, "quick", PROFILES)]
    name = _choice("data", data, defaults["data"], DATASETS)
    data = DATASETS[name]
    epsilon = _number("epsilon (in 1/255)", epsilon, defaults["epsilon"], 0, 255, whole=False)
    eps = _number("eval_epsilon (in 1/255)", eval_epsilon, epsilon or defaults["epsilon"], 0, 255, whole=False, above=True)
    epochs_default, lr_default = defaults[step + "_at" * (epsilon > 0)]
    images = _number("train_images", train_images, data["images"] - data["held_out"], 2, data["images"] - data["held_out"])
    run = dict(
        generation=GENERATION, step=step, data=name, arch=_choice("arch", arch, defaults["arch"], ARCHS), parent=None,
        trainable=_choice("trainable", trainable, "all" if step == "pretrain" else "bn", TRAINABLE), epsilon=epsilon,
        seed=_number("seed", seed, 0, 0, 2**31 - 1), train_images=images,
        epochs=_number("epochs", epochs, epochs_default, 1, MANY), lr=_number("lr", lr, lr_default, 0, whole=False, above=True),
        batch_size=_number("batch_size", batch_size, defaults["batch_size"], 2, images),
        weight_decay=_number("weight_decay", weight_decay, 5e-4, 0, 1, whole=False),
        schedule=_choice("schedule", schedule, "cycle", ("cycle", "steps")),
        attack_steps=_number("attack_steps", attack_steps, 7, 1, MANY),
        attack_step_size=_number("attack_step_size (in 1/255)", attack_step_size, epsilon / 4 or 1, 0, 255, whole=False, above=True))
    if not epsilon:  # without an attack its settings decide nothing
        run.update(attack_steps=0, attack_step_size=0.0)
    if pretrain_weights is not None and step == "pretrain":
        run.update(epochs=0, pretrain_weights=hashlib.sha256(_weights_file(pretrain_weights).read_bytes()).hexdigest())
    steps, restarts = _number("eval_steps", eval_steps, 20, 1, MANY), _number("eval_restarts", eval_restarts, defaults["eval_restarts"], 1, MANY)
    n = _number("eval_images", eval_images, min(defaults["eval_images"], data["test"]), 0, data["test"])
    n_aa = _number("aa_images", aa_images, min(defaults["aa_images"], data["test"]), 0, data["test"])
    n_curve, parent = min(n, defaults["curve_images"]), None
    n_check = _number("check_images", check_images, min(n, defaults["check_images"]), 0, data["test"])
    n_features = n_curve * (n_check > 0)
    plan = {f"pgd_eps{eps:g}_steps{steps}x{restarts}_n{n}": dict(kind="pgd", epsilon=eps, steps=steps, restarts=restarts, images=n),
            f"curve_eps{eps:g}_steps{steps}_n{n_curve}": dict(
                kind="curve", epsilons=[eps * f for f in (0, .125, .25, .5, .75, 1, 1.5, 2, 4)], steps=steps, images=n_curve),
            f"autoattack_eps{eps:g}_n{n_aa}": dict(kind="autoattack", epsilon=eps, images=n_aa),
            f"checks_eps{eps:g}_n{n_check}": dict(kind="checks", epsilon=eps, images=n_check),
            f"features_eps{eps:g}_n{n_features}": dict(kind="features", epsilon=eps, images=n_features)}
    if step == "finetune":
        _number("pretrain_epsilon (in 1/255)", pretrain_epsilon, defaults["epsilon"], 0, 255, whole=False)
        _number("pretrain_epochs", pretrain_epochs, 1, 1, MANY)
        if pretrain_weights is not None and (pretrain_epochs is not None or pretrain_epsilon != 0):
            raise ValueError("pretrain_epochs and pretrain_epsilon must be left out with pretrain_weights, which nobody trains here; "
                             f"got {pretrain_epochs!r} and {pretrain_epsilon!r}")
        parent = experiment("pretrain", profile=profile, data=name, data_dir=data_dir, arch=arch, seed=seed, epochs=pretrain_epochs,
                            epsilon=pretrain_epsilon, eval_epsilon=eps, eval_steps=eval_steps, eval_images=eval_images,
                            eval_restarts=eval_restarts, aa_images=aa_images, check_images=check_images,
                            pretrain_weights=pretrain_weights)
        run["parent"] = parent["name"]
    digest = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:10]
    return dict(run=run, parent=parent, data_dir=data_dir, weights=pretrain_weights,
                out=ROOT / "out" / ((profile or "quick") + f"_{name}" * (name != defaults["data"])),
                evaluations={key: dict(settings, generation=EVALUATION) for key, settings in plan.items() if settings["images"]},
                held_out_epsilon=epsilon or defaults["epsilon"], name=f"{step}_{run['arch']}_{run['trainable']}_eps{epsilon:g}_seed{run['seed']}_{digest}")


def control(label, profile, seed=0):
    """The step and the notebook parameters of a control, a key of CONTROLS, at a profile."""
    (step, changes), defaults = CONTROLS[label], PROFILES[_choice("profile", profile, "quick", PROFILES)]
    settings = dict(check_images=0) | changes | dict(epochs=defaults["control_epochs"] * changes.get("epochs", 1))
    if seed:
        settings["seed"] = seed
    if "lr" in changes:
        settings["lr"] = defaults[f"{step}_at"][1] * changes["lr"]
    if "lr x" in label:  # chosen on held-out images: the test images are not looked at
        settings |= dict(eval_images=0, aa_images=0)
    return step, settings


# -------------------------------------------------------------------------------------------- data
def _torchvision(name, root, train, download):
    """A split of a dataset of torchvision's: uint8 [N, C, H, W], int64 [N]. Its files must lie in `root`, or be downloaded."""
    if name == "svhn":
        split = SVHN(root, "train" if train else "test", download=download)
        return torch.from_numpy(split.data), torch.from_numpy(split.labels)
    split = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name](root, train, download=download)
    return torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)


def load_data(name, data_dir=None, download=True):
    """The dataset as tensors on the device: {"train", "held_out", "test": (uint8 [N, C, H, W], int64 [N])}.

    "digits": scikit-learn's. "cifar10", "cifar100", "svhn": from `data_dir`, else $BNAT_DATA, else ./data; downloaded if missing
    and `download`, else ValueError.
    """
    if name == "digits":
        from sklearn.datasets import load_digits
        digits, n = load_digits(), DATASETS[name]["images"]
        both = torch.from_numpy(np.rint(digits.images * 255 / 16).astype(np.uint8))[:, None], torch.from_numpy(digits.target).long()
        train, test = [t[:n] for t in both], [t[n:] for t in both]
    else:
        root = Path(str(data_dir or "") or os.environ.get("BNAT_DATA") or ROOT / "data")
        if name == "svhn":
            files = {root / file: md5 for split in ("train", "test") for _, file, md5 in [SVHN.split_list[split]]}
        else:
            source = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
            files = {root / source.base_folder / file: md5 for file, md5 in (
                *source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]])}
        try:
            if download and not all(check_integrity(str(path), md5) for path, md5 in files.items()):
                root.mkdir(parents=True, exist_ok=True)
                with FileLock(root / f".{name}.lock"):  # of the jobs that start together one downloads
                    if not any(path.exists() for path in files):
                        for train in (True, False):
                            _torchvision(name, root, train, True)
            if broken := [str(path) for path, md5 in files.items() if path.exists() and not check_integrity(str(path), md5)]:
                raise ValueError(f"data_dir must hold the official files, got a truncated or altered {broken[0]}: delete it and run again")
            train, test = (_torchvision(name, root, train, False) for train in (True, False))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"data_dir (or BNAT_DATA) must be a folder that holds {next(iter(files)).relative_to(root).parts[0]}, got {str(root)!r}"
                             + f", and the download failed ({error or type(error).__name__})".split("\n")[0] * download) from None
    held = DATASETS[name]["held_out"]
    splits = dict(train=[t[:-held] for t in train], held_out=[t[-held:] for t in train], test=test)
    return {key: tuple(t.to(DEVICE) for t in pair) for key, pair in splits.items()}


def to_float(images):
    """uint8 images as float32 in [0, 1]; float images unchanged."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def augment(images, pad, flip):
    """Random crops of the images zero-padded by `pad`, and (if `flip`) random horizontal flips; uint8 [N, C, H, W]."""
    (n, c, h, w), device = images.shape, images.device
    top, left = torch.randint(2 * pad + 1, (2, n, 1), device=device)
    rows, cols = top + torch.arange(h, device=device), left + torch.arange(w, device=device)
    if flip:
        cols = torch.where(torch.rand(n, 1, device=device) < 0.5, cols.flip(1), cols)
    picture, channel = torch.arange(n, device=device)[:, None, None, None], torch.arange(c, device=device)[None, :, None, None]
    return F.pad(images, [pad] * 4)[picture, channel, rows[:, None, :, None], cols[:, None, None, :]]


# ---------------------------------------------------------------------------------------- networks
class Normalize(nn.Module):
    """Per-channel (x - mean) / std for x in [0, 1], then channels_last and the network's dtype."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.out_dtype = None  # set by fold_bn: the folded network runs in one dtype from here on

    def forward(self, x):
        x = (x - self.mean) / self.std
        return x.to(self.out_dtype or x.dtype, memory_format=torch.channels_last)


def resnet(arch, data="cifar10", normalize=True):
    """A ResNet for small images with the normalisation of `data` inside: float [N, C, H, W] in [0, 1] to logits [N, classes of `data`].

    normalize: False takes the images as they are.
    arch: a key of ARCHS. ResNet-20/56 as in He et al. 2016, section 4.2, but with projection shortcuts; ResNet-18 with
    the 3x3 stem that is usual on CIFAR. Blocks and initialisation are torchvision's.
    """
    (widths, blocks), inputs, channels = ARCHS[arch], ARCHS[arch][0][0], len(DATASETS[data]["mean"])
    mean, std = (DATASETS[data]["mean"], DATASETS[data]["std"]) if normalize else ((0.0,) * channels, (1.0,) * channels)
    layers = [("normalize", Normalize(mean, std)), ("conv1", conv3x3(channels, inputs)),
              ("bn1", nn.BatchNorm2d(inputs)), ("relu", nn.ReLU(inplace=True))]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            shortcut = nn.Sequential(conv1x1(inputs, width, stride), nn.BatchNorm2d(width)) if stride == 2 else None
            layers.append((f"layer{stage + 1}_{block}", BasicBlock(inputs, width, stride, shortcut)))
            inputs = width
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("fc", nn.Linear(inputs, DATASETS[data]["classes"]))]
    model = nn.Sequential(OrderedDict(layers))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model.to(DEVICE, memory_format=torch.channels_last)


def set_trainable(model, part):
    """Freeze all but a part of `model`, a key of TRAINABLE; return the parameters left to train ("bn_stats": none)."""
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(isinstance(module, TRAINABLE[_choice("trainable", part, None, TRAINABLE)]))
    return [p for p in model.parameters() if p.requires_grad]


def _learn_two_per_channel(weight, generator, decay):
    """Mask the gradient of a convolution's weight to two entries an output channel (Frankle et al. 2021, section 5).

    The weight decay is in the gradient: SGD's own would shrink what is frozen."""
    order = torch.rand(len(weight), weight[0].numel(), generator=generator).argsort(1)
    mask = (order < 2).view_as(weight).to(weight.device)
    weight.register_hook(lambda gradient: mask * (gradient + decay * weight.detach()))


def fold_bn(model, dtype=torch.float32, into=None):
    """An eval-mode copy of a `resnet` with each BN folded into the convolution before it and all weights frozen.

    Exact up to rounding, since BN is affine in eval mode. dtype: of the layers after the normalisation. into: what an
    earlier call returned for this network, to be brought up to date in place. Another model is returned as it is.
    """
    if not isinstance(getattr(model, "normalize", None), Normalize):
        return model
    pairs = [(f"{path}.{conv}".lstrip("."), f"{path}.{bn}".lstrip(".")) for path, module in model.named_modules()
             if isinstance(module, (nn.Sequential, BasicBlock))  # here the order of children is the order of use
             for (conv, a), (bn, b) in itertools.pairwise(module.named_children())
             if isinstance(a, nn.Conv2d) and isinstance(b, nn.BatchNorm2d)]
    if into is None:
        into = copy.deepcopy(model).eval()
        for conv, bn in pairs:
            into.get_submodule(conv).bias = nn.Parameter(torch.zeros_like(into.get_submodule(bn).bias))
            into.set_submodule(bn, nn.Identity())
        into = into.to(dtype=dtype, memory_format=torch.channels_last).requires_grad_(False)
        into.normalize = copy.deepcopy(model.normalize)  # in fp32: rounding mean and std would shift the image
        into.normalize.out_dtype = dtype
    with torch.no_grad():
        for conv, bn in pairs:
            source, bn, target = model.get_submodule(conv), model.get_submodule(bn), into.get_submodule(conv)
            weight, bias = fuse_conv_bn_weights(source.weight, None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
            target.weight.copy_(weight)
            target.bias.copy_(bias)
    into.fc.load_state_dict(model.fc.state_dict())
    return into


def fast_dtype():
    """bfloat16 where the device computes in it natively (CUDA from Ampere, AVX512-BF16, AMX), else float32."""
    has = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older torch: float32 then
    native = torch.cuda.get_device_capability() >= (8, 0) if DEVICE.type == "cuda" else has.get("avx512_bf16") or has.get("amx_bf16")
    return torch.bfloat16 if native else torch.float32


# --------------------------------------------------------------------------- attack and evaluation
@contextmanager
def _eval_mode(model):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _start(x, eps, random=True):
    return torch.clamp(x + torch.empty_like(x).uniform_(-eps, eps), x - eps, x + eps).clamp_(0, 1) if random else x.clone()


def _ascend(model, adv, x, y, eps, step_size, steps):
    """`steps` signed gradient steps on the cross-entropy from `adv`, which is overwritten, projected on [0, 1] and the ε-ball of x."""
    low, high = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
    for _ in range(steps):
        with torch.enable_grad():
            loss = F.cross_entropy(model(adv.requires_grad_()).to(adv.dtype), y, reduction="sum")
        gradient, = torch.autograd.grad(loss, adv)  # the input's gradient alone: no weight's .grad is touched
        adv = adv.detach().add_(gradient.sign(), alpha=step_size)
        torch.clamp(adv, low, high, out=adv)
    return adv


def pgd(model, x, y, *, eps, step_size, steps, restarts=1, random_start=True):
    """L-inf projected gradient descent on the cross-entropy (Madry et al. 2018), untargeted, model in eval mode.

    x: float [N, C, H, W] in [0, 1]; y: int64 [N]; eps, step_size: pixel units; random_start: uniform in the ε-ball.
    Each further restart attacks the images still classified correctly. Returns adversarial images, at least float32,
    within eps of x and in [0, 1]; the model's mode, parameters, buffers and gradients stay as they were. ValueError
    for a negative eps, step_size or steps, or restarts below 1.
    """
    if min(eps, step_size, steps) < 0 or restarts < 1:
        raise ValueError(f"pgd needs eps, step_size, steps >= 0 and restarts >= 1, got {eps}, {step_size}, {steps}, {restarts}")
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))

    with _eval_mode(model), torch.no_grad():
        best = _ascend(model, _start(x, eps, random_start), x, y, eps, step_size, steps)
        for _ in range(restarts - 1):
            alive = (model(best).argmax(1) == y).nonzero().squeeze(1)
            if len(alive):
                best[alive] = _ascend(model, _start(x[alive], eps, random_start), x[alive], y[alive], eps, step_size, steps)
    return best


@torch.no_grad()
def evaluate(model, x, y, *, eps, step_size=None, steps=20, restarts=1, batch_size=EVAL_BATCH, progress=None):
    """Clean and PGD accuracy on images x (uint8, or float in [0, 1]; [N, C, H, W]) with labels y.

    Attacked are the images classified correctly, each restart those not yet broken, with step eps / 4 unless given; an
    image broken after 5 steps leaves the batch then. Gradients are a `resnet`'s BN-folded copy's in `fast_dtype`, every
    decision is the model's own in float32 and eval mode. Returns dict(clean, robust: bool [N]; clean_predictions,
    adversarial_predictions: int64 [N], when the image left), on the CPU.
    """
    attacked = fold_bn(model, fast_dtype())
    clean, adversarial, bar = [], [], dict(desc=progress, disable=progress is None, delay=3, mininterval=2)
    with _eval_mode(model):
        for start in tqdm(range(0, len(y), batch_size), **bar):
            images, labels = to_float(x[start:start + batch_size]), y[start:start + batch_size]
            clean.append(model(images).argmax(1))
            adversarial.append(predictions := clean[-1].clone())
            for _ in range(restarts if eps else 0):
                adv = _start(images, eps)
                for block in (min(5, steps), steps - 5):
                    if block > 0 and len(alive := (predictions == labels).nonzero().squeeze(1)):
                        adv[alive] = _ascend(attacked, adv[alive], images[alive], labels[alive], eps, step_size or eps / 4, block)
                        predictions[alive] = model(adv[alive]).argmax(1)
    clean, adversarial, y = torch.cat(clean).cpu(), torch.cat(adversarial).cpu(), y.cpu()
    return dict(clean=clean == y, robust=adversarial == y, clean_predictions=clean, adversarial_predictions=adversarial)


AUTOATTACK = ("apgd-ce", "apgd-t", "fab-t", "square")  # the components of its version "standard", in the order they run


def autoattack(model, x, y, *, eps, components=AUTOATTACK, batch_size=EVAL_BATCH, seed=0, state=None):
    """Which images survive AutoAttack, version "standard" (Croce & Hein 2020), by its authors' package.

    A `resnet` is attacked with BN folded, in float32. Returns {component: bool [n]}, in the order they run: what survives it
    and those before, so the last is the result. components: fewer of them make an attack of its own, not
    AutoAttack. state: a file from which the same evaluation goes on where it was cut off.
    """
    from pyautoattack import AutoAttack
    target, survivors = fold_bn(model), {}
    attack = AutoAttack(target, eps=eps, norm="Linf", version="standard", device=y.device, seed=seed)
    attack.verbose = False
    # The package's own state file names an attack as done after the next one only, and then would go on with other batches,
    # to another result: so one component and batch a call, as the package batches them, and a state file of those.
    done = state and _read(state, _parse_json) or {}
    with _eval_mode(target), torch.no_grad(), tqdm(total=len(components), desc=", ".join(components), delay=3, mininterval=2) as bar:
        parts = torch.arange(len(y)).split(batch_size)
        alive = torch.cat([part[(target(to_float(x[part])).argmax(1) == y[part]).cpu()] for part in parts])
        for component in components:
            attack.attacks_to_run, parts = [component], [part for part in alive.split(batch_size) if len(part)]
            for number, part in enumerate(parts):
                if (key := f"{component} {number}") not in done:
                    images, labels = to_float(x[part]), y[part]
                    adv, _ = attack.run_standard_evaluation(images, labels, batch_size=batch_size)
                    done[key] = (target(adv).argmax(1) == labels).tolist()
                    if state:
                        _write_json(state, done)
                bar.update(1 / len(parts))
            flags = [flag for number, _ in enumerate(parts) for flag in done[f"{component} {number}"]]
            alive = alive[torch.tensor(flags, dtype=torch.bool)]
            survivors[component] = torch.zeros(len(y), dtype=torch.bool).index_fill_(0, alive, True)
    return survivors


def adversarial(model, x, y, *, eps, step_size=None, steps=20, random_start=True):
    """`pgd` images of a whole set on a `resnet`'s BN-folded copy in `fast_dtype`, none left out early; step eps / 4 unless given."""
    attacked, settings = fold_bn(model, fast_dtype()), dict(eps=eps, step_size=step_size or eps / 4, steps=steps, random_start=random_start)
    parts = zip(to_float(x).split(EVAL_BATCH), y.split(EVAL_BATCH), strict=True)
    return torch.cat([pgd(attacked, *part, **settings) for part in parts])


CHECK_STEPS, CHECK_RESTARTS = (1, 2, 5, 10, 20, 50, 100, 200), 10


def input_gradient(model, x, y):
    """The gradient of the cross-entropy with respect to each image; x: float [N, C, H, W]; model in eval mode, BN folded."""
    folded = fold_bn(model)
    with _eval_mode(folded), torch.enable_grad():
        return torch.cat([torch.autograd.grad(F.cross_entropy(folded(part.requires_grad_()), labels, reduction="sum"), part)[0]
                          for part, labels in zip(x.detach().split(EVAL_BATCH), y.split(EVAL_BATCH), strict=True)])


@torch.no_grad()
def loss_landscape(model, x, y, *, eps, points=17):
    """Cross-entropy around images: mean over them at x + a sign(gradient) + b (random signs), a and b from -eps to eps.

    Returns (float [points, points], a by row; bool [n]: does the loss of this image rise more at a = eps than at b = eps).
    """
    x, folded = to_float(x), fold_bn(model)
    directions = input_gradient(model, x.clone(), y).sign(), torch.randint_like(x, 2).mul(2).sub(1)
    with _eval_mode(folded):
        def loss(a, b):
            moved = (x + a * directions[0] + b * directions[1]).clamp(0, 1)
            return torch.cat([F.cross_entropy(folded(part), labels, reduction="none")
                              for part, labels in zip(moved.split(EVAL_BATCH), y.split(EVAL_BATCH), strict=True)])
        axis = torch.linspace(-eps, eps, points).tolist()
        surface = torch.stack([torch.stack([loss(a, b).mean() for b in axis]) for a in axis])
        return surface.cpu(), (loss(eps, 0) > loss(0, eps)).cpu()


def check_attacks(model, x, y, *, eps, state=None):
    """What the checks against gradient masking look at (Athalye et al. 2018; Carlini et al. 2019), on images x with labels y.

    Returns bool [n], which images stay correct, each image attacked to the end: "fgsm", one step of eps from the image; PGD of
    "steps 1" to "steps 200", eps / 4 each, from one random start; "unbounded", 100 steps of 8/255 from the image. Further PGD-20
    with "restarts 1" to "restarts 10"; the gradient-free "square" alone; "steepest": bool [n] and "landscape" of `loss_landscape`.
    state: a file from which Square goes on where it was cut off.
    """
    def survive(**attack):
        torch.manual_seed(0)  # one random start for all, so that only the steps differ
        return evaluate(model, adversarial(model, x, y, **attack), y, eps=0)["clean"]

    result = {f"steps {steps}": survive(eps=eps, steps=steps) for steps in CHECK_STEPS}
    result["fgsm"] = survive(eps=eps, step_size=eps, steps=1, random_start=False)
    result["unbounded"] = survive(eps=1, step_size=8 / 255, steps=100, random_start=False)
    alive = torch.ones(len(y), dtype=torch.bool)
    for restarts in range(1, CHECK_RESTARTS + 1):
        if alive.any():
            alive = torch.zeros_like(alive).masked_scatter(alive, evaluate(model, x[alive], y[alive], eps=eps)["robust"])
        result[f"restarts {restarts}"] = alive
    result["landscape"], result["steepest"] = loss_landscape(model, x, y, eps=eps)
    return result | autoattack(model, x, y, eps=eps, components=("square",), state=state)


@torch.no_grad()
def bn_features(model, x, y, *, eps):
    """Each BN channel as a feature in the sense of Ilyas et al. 2019: the spatial mean f of what enters the layer, before its γ and β.

    Under PGD-20 of eps on the model. Returns float [channels], layers in the order of the record's "bn": "fragility", mean |f(adv) - f(x)|
    over f's standard deviation; "useful_clean", "useful_adversarial", the largest |correlation| of f with one class; "shift", the mean's
    move between clean and adversarial inputs over the standard deviation; "variance_ratio", adversarial over clean. And int8
    [4, C, H, W], for pictures: "gradient", the input's, 127 its image's largest; "perturbation", 127 is eps.
    """
    x, layers = to_float(x), [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    adv = adversarial(model, x, y, eps=eps)

    def moments(images):
        seen = [[] for _ in layers]
        hooks = [layer.register_forward_pre_hook(lambda _, inputs, out=out: out.append(
            torch.stack([inputs[0].mean((2, 3)), inputs[0].square().mean((2, 3))]))) for layer, out in zip(layers, seen, strict=True)]
        with _eval_mode(model):
            for part in images.split(EVAL_BATCH):
                model(part)
        for hook in hooks:
            hook.remove()
        means, squares = torch.cat([torch.cat(out, 1) for out in seen], 2).double()
        return means, means.mean(0), squares.mean(0) - means.mean(0).square()  # [n, channels]; its mean; variance over all positions

    def usefulness(f):
        f, classes = ((t - t.mean(0)) / t.std(0).clamp_min(1e-12) for t in (f, F.one_hot(y).to(f)))
        return (f.T @ classes / (len(y) - 1)).abs().amax(1)

    (clean, mean, variance), (moved, mean_adv, variance_adv) = moments(x), moments(adv)
    gradient = input_gradient(model, x[:4].clone(), y[:4])
    numbers = dict(fragility=(moved - clean).abs().mean(0) / clean.std(0).clamp_min(1e-12), useful_clean=usefulness(clean),
                   useful_adversarial=usefulness(moved), shift=(mean_adv - mean).abs() / variance.clamp_min(1e-12).sqrt(),
                   variance_ratio=variance_adv / variance.clamp_min(1e-12))
    shown = dict(gradient=gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30), perturbation=(adv - x)[:4] / eps)
    return {key: value.float().cpu() for key, value in numbers.items()} | {
        key: (127 * value).round().to(torch.int8).cpu() for key, value in shown.items()}


# ---------------------------------------------------------------------------------------- training
def _load_weights(model, name):
    """Load weights from elsewhere, a state_dict with the model's tensors in the model's order, whatever their names."""
    try:
        foreign, own = torch.load(_weights_file(name), map_location="cpu", weights_only=True), model.state_dict()
        fits = [t.shape for t in foreign.values()] == [t.shape for t in own.values()]
    except Exception:  # whatever a file that is no checkpoint, or has code in it, makes torch raise
        fits = False
    if not fits:
        raise ValueError(f"pretrain_weights must be a state_dict with the tensors of the network `arch`, got {str(name)!r}")
    model.load_state_dict(dict(zip(own, foreign.values(), strict=True)))


def train_step(model, optimizer, x, y, run, attacked=None):
    """One update on a batch, on PGD examples where run["epsilon"] is not 0; returns (loss, number correct), unsynchronised.

    The attack sees the network in eval mode with BN folded; running statistics see the images of the update only.
    x: float [N, C, H, W] in [0, 1]; y: int64 [N]; optimizer: None changes nothing but those statistics; attacked: an earlier
    `fold_bn` of the model, to be used again.
    """
    dtype = fast_dtype()
    if run["epsilon"]:
        step_size, attacked = run["attack_step_size"] / 255, fold_bn(model, dtype, attacked)
        x = pgd(attacked, x, y, eps=run["epsilon"] / 255, step_size=step_size, steps=run["attack_steps"])
    model.train(run["trainable"] != "head")  # the head alone: BN stays as it is, statistics included
    with torch.set_grad_enabled(optimizer is not None):
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = model(x).float()
        loss = F.cross_entropy(logits, y)
    if optimizer is not None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.detach(), (logits.argmax(1) == y).sum()


def _machine(seconds, images):
    """What a run ran on, and its speed: seconds, of each epoch; images, in each."""
    return dict(device=torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)",
                torch=str(torch.__version__), precision=str(fast_dtype()), seconds=seconds, peak_memory_bytes=torch.cuda.max_memory_allocated(),
                images_per_second=images * len(seconds) / sum(seconds) if seconds else 0.0)


def _network(exp, saved, data=None):
    """The network of a checkpoint (`saved`), or else the one that an experiment starts from; `data`: to train a missing parent."""
    torch.manual_seed(exp["run"]["seed"])
    model = resnet(exp["run"]["arch"], exp["run"]["data"], normalize="pretrain_weights" not in (exp["parent"] or exp)["run"])
    if saved:
        model.load_state_dict(saved["model"])
    elif exp["parent"]:
        with _lock(exp["parent"]):
            model.load_state_dict(train(exp["parent"], data)[0].state_dict())
    elif exp["weights"]:
        _load_weights(model, exp["weights"])
    return model


def _optimizer(model, run):
    """SGD over the part of the model that a run trains, or None where no parameter learns."""
    parameters, decay = set_trainable(model, run["trainable"]), run["weight_decay"]
    if run["trainable"] == "conv_subset":
        generator = torch.Generator().manual_seed(run["seed"])
        for weight in parameters:
            _learn_two_per_channel(weight, generator, decay)
        decay = 0
    return torch.optim.SGD(parameters, run["lr"], momentum=0.9, nesterov=True, weight_decay=decay) if parameters else None


@contextmanager
def _fits(setting, images):
    """What is tried here with `images` at a time has enough memory on the GPU; else MemoryError, with the setting to lower."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise MemoryError(f"{torch.cuda.get_device_name() if DEVICE.type == 'cuda' else DEVICE} has too little memory for {images} images at a time "
                          f"({setting}={images}): set {setting} to {max(images // 2, 1)} and run again") from None


def train(exp, data):
    """Train the network of an `experiment` on what `load_data` returned, or take up its checkpoint.

    A checkpoint follows every epoch, which draws from a seed of its own: a run cut off anywhere ends with the numbers of an
    uncut one. Returns (model in eval mode, run record, machine record). FloatingPointError if the loss is not finite.
    """
    run, info, path = exp["run"], DATASETS[exp["run"]["data"]], exp["out"] / "checkpoints" / f"{exp['name']}.pt"
    saved = _read(path, _parse_checkpoint)
    model = _network(exp, saved, data)
    optimizer = _optimizer(model, run)
    if saved and optimizer:
        optimizer.load_state_dict(saved["optimizer"])
    saved = saved or dict(initial_weights=_digest(model), history=[], seconds=[], machine=_machine([], 0))
    history, seconds = saved["history"], saved["seconds"]
    images, labels = (t[:run["train_images"]] for t in data["train"])
    steps = len(labels) // run["batch_size"]  # a last, smaller batch is left out: static shapes
    attacked = fold_bn(model, fast_dtype()) if run["epsilon"] else None
    if shutil.which("g++") and steps * run["epochs"] * run["attack_steps"] > 8000:  # three epochs of CIFAR-10 repay the compiling
        attacked.compile(dynamic=False, mode="reduce-overhead" if DEVICE.type == "cuda" else None)
    bar = tqdm(total=steps * run["epochs"], initial=steps * len(history), desc=exp["name"], delay=3, mininterval=5,
               disable=len(history) == run["epochs"])
    for epoch in range(len(history), run["epochs"]):
        started = warm = time.perf_counter()
        torch.manual_seed(run["seed"] + 1_000_003 * (epoch + 1))
        order = torch.randperm(len(labels), device=DEVICE)
        losses, correct = torch.zeros(steps, device=DEVICE), torch.zeros((), device=DEVICE, dtype=torch.int64)
        points, shares = SCHEDULES[run["schedule"]]
        rates = np.interp((epoch + np.arange(1, steps + 1) / steps) / run["epochs"], points, np.multiply(shares, run["lr"])).tolist()
        for step in range(steps):
            batch = order[step * run["batch_size"]:(step + 1) * run["batch_size"]]
            x = to_float(augment(images[batch], info["pad"], info["flip"]))
            if optimizer:
                optimizer.param_groups[0]["lr"] = rates[step]
            with _fits("batch_size", run["batch_size"]):
                losses[step], hits = train_step(model, optimizer, x, labels[batch], run, attacked)
            correct += hits
            bar.update()
            if (updates := bar.n - bar.initial) in (1, 4):  # the first ones, after a warm-up, tell how long it will take
                losses[step].item()
                warm, minutes = time.perf_counter(), (time.perf_counter() - warm) / 3 * (bar.total - bar.n) / 60
                if updates == 4 and minutes > 10:
                    print(f"{exp['name']}: about {minutes:.0f} min of training on this {DEVICE.type.upper()}, and its evaluation. Faster: a "
                          "GPU, -p profile quick, fewer epochs (-p epochs 1, or pretrain_epochs).", flush=True)
        if not losses.isfinite().all():
            step = int((~losses.isfinite()).nonzero()[0])
            raise FloatingPointError(f"the loss is {losses[step].item()} at epoch {epoch + 1}, step {step + 1} of {steps}, "
                                     f"learning rate {rates[step]:.4g}: choose an lr below {run['lr']:g}")
        with _fits("BNAT_EVAL_BATCH", EVAL_BATCH):
            held_out = evaluate(model, *data["held_out"], eps=exp["held_out_epsilon"] / 255, steps=10)
        history.append(dict(
            epoch=epoch + 1, train_loss=losses.mean().item(), train_accuracy=correct.item() / (steps * run["batch_size"]),
            **{f"held_out_{key}": held_out[key].float().mean().item() for key in ("clean", "robust")}))
        seconds.append(time.perf_counter() - started)
        saved.update(model=model.state_dict(), optimizer=optimizer.state_dict() if optimizer else {},
                     machine=_machine(seconds, steps * run["batch_size"]))
        buffer = io.BytesIO()  # torch.save on a full disk would say something else
        torch.save(saved, buffer)
        _atomically(path, buffer.getbuffer())
    bar.close()
    bn = {name: dict(gamma=m.weight.tolist(), beta=m.bias.tolist())
          for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    return model.eval(), dict(name=exp["name"], run=run, weights=_digest(model), bn=bn, history=history,
                              initial_weights=saved["initial_weights"]), saved["machine"]


# ----------------------------------------------------------------------------------------- records
def _digest(model):
    """SHA-256 over the tensors of a model's state_dict, in order."""
    return hashlib.sha256(b"".join(t.cpu().contiguous().numpy().tobytes() for t in model.state_dict().values())).hexdigest()


def _lock(exp, name=None):
    """Held while a run (or what else bears `name`) is trained, evaluated or written; it falls with its process. Use in `with`."""
    path = exp["out"] / "locks" / f"{name or exp['name']}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=True)  # one object a process: it may take its lock twice
    with suppress(Timeout):
        return lock.acquire(timeout=1)
    print(f"{path.stem}: another process is at it; waiting", flush=True)
    return lock.acquire()


def _atomically(path, content):
    """Write bytes, so that `path` is either what it was or whole, whenever the process dies. For one writer at a time."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OSError(f"{path} could not be written ({error.strerror}); what was finished before is whole, and the next run goes on from there") from None


def _read(path, parse):
    """parse(path), or None where there is no file; one that cannot be used is set aside under another name, and said so."""
    try:
        seen = path.stat()
        return parse(path)
    except FileNotFoundError:
        return None
    except (OSError, MemoryError):  # says nothing of the file
        raise
    except Exception as error:  # whatever a broken file makes torch or json raise
        with suppress(OSError):
            if path.stat().st_mtime_ns == seen.st_mtime_ns:  # not one that another process has made anew
                os.replace(path, f"{path}.aside")
        print(f"{os.path.relpath(path, ROOT)} cannot be used ({(str(error) or repr(error)).split(chr(10))[0]}); set aside as {path.name}.aside, "
              "to be made again", file=sys.stderr)


def _parse_checkpoint(path):
    if broken := zipfile.ZipFile(path).testzip():  # torch.load itself ignores the checksums
        raise ValueError(f"{broken} does not match its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def _parse_json(path):
    content = json.loads(path.read_bytes())
    if content.pop("sha256") != hashlib.sha256(json.dumps(content).encode()).hexdigest():
        raise ValueError("its content does not match its checksum")
    return content


def _parse_record(path):
    """A file of a record: of the run that its folder names, as the code makes it now."""
    content = _parse_json(path)
    for key, now in (("run", GENERATION), ("settings", EVALUATION)):
        if key in content and content[key]["generation"] != now:
            raise ValueError(f"code of generation {content[key]['generation']} made it, this is {now}")
    if content.get("name", path.parent.name) != path.parent.name:
        raise ValueError(f"it is of the run {content['name']}")
    return content


def _write_json(path, content):
    content = dict(content, sha256=hashlib.sha256(json.dumps(content).encode()).hexdigest())
    _atomically(path, json.dumps(content).encode())


def _encode(value):
    """A measured tensor for JSON: bool as a bit an entry in hex; labels as a count of each; int8 in hex; float to four digits."""
    array = value.numpy()
    if array.dtype == np.int64:
        return np.bincount(array, minlength=10).tolist()
    if array.dtype == np.float32:
        return np.char.mod("%.4g", array).astype(float).tolist()
    return np.packbits(array).tobytes().hex() if array.dtype == bool else dict(shape=array.shape, int8=array.tobytes().hex())


def _decode(evaluation):
    """An evaluation's file as arrays: outcomes as bool [n] (curve: [ε, n]), the rest as `_encode` says."""
    shape = (*(len(v) for k, v in evaluation["settings"].items() if k == "epsilons"), evaluation["settings"]["images"])
    for key, value in evaluation.items():
        if isinstance(value, dict) and "int8" in value:
            evaluation[key] = np.frombuffer(bytes.fromhex(value["int8"]), np.int8).reshape(value["shape"])
        elif isinstance(value, str) and key != "weights":
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(value), np.uint8), count=np.prod(shape))
            evaluation[key] = bits.astype(bool).reshape(shape)
        elif isinstance(value, list):
            evaluation[key] = np.array(value)
    return evaluation


def read_record(*folders, wanted=()):
    """The finished run in the first of `folders` that holds one, or None, with the evaluations of its weights in all of them.

    Under each kind ("pgd", "autoattack", ...) is the one of that kind named in `wanted`, else that on most images, or None.
    """
    runs = [(run, folder) for folder in folders if (run := _read(folder / "run.json", _parse_record))]
    if runs:
        files = {path: _read(path, _parse_record) for folder in reversed(folders) for path in sorted(folder.glob("*.json"))}
        record = runs[0][0] | dict.fromkeys(("pgd", "autoattack", "curve", "checks", "features"))
        record["evaluations"] = {path.stem: _decode(e) for path, e in files.items()
                                 if e and "settings" in e and e["weights"] == record["weights"]}
        record["machine"] = files.get(runs[0][1] / "machine.json")
        for _, e in sorted(record["evaluations"].items(), key=lambda item: (item[0] in wanted, item[1]["settings"]["images"])):
            record[e["settings"]["kind"]] = e
        return record


def load_record(exp):
    """The record of an `experiment` with all its evaluations, from records/ and out/<profile>/records/, or None."""
    folders = [root / "records" / exp["name"] for root in (ROOT, exp["out"])]
    for order in (folders, folders[::-1]):  # committed weights win, unless only others have been evaluated so
        if (record := read_record(*order, wanted=exp["evaluations"])) and exp["evaluations"].keys() <= record["evaluations"].keys():
            return record


def all_records(exp):
    """{name: record} of every record with the data and architecture of `exp`, committed or made here."""
    names = sorted({path.name for root in (ROOT, exp["out"]) for path in (root / "records").glob("*")})
    found = {name: read_record(ROOT / "records" / name, exp["out"] / "records" / name, wanted=exp["evaluations"]) for name in names}
    return {name: record for name, record in found.items()
            if record and all(record["run"][key] == exp["run"][key] for key in ("data", "arch", "generation"))}


def _measure(model, data, settings, seed, state):
    """One evaluation of `experiment`: its settings to a dict of tensors."""
    torch.manual_seed(seed)
    (x, y), kind, eps = (t[:settings["images"]] for t in data["test"]), settings["kind"], settings.get("epsilon", 0) / 255
    if kind == "autoattack":
        result = autoattack(model, x, y, eps=eps, state=state)
        return result | dict(robust=list(result.values())[-1])
    if kind == "curve":
        epsilons = tqdm(settings["epsilons"], desc="accuracy against ε", delay=3)
        return dict(robust=torch.stack([evaluate(model, x, y, eps=e / 255, steps=settings["steps"])["robust"] for e in epsilons]))
    if kind == "checks":
        return check_attacks(model, x, y, eps=eps, state=state)
    if kind == "features":
        return bn_features(model, x, y, eps=eps)
    return evaluate(model, x, y, eps=eps, steps=settings["steps"], restarts=settings["restarts"], progress=f"PGD-{settings['steps']}")


def run_experiment(exp):
    """The record of an `experiment`, as `read_record` gives it: loaded, or trained (a parent first), evaluated and written."""
    if exp["parent"]:
        run_experiment(exp["parent"])
    if record := load_record(exp):
        return record
    data, folders = load_data(exp["run"]["data"], exp["data_dir"]), [exp["out"] / "records" / exp["name"], ROOT / "records" / exp["name"]]
    with _lock(exp):
        if record := load_record(exp):  # by now: the process that held the lock has made it
            return record
        model, record, machine = train(exp, data)
        if (read_record(folders[0]) or {}).get("weights") != record["weights"]:  # evaluations of other weights are no longer read
            _write_json(folders[0] / "machine.json", machine)
            _write_json(folders[0] / "run.json", record)
        done = read_record(*folders)["evaluations"]
        for name, settings in exp["evaluations"].items():
            if name not in done:
                state = exp["out"] / "checkpoints" / f"{exp['name']}.{name}.{record['weights'][:10]}.{EVALUATION}.{EVAL_BATCH}.json"
                with _fits("BNAT_EVAL_BATCH", EVAL_BATCH):
                    result = _measure(model, data, settings, exp["run"]["seed"], state)
                _write_json(folders[0] / f"{name}.json", {key: _encode(value) for key, value in result.items()} | dict(
                    settings=settings, weights=record["weights"]))
                state.unlink(missing_ok=True)
        return read_record(*folders, wanted=exp["evaluations"])


def transfer(targets, source, images):
    """Which of the first test images the networks of `targets` still classify correctly when PGD-20 attacks `source`.

    Experiments: {label: target}, source; the radius is the profile's. Returns {label: bool [n]} of those that the targets' records
    hold, or that can be measured, and are then written there, because the data and both checkpoints are here. Trains nothing.
    """
    def find(exp):
        return read_record(ROOT / "records" / exp["name"], exp["out"] / "records" / exp["name"]) or dict(weights=None, evaluations={})

    def network(exp):
        """The network of the record, from its checkpoint."""
        saved = _read(exp["out"] / "checkpoints" / f"{exp['name']}.pt", _parse_checkpoint)
        if saved and len(saved["history"]) == exp["run"]["epochs"]:
            model = _network(exp, saved).eval()
            return model if _digest(model) == find(exp)["weights"] else None

    eps, records, data = source["held_out_epsilon"] / 255, {label: find(exp) for label, exp in targets.items()}, None
    name = f"transfer_eps{255 * eps:g}_n{images}_{str(find(source)['weights'])[:10]}"
    found = {label: r["evaluations"][name]["robust"] for label, r in records.items() if name in r["evaluations"]}
    try:
        data = len(found) < len(targets) and load_data(source["run"]["data"], source["data_dir"], download=False)
    except ValueError:  # no data here
        pass
    if data and (attacked := network(source)):
        torch.manual_seed(source["run"]["seed"])
        x, y = (t[:images] for t in data["test"])
        adv = adversarial(attacked, x, y, eps=eps)
        for label in targets.keys() - found.keys():
            if model := network(targets[label]):
                robust = evaluate(model, adv, y, eps=0)["clean"]
                settings = dict(kind="transfer", epsilon=255 * eps, images=images, source=source["name"], generation=EVALUATION)
                with _lock(targets[label]):
                    _write_json(source["out"] / "records" / targets[label]["name"] / f"{name}.json",
                                dict(robust=_encode(robust), settings=settings, weights=records[label]["weights"]))
                found[label] = robust.numpy()
    return found


# ------------------------------------------------------------------------------ tables and figures
NON_TRIVIAL = 1.5  # times a constant classifier's accuracy: what a 95 % interval must clear to count; 15 % for ten balanced classes
Proportion = namedtuple("Proportion", "rate low high n")
MAIN_ROWS = {  # label: step, does it train with an attack, colour (Okabe & Ito: safe for the colour-blind)
    "Standard training": ("pretrain", False, "#0072B2"), "AT, all weights": ("pretrain", True, "#009E73"),
    "BN-only, clean, from scratch": ("scratch", False, "#E69F00"), "BN-only AT, fine-tuned": ("finetune", True, "#D55E00"),
    "BN-only AT, from scratch": ("scratch", True, "#CC79A7"),
}


def proportion(evaluation, key="robust"):
    """A recorded evaluation's (or bool [n]'s) share of true with its 95 % Wilson interval: (rate, low, high, n); None for None."""
    if evaluation is not None:
        flags = np.asarray(evaluation[key] if isinstance(evaluation, dict) else evaluation)
        interval = binomtest(int(flags.sum()), flags.size).proportion_ci(0.95, method="wilson")
        return Proportion(float(flags.mean()), float(interval.low), float(interval.high), flags.size)


def percent(p):
    """A `proportion` as text, in percent: rate [95 % interval] (n)."""
    return f"{100 * p.rate:.1f} [{100 * p.low:.1f}, {100 * p.high:.1f}] ({p.n:,})" if p else "not yet run"


def results_table(records):
    """One row a record of {label: record or None}: rates in percent, [95 % Wilson interval] and (n); the verdict on robustness."""
    table = {}
    for label, record in records.items():
        run, pgd_, aa = (record[key] if record else None for key in ("run", "pgd", "autoattack"))
        table[label] = {f"{name} % (n)": percent(proportion(*key)) for name, key in dict(
            clean=(pgd_, "clean"), PGD=(pgd_,), AutoAttack=(aa,)).items()}
        if run:
            table[label] |= {"trained": run["trainable"], "train ε": f"{run['epsilon']:g}/255", "epochs": str(run["epochs"]),
                             "lr": f"{run['lr']:g}", "seed": str(run["seed"])}
        if robust := proportion(aa or pgd_):  # PGD bounds robust accuracy from above: alone it can deny it, not confirm it
            bar = NON_TRIVIAL * DATASETS[run["data"]]["chance"]
            table[label]["robustness"] = "none" if robust.high < bar else "non-trivial" if aa and robust.low > bar else "undecided"
        if pgd_:
            counts = pgd_["adversarial_predictions"]
            table[label] |= {"test ε": f"{pgd_['settings']['epsilon']:g}/255", "PGD": "{steps}x{restarts}".format(**pgd_["settings"]),
                             "top class %": f"{100 * max(counts) / sum(counts):.0f}", "classes": f"{np.exp(entropy(counts)):.1f}"}
        if pgd_ and aa and aa["robust"].size <= pgd_["robust"].size:
            table[label]["PGD %, its images"] = f"{100 * pgd_['robust'][:aa['robust'].size].mean():.1f}"
    columns = ["trained", "train ε", "epochs", "lr", "seed", "test ε", "PGD", "clean % (n)", "PGD % (n)", "AutoAttack % (n)", "PGD %, its images",
               "top class %", "classes", "robustness"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns, dtype=object).fillna("–").rename_axis("model")


def mcnemar(a, b):
    """Two outcomes on the same images, bool [n], compared: (mean(a) - mean(b), low, high, p).

    The 95 % interval is Agresti & Min's (2005) for paired proportions, p is McNemar's exact two-sided test on the images that differ.
    """
    only_a, only_b, n = int((a & ~b).sum()), int((b & ~a).sum()), a.size
    middle, half = (only_a - only_b) / (n + 2), 1.96 * (only_a + only_b + 1 - (only_a - only_b) ** 2 / (n + 2)) ** 0.5 / (n + 2)
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return (only_a - only_b) / n, middle - half, middle + half, float(p)


def trust(record, transfers=()):
    """The checks against gradient masking that a record allows (Athalye et al. 2018; Carlini et al. 2019), one row a check.

    transfers: what `transfer` from other networks returned. Columns: expected, the pattern; measured, accuracies in percent; n, images;
    verdict: "as expected", "SUSPECT", "not yet run" or, for a network that gives over 90 % of the clean images one label, "constant":
    no attack can move it, and the patterns say nothing. Two points, or the share named, are allowed for random starts.
    """
    pgd_, aa, curve, checks = (record[key] for key in ("pgd", "autoattack", "curve", "checks"))
    constant = pgd_ is not None and max(pgd_["clean_predictions"]) > 0.9 * sum(pgd_["clean_predictions"])
    rows = {}

    def check(name, expected, flags, holds):
        rates = [100 * f.mean() for f in flags]
        verdict = "not yet run" if not flags else "constant" if constant else "as expected" if holds(rates) else "SUSPECT"
        rows[name] = {"expected": expected, "measured": " → ".join(f"{rate:.1f}" for rate in rates) or "–",
                      "n": flags[0].size if flags else 0, "verdict": verdict}

    def checked(*keys):
        return [checks[key] for key in keys] if checks else []

    def falling(rates):
        return (rates <= np.minimum.accumulate(rates) + 2.001).all()

    def near(rates, share):  # the last no lower than the first, but for two points or this share of it
        return rates[-1] >= rates[0] - max(2.001, share * rates[0])

    n, most = min(pgd_["robust"].size, aa["robust"].size) if pgd_ and aa else 0, f"restarts {CHECK_RESTARTS}"
    check("PGD → AutoAttack", "no weaker; takes at most a quarter more", [e["robust"][:n] for e in (pgd_, aa) if n],
          lambda r: falling(r) and near(r, 0.25))
    check("FGSM → PGD-20", "one step is no stronger than twenty", checked("fgsm", "steps 20"), falling)
    check(f"PGD of {', '.join(map(str, CHECK_STEPS))} steps", "more steps never leave more", checked(*(f"steps {s}" for s in CHECK_STEPS)), falling)
    check("PGD-20 → PGD-200", "converged: takes at most a tenth more", checked("steps 20", "steps 200"), lambda r: near(r, 0.1))
    check(f"1 → {CHECK_RESTARTS} restarts of PGD-20", "converged: take at most a tenth more", checked("restarts 1", most), lambda r: near(r, 0.1))
    check(f"PGD-20 of {CHECK_RESTARTS} restarts → Square alone", "the gradient-free attack is no stronger", checked(most, "square"), lambda r: near(r, 0))
    check("white-box parts of AutoAttack → Square alone", "the gradient-free attack is no stronger",
          [aa["fab-t"][:checks["square"].size], checks["square"][:aa["fab-t"].size]] if aa and checks else [], lambda r: near(r, 0))
    own = [pgd_["robust"][:flags.size] for flags in transfers] if pgd_ else []
    check("own PGD → strongest transfer", "no other network's examples are stronger",
          min(zip(own, transfers, strict=False), key=lambda pair: pair[1].mean() - pair[0].mean(), default=[]), lambda r: near(r, 0))
    chance = 100 * DATASETS[record["run"]["data"]]["chance"]
    check("PGD at 0, ⅛, ¼, ½, ¾, 1, 1½, 2, 4 x ε", f"falls with ε, to below chance, {chance:g} %", list(curve["robust"]) if curve else [],
          lambda r: falling(r) and r[-1] < chance)
    check("unbounded PGD", "0 %", checked("unbounded"), lambda r: r[0] == 0)
    check("loss rises more along the gradient", "than along random signs, on 90 % of the images", checked("steepest"), lambda r: r[0] >= 90)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("check")


TINTS = {"contradicted": "#f7c9ae", "not confirmed": "#fbe3d3", "confirmed": "#d6e9f6", "SUSPECT": "#f7c9ae", "✗": "#f7c9ae", "as expected": "#d6e9f6", "✓": "#d6e9f6", "constant": "#eeeeee",
         "non-trivial": "#d6e9f6", "none": "#eeeeee", "undecided": "#fbe3d3", "not yet run": "#eeeeee"}


def save(result, exp, name):
    """Write to out/<profile>/figures/<name>: a table as .csv, returned as styled HTML, or a figure as .png and .pdf."""
    contents = {}
    if isinstance(result, pd.DataFrame):
        contents["csv"] = result.to_csv().encode()
    else:
        for kind, metadata in (("png", None), ("pdf", {"CreationDate": None})):  # the same bytes each time
            result.savefig(image := io.BytesIO(), format=kind, metadata=metadata)
            contents[kind] = image.getbuffer()
    with _lock(exp, "figures"):  # runs side by side may draw one figure
        for kind, content in contents.items():
            _atomically(exp["out"] / "figures" / f"{name}.{kind}", content)
    if isinstance(result, pd.DataFrame):
        from IPython.display import HTML
        style = result.style.format(precision=1).set_uuid(name).map(lambda cell: next(  # an id of its own, the same each time
            (f"background-color: {tint}; color: black" for word, tint in TINTS.items() if str(cell).split(" (")[0].endswith(word)), ""))
        return HTML(style.set_table_styles([{"selector": "td, th", "props": "text-align: left; vertical-align: top"}]).to_html())


def plot_runs(records):
    """Held-out accuracies after each epoch and robust accuracy against the attack's ε, a line a record, 95 % Wilson bands."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.8), sharey=True)
    held_out = "/".join(sorted({f"{DATASETS[record['run']['data']]['held_out']:,}" for record in records.values()}))
    for axis, title in zip(axes, (f"clean, {held_out} held-out images", f"PGD-10, {held_out} held-out images", "PGD, test images"), strict=True):
        axis.set(xlabel="attack radius ε (1/255)" if axis is axes[2] else "epoch", ylabel="accuracy (%)" * (axis is axes[0]), ylim=(0, 100))
        axis.set_title(title)
        for record in records.values():
            axis.axhline(100 * DATASETS[record["run"]["data"]]["chance"], color="grey", linestyle=":", linewidth=1)
    for label, record in records.items():
        style = dict(marker="o", label=label, color=MAIN_ROWS.get(label, [None])[-1])
        for axis, key in zip(axes, ("held_out_clean", "held_out_robust"), strict=False):
            axis.plot([h["epoch"] for h in record["history"]], [100 * h[key] for h in record["history"]], **style)
            axis.xaxis.get_major_locator().set_params(integer=True)
        if curve := record["curve"]:
            points, epsilons = 100 * np.array([proportion(flags)[:3] for flags in curve["robust"]]), curve["settings"]["epsilons"]
            line, = axes[2].plot(epsilons, points[:, 0], **style)
            axes[2].set_title(f"PGD, {curve['settings']['images']:,} test images")
            axes[2].fill_between(epsilons, points[:, 1], points[:, 2], alpha=0.2, color=line.get_color(), linewidth=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
