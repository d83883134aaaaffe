"""Adversarial training of batch normalisation (BN): everything that the bnat notebooks call.

Reproduces Walter, Stutz, Schiele, "On Fragile Features and Batch Normalization in Adversarial Training"
(arXiv 2204.12393, 2022). In reading order: settings, data, networks, attack, evaluation, training, records,
tables and figures. Images are uint8 in storage and float in [0, 1] for every network; the per-channel
normalisation is the network's first layer, so an L-inf radius is always in pixel units. Notebooks give
`epsilon` in 1/255, functions take `eps` in [0, 1].
"""

import copy
import hashlib
import json
import os
import platform
import sys
import time
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity
from torchvision.models.resnet import BasicBlock
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
GENERATION = 1  # raise it when a change to this file changes the numbers of a run
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# ---------------------------------------------------------------------------------------- settings
TRAINABLE = ("all", "bn", "bn+head", "head", "bn_stats")
ARCHS = {  # stage widths, residual blocks a stage; resnet8 is for the 8x8 digits
    "resnet8": ((4, 8, 16), 1), "resnet20": ((16, 32, 64), 3), "resnet56": ((16, 32, 64), 9),
    "resnet18": ((64, 128, 256, 512), 2),
}
DATASETS = {  # images: training images in all; held_out: the last of them, for every choice; pad, flip: augmentation
    "digits": dict(channels=1, mean=(0.305,), std=(0.376,), images=1297, held_out=200, test=500, pad=1, flip=False),
    "cifar10": dict(channels=3, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), images=50000,
                    held_out=1000, test=10000, pad=4, flip=True),
}
PROFILES = {  # epsilon in 1/255; for each step, clean and with an attack (_at): epochs, learning rate
    "quick": dict(data="digits", arch="resnet8", epsilon=32, batch_size=64, pretrain=(12, 0.2), pretrain_at=(12, 0.2),
                  finetune=(20, 0.2), finetune_at=(20, 0.2), scratch=(20, 0.2), scratch_at=(20, 0.2),
                  eval_images=500, eval_restarts=2, aa_images=100, curve_images=500),
    "cpu": dict(data="cifar10", arch="resnet20", epsilon=8, batch_size=128, pretrain=(8, 0.1), pretrain_at=(3, 0.1),
                finetune=(3, 0.2), finetune_at=(3, 0.2), scratch=(6, 0.2), scratch_at=(3, 0.2),
                eval_images=10000, eval_restarts=1, aa_images=500, curve_images=500),
    "paper": dict(data="cifar10", arch="resnet18", epsilon=8, batch_size=128, pretrain=(30, 0.2), pretrain_at=(30, 0.2),
                  finetune=(30, 0.2), finetune_at=(30, 0.2), scratch=(30, 0.2), scratch_at=(30, 0.2),
                  eval_images=10000, eval_restarts=10, aa_images=1000, curve_images=1000),
}


def _number(name, value, default, low, high=None, whole=True, above=False):
    """The number `value`, or `default` where it is None; ValueError unless it is finite and in range."""
    value = default if value is None else value
    if (not isinstance(value, (int, float)) or isinstance(value, bool) or not np.isfinite(value) or value < low
            or (whole and value != int(value)) or (above and value == low) or (high is not None and value > high)):
        span = f"{'above' if above else 'from'} {low} {'up' if high is None else f'to {high}'}"
        raise ValueError(f"{name} must be a {'whole ' * whole}number {span}, got {value!r}")
    return int(value) if whole else float(value)


def _choice(name, value, default, allowed):
    value = default if value is None else value
    if value not in tuple(allowed):
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    return value


def experiment(step, *, profile="quick", data_dir=None, arch=None, trainable=None, epsilon=None, pretrain_epsilon=0,
               pretrain_epochs=None, seed=0, epochs=None, batch_size=None, lr=None, weight_decay=None, schedule=None,
               attack_steps=None, attack_step_size=None, train_images=None, eval_epsilon=None, eval_steps=None,
               eval_restarts=None, eval_images=None, aa_images=None):
    """Check the parameters of one experiment and fill in the profile's defaults; does no work.

    step: "pretrain" (all weights from random initialisation), "finetune" (from a pretrain run) or "scratch" (a part
    of the weights from random initialisation). Every other argument is the notebook parameter of that name and
    explained there; None takes the default. Returns a dict: `run`, all that decides the weights; `name`, readable
    and ending in the hash of `run`; `parent`, the experiment whose weights it starts from, or None; `evaluations`,
    {file name: settings}; `out`, the folder that is written. Raises ValueError: one sentence with the parameter's
    name, what is allowed and what it got.
    """
    defaults = PROFILES[_choice("profile", profile, "quick", PROFILES)]
    data = DATASETS[defaults["data"]]
    epsilon = _number("epsilon (in 1/255)", epsilon, defaults["epsilon"], 0, 255, whole=False)
    eps = _number("eval_epsilon (in 1/255)", eval_epsilon, epsilon or defaults["epsilon"], 0, 255, whole=False, above=True)
    epochs_default, lr_default = defaults[step + ("_at" if epsilon else "")]
    images = _number("train_images", train_images, data["images"] - data["held_out"], 1, data["images"] - data["held_out"])
    run = dict(
        generation=GENERATION, step=step, data=defaults["data"], arch=_choice("arch", arch, defaults["arch"], ARCHS),
        trainable=_choice("trainable", trainable, "all" if step == "pretrain" else "bn", TRAINABLE),
        parent=None, epsilon=epsilon, seed=_number("seed", seed, 0, 0, 2**31 - 1), train_images=images,
        epochs=_number("epochs", epochs, epochs_default, 1), lr=_number("lr", lr, lr_default, 0, whole=False, above=True),
        batch_size=_number("batch_size", batch_size, defaults["batch_size"], 2, images),
        weight_decay=_number("weight_decay", weight_decay, 5e-4, 0, 1, whole=False),
        schedule=_choice("schedule", schedule, "cycle", ("cycle", "steps")),
        attack_steps=_number("attack_steps", attack_steps, 7, 1),
        attack_step_size=_number("attack_step_size (in 1/255)", attack_step_size, epsilon / 4 or 1, 0, 255, whole=False, above=True))
    if not epsilon:  # without an attack its settings decide nothing
        run.update(attack_steps=0, attack_step_size=0.0)
    steps = _number("eval_steps", eval_steps, 20, 1)
    restarts = _number("eval_restarts", eval_restarts, defaults["eval_restarts"], 1)
    n = _number("eval_images", eval_images, defaults["eval_images"], 0, data["test"])
    n_aa = _number("aa_images", aa_images, defaults["aa_images"], 0, data["test"])
    n_curve = min(n, defaults["curve_images"])
    evaluations = {}
    if n:
        evaluations[f"pgd_eps{eps:g}_steps{steps}x{restarts}_n{n}"] = dict(
            kind="pgd", epsilon=eps, steps=steps, restarts=restarts, images=n)
        evaluations[f"curve_eps{eps:g}_steps{steps}_n{n_curve}"] = dict(
            kind="curve", epsilons=[eps * f for f in (0, .125, .25, .5, .75, 1, 1.5, 2, 4)], steps=steps, images=n_curve)
    if n_aa:
        evaluations[f"autoattack_eps{eps:g}_n{n_aa}"] = dict(kind="autoattack", epsilon=eps, images=n_aa)
    parent = None
    if step == "finetune":
        _number("pretrain_epsilon (in 1/255)", pretrain_epsilon, defaults["epsilon"], 0, 255, whole=False)
        _number("pretrain_epochs", pretrain_epochs, 1, 1)
        parent = experiment("pretrain", profile=profile, data_dir=data_dir, arch=arch, seed=seed, epochs=pretrain_epochs,
                            epsilon=pretrain_epsilon, eval_epsilon=eps, eval_steps=eval_steps, eval_images=eval_images,
                            eval_restarts=eval_restarts, aa_images=aa_images)
        run["parent"] = parent["name"]
    digest = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:10]
    return dict(run=run, parent=parent, evaluations=evaluations, data_dir=data_dir, out=ROOT / "out" / (profile or "quick"),
                held_out_epsilon=epsilon or defaults["epsilon"],
                name=f"{step}_{run['arch']}_{run['trainable']}_eps{epsilon:g}_seed{run['seed']}_{digest}")


# -------------------------------------------------------------------------------------------- data
def load_data(name, data_dir=None):
    """The dataset as tensors on the device: {"train", "held_out", "test": (uint8 [N, C, H, W], int64 [N])}.

    "digits" is scikit-learn's, its last 500 images the test set; "cifar10" is looked for in `data_dir`, else
    $BNAT_DATA, else ./data, and downloaded there by torchvision where it is missing. ValueError if it cannot be had.
    """
    if name == "digits":
        from sklearn.datasets import load_digits
        digits, n = load_digits(), DATASETS[name]["images"]
        images = torch.from_numpy(np.rint(digits.images * 255 / 16).astype(np.uint8))[:, None]
        labels = torch.from_numpy(digits.target).long()
        train, test = (images[:n], labels[:n]), (images[n:], labels[n:])
    else:
        root = Path(data_dir or os.environ.get("BNAT_DATA") or ROOT / "data")
        files = {root / CIFAR10.base_folder / file: md5 for file, md5 in CIFAR10.train_list + CIFAR10.test_list}
        for path, md5 in files.items():
            if path.exists() and not check_integrity(str(path), md5):
                raise ValueError(f"data_dir holds a truncated or altered file: the MD5 of {path} must be {md5}; delete it and run again")
        try:
            CIFAR10(root, download=not all(path.exists() for path in files))
            train, test = [(torch.from_numpy(s.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(s.targets))
                           for s in (CIFAR10(root, train=True), CIFAR10(root, train=False))]
        except (OSError, RuntimeError) as error:
            raise ValueError(f"data_dir (or BNAT_DATA) must be a folder that holds {CIFAR10.base_folder}, got {str(root)!r}, "
                             f"and the download failed ({type(error).__name__})") from None
    held = DATASETS[name]["held_out"]
    splits = dict(train=[t[:-held] for t in train], held_out=[t[-held:] for t in train], test=test)
    return {key: tuple(t.to(DEVICE) for t in pair) for key, pair in splits.items()}


def to_float(images):
    """uint8 images as float32 in [0, 1]; float images unchanged."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def augment(images, pad, flip):
    """Random crops of the images zero-padded by `pad`, and (if `flip`) random horizontal flips; uint8 [N, C, H, W]."""
    n, c, h, w = images.shape
    device = images.device
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


def resnet(arch, data="cifar10", classes=10):
    """A ResNet for small images, with the normalisation of dataset `data` inside: [N, C, H, W] in [0, 1] to logits.

    arch: a key of ARCHS. ResNet-20/56 as in He et al. 2016, section 4.2, but with projection shortcuts; ResNet-18 with
    the 3x3 stem that is usual on CIFAR. Blocks and initialisation are torchvision's.
    """
    widths, blocks = ARCHS[arch]
    info = DATASETS[data]

    def conv(inputs, outputs, kernel, stride=1):
        return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)

    layers = [("normalize", Normalize(info["mean"], info["std"])), ("conv1", conv(info["channels"], widths[0], 3)),
              ("bn1", nn.BatchNorm2d(widths[0])), ("relu", nn.ReLU(inplace=True))]
    inputs = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            shortcut = None if stride == 1 and inputs == width else nn.Sequential(
                conv(inputs, width, 1, stride), nn.BatchNorm2d(width))
            layers.append((f"layer{stage + 1}_{block}", BasicBlock(inputs, width, stride, shortcut)))
            inputs = width
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("fc", nn.Linear(inputs, classes))]
    model = nn.Sequential(OrderedDict(layers))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model.to(DEVICE, memory_format=torch.channels_last)


def set_trainable(model, part):
    """Freeze all but one part of `model`; return the parameters left to train.

    part: "all"; "bn", every γ and β; "head", the linear layer; "bn+head"; "bn_stats", none: running statistics only.
    """
    learns = dict(all=nn.Module, bn=nn.BatchNorm2d, head=nn.Linear, bn_stats=()) | {"bn+head": (nn.BatchNorm2d, nn.Linear)}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(isinstance(module, learns[_choice("trainable", part, None, TRAINABLE)]))
    return [p for p in model.parameters() if p.requires_grad]


def fold_bn(model, dtype=torch.float32):
    """An eval-mode copy of a `resnet` with each BN folded into the convolution before it and all weights frozen.

    Exact up to rounding, since BN is affine in eval mode. dtype: of the layers after the normalisation.
    """
    folded = copy.deepcopy(model).eval()
    for module in list(folded.modules()):
        if isinstance(module, (nn.Sequential, BasicBlock)):  # here the order of children is the order of use
            children = list(module.named_children())
            for (_, conv), (name, bn) in zip(children, children[1:], strict=False):
                if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                    conv.weight, conv.bias = fuse_conv_bn_weights(
                        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
                    setattr(module, name, nn.Identity())
    folded = folded.to(dtype=dtype, memory_format=torch.channels_last).requires_grad_(False)
    folded.normalize = copy.deepcopy(model.normalize)  # in fp32: rounding mean and std would shift the image
    folded.normalize.out_dtype = dtype
    return folded


def fast_dtype():
    """bfloat16 where the device computes in it natively (CUDA from Ampere, AVX512-BF16, AMX), else float32."""
    if DEVICE.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float32
    has = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older torch: float32 then
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") else torch.float32


# ------------------------------------------------------------------------------------------ attack
@contextmanager
def _eval_mode(model):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def pgd(model, x, y, *, eps, step_size, steps, restarts=1, random_start=True):
    """L-inf projected gradient descent on the cross-entropy (Madry et al. 2018), untargeted, model in eval mode.

    x: float [N, C, H, W] in [0, 1]; y: int64 [N]; eps, step_size: pixel units, in [0, 1]; model: images to logits.
    random_start: uniform in the ε-ball. Each further restart attacks the images that are still classified correctly.
    Returns adversarial images, at least float32, within eps of x and in [0, 1]; the model's mode, parameters, buffers
    and gradients stay as they were. ValueError for a negative eps, step_size or steps, or restarts below 1.
    """
    if min(eps, step_size, steps) < 0 or restarts < 1:
        raise ValueError(f"pgd needs eps, step_size, steps >= 0 and restarts >= 1, got {eps}, {step_size}, {steps}, {restarts}")
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))

    def ascend(x, y):
        low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
        adv = torch.clamp(x + torch.empty_like(x).uniform_(-eps, eps), low, high) if random_start else x.clone()
        for _ in range(steps):
            with torch.enable_grad():
                loss = F.cross_entropy(model(adv.requires_grad_()).to(x.dtype), y, reduction="sum")
            gradient, = torch.autograd.grad(loss, adv)  # the input's gradient alone: no weight's .grad is touched
            adv = torch.clamp(adv.detach() + step_size * gradient.sign(), low, high)
        return adv

    with _eval_mode(model), torch.no_grad():
        best = ascend(x, y)
        for _ in range(restarts - 1):
            alive = (model(best).argmax(1) == y).nonzero().squeeze(1)
            if len(alive):
                best[alive] = ascend(x[alive], y[alive])
    return best


# -------------------------------------------------------------------------------------- evaluation
@torch.no_grad()
def evaluate(model, x, y, *, eps, step_size=None, steps=20, restarts=1, batch_size=500, progress=None):
    """Clean and PGD accuracy on images x (uint8, or float in [0, 1]; [N, C, H, W]) with labels y.

    Attacked are the images classified correctly, each restart those not yet broken, with step eps / 4 unless given;
    gradients are a `resnet`'s BN-folded copy's in `fast_dtype`, every decision is the model's own in float32 and eval
    mode. Returns dict(clean, robust: bool [N]; clean_predictions, adversarial_predictions: int64 [N]), on the CPU.
    """
    attacked = fold_bn(model, fast_dtype()) if hasattr(model, "normalize") else model
    clean, adversarial = [], []
    with _eval_mode(model):
        for start in tqdm(range(0, len(y), batch_size), desc=progress, disable=progress is None, delay=3, mininterval=2):
            images, labels = to_float(x[start:start + batch_size]), y[start:start + batch_size]
            clean.append(model(images).argmax(1))
            adversarial.append(clean[-1].clone())
            for _ in range(restarts if eps else 0):
                alive = (adversarial[-1] == labels).nonzero().squeeze(1)
                if len(alive):
                    adv = pgd(attacked, images[alive], labels[alive], eps=eps, steps=steps,
                              step_size=eps / 4 if step_size is None else step_size)
                    adversarial[-1][alive] = model(adv).argmax(1)
    clean, adversarial, y = torch.cat(clean).cpu(), torch.cat(adversarial).cpu(), y.cpu()
    return dict(clean=clean == y, robust=adversarial == y, clean_predictions=clean, adversarial_predictions=adversarial)


def autoattack(model, x, y, *, eps, batch_size=250, seed=0):
    """Which images survive AutoAttack, version "standard" (Croce & Hein 2020), by its authors' package: bool [N].

    A `resnet` is attacked with BN folded, in float32.
    """
    from pyautoattack import AutoAttack
    target, robust = (fold_bn(model) if hasattr(model, "normalize") else model), []
    with _eval_mode(target):
        for start in tqdm(range(0, len(y), batch_size), desc="AutoAttack", delay=3):
            images, labels = to_float(x[start:start + batch_size]), y[start:start + batch_size]
            attack = AutoAttack(target, eps=eps, norm="Linf", version="standard", device=images.device, seed=seed)
            attack.verbose = False
            adv, _ = attack.run_standard_evaluation(images, labels, batch_size=batch_size)
            with torch.no_grad():
                robust.append((target(adv).argmax(1) == labels).cpu())
    return torch.cat(robust)


# ---------------------------------------------------------------------------------------- training
def learning_rate(run, fraction):
    """The learning rate after `fraction` of the training; schedules: README, "Protocol"."""
    if run["schedule"] == "cycle":
        return float(np.interp(fraction, [0, 0.4, 1], [0, run["lr"], 0]))
    return run["lr"] * 0.1 ** sum(fraction >= at for at in (0.4, 0.6, 0.8))


def train_step(model, optimizer, x, y, run):
    """One update on a batch, on PGD examples where run["epsilon"] is not 0; returns (loss, number correct), unsynchronised.

    x: float [N, C, H, W] in [0, 1]; y: int64 [N]. The attack sees the network in eval mode with BN folded; running
    statistics see the images of the update only. optimizer None: nothing but those statistics changes.
    """
    dtype = fast_dtype()
    if run["epsilon"]:
        x = pgd(fold_bn(model, dtype), x, y, eps=run["epsilon"] / 255, step_size=run["attack_step_size"] / 255,
                steps=run["attack_steps"])
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


def train(exp, data):
    """Train the network of an `experiment` on what `load_data` returned, or take up its checkpoint.

    A checkpoint is written after every epoch, and every epoch draws from a seed of its own, so that a run cut off
    anywhere ends with the numbers of an uncut one. Returns (model in eval mode, run record, machine record).
    FloatingPointError where the loss is not finite.
    """
    run, info = exp["run"], DATASETS[exp["run"]["data"]]
    path = exp["out"] / "checkpoints" / f"{exp['name']}.pt"
    saved = _read(path, _parse_checkpoint)
    torch.manual_seed(run["seed"])
    model = resnet(run["arch"], run["data"])
    if exp["parent"] and not saved:
        model.load_state_dict(train(exp["parent"], data)[0].state_dict())
    parameters = set_trainable(model, run["trainable"])
    optimizer = torch.optim.SGD(parameters, momentum=0.9, nesterov=True, weight_decay=run["weight_decay"],
                                lr=run["lr"]) if parameters else None
    if saved:
        model.load_state_dict(saved["model"])
        if optimizer:
            optimizer.load_state_dict(saved["optimizer"])
    saved = saved or dict(initial_weights=_digest(model.state_dict()), history=[], seconds=[])
    history, seconds = saved["history"], saved["seconds"]
    images, labels = (t[:run["train_images"]] for t in data["train"])
    steps = len(labels) // run["batch_size"]  # a last, smaller batch is left out: static shapes
    bar = tqdm(total=steps * run["epochs"], initial=steps * len(history), desc=exp["name"], delay=3, mininterval=5,
               disable=len(history) == run["epochs"])
    for epoch in range(len(history), run["epochs"]):
        started = warm = time.perf_counter()
        torch.manual_seed(run["seed"] + 1_000_003 * (epoch + 1))
        order = torch.randperm(len(labels), device=DEVICE)
        losses, correct = torch.zeros(steps, device=DEVICE), torch.zeros((), device=DEVICE, dtype=torch.int64)
        rates = [learning_rate(run, (epoch + (step + 1) / steps) / run["epochs"]) for step in range(steps)]
        for step in range(steps):
            batch = order[step * run["batch_size"]:(step + 1) * run["batch_size"]]
            x = to_float(augment(images[batch], info["pad"], info["flip"]))
            if optimizer:
                optimizer.param_groups[0]["lr"] = rates[step]
            losses[step], hits = train_step(model, optimizer, x, labels[batch], run)
            correct += hits
            bar.update()
            if not seconds and step in (0, 3):  # the first updates, after a warm-up, tell how long it will take
                losses[step].item()
                warm, minutes = time.perf_counter(), (time.perf_counter() - warm) / 3 * steps * run["epochs"] / 60
                if step and minutes > 10:
                    print(f"{exp['name']}: {steps * run['epochs']} updates, about {minutes:.0f} min on this {DEVICE.type.upper()}, "
                          "evaluation on top; a run cut off resumes from its last epoch. Faster: a GPU, -p profile quick, "
                          "fewer epochs (-p epochs 1) or images (-p train_images 10000).", flush=True)
        if not losses.isfinite().all():
            step = int((~losses.isfinite()).nonzero()[0])
            raise FloatingPointError(f"the loss is {losses[step].item()} at epoch {epoch + 1}, step {step + 1} of {steps}, "
                                     f"learning rate {rates[step]:.4g}: choose an lr below {run['lr']:g}")
        held_out = evaluate(model, *data["held_out"], eps=exp["held_out_epsilon"] / 255, steps=10)
        history.append(dict(
            epoch=epoch + 1, train_loss=losses.mean().item(), train_accuracy=correct.item() / (steps * run["batch_size"]),
            held_out_clean=held_out["clean"].float().mean().item(), held_out_robust=held_out["robust"].float().mean().item()))
        seconds.append(time.perf_counter() - started)
        saved.update(model=model.state_dict(), optimizer=optimizer.state_dict() if optimizer else {})
        saved["digest"] = _digest(dict(model=saved["model"], optimizer=saved["optimizer"]))
        _atomically(path, lambda file: torch.save(saved, file))
    bar.close()
    bn = {name: dict(gamma=m.weight.tolist(), beta=m.bias.tolist())
          for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    cuda = DEVICE.type == "cuda"
    machine = dict(device=torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
                   peak_memory_bytes=torch.cuda.max_memory_allocated() if cuda else None, torch=torch.__version__,
                   python=platform.python_version(), precision=str(fast_dtype()), seconds=seconds,
                   images_per_second=steps * run["batch_size"] * len(seconds) / sum(seconds))
    return model.eval(), dict(name=exp["name"], run=run, weights=_digest(model.state_dict()), bn=bn, history=history,
                              initial_weights=saved["initial_weights"]), machine


# ----------------------------------------------------------------------------------------- records
def _digest(state):
    """SHA-256 over every tensor in nested dicts, in order."""
    sha = hashlib.sha256()

    def visit(value):
        for item in value.values() if isinstance(value, dict) else ():
            visit(item)
        if isinstance(value, torch.Tensor):
            sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    visit(state)
    return sha.hexdigest()


def _atomically(path, write):
    """write(binary file), so that `path` is either what it was or whole, whenever the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _read(path, parse):
    """parse(path), or None where there is no file; one that is broken is set aside under another name, and said so."""
    if path.exists():
        try:
            return parse(path)
        except Exception as error:  # whatever a broken file makes torch or json raise
            os.replace(path, f"{path}.corrupt")
            print(f"{os.path.relpath(path, ROOT)} is corrupt ({type(error).__name__}: {str(error).splitlines()[0]}); set aside as "
                  f"{path.name}.corrupt, to be made again", file=sys.stderr)


def _parse_checkpoint(path):
    saved = torch.load(path, map_location=DEVICE, weights_only=True)
    if saved["digest"] != _digest(dict(model=saved["model"], optimizer=saved["optimizer"])):
        raise ValueError("its tensors do not match their digest")
    return saved


def _parse_json(path):
    loaded = json.loads(path.read_bytes())
    if loaded["sha256"] != hashlib.sha256(json.dumps(loaded["content"], sort_keys=True).encode()).hexdigest():
        raise ValueError("its content does not match its checksum")
    return loaded["content"]


def _write_json(path, content):
    text = json.dumps(content, sort_keys=True)
    sha = hashlib.sha256(text.encode()).hexdigest()
    _atomically(path, lambda file: file.write(f'{{"sha256": "{sha}",\n"content": {text}}}\n'.encode()))


def read_record(folder):
    """The finished run in `folder` with those of its evaluations that belong to its weights, or None."""
    record = _read(folder / "run.json", _parse_json)
    if record:
        files = {path.stem: _read(path, _parse_json) for path in sorted(folder.glob("*.json")) if path.name != "run.json"}
        record["machine"] = files.pop("machine", None)
        record["evaluations"] = {name: e for name, e in files.items() if e and e["weights"] == record["weights"]}
    return record


def load_record(exp):
    """The record of an `experiment` with all its evaluations, from records/ or else out/<profile>/records/, or None."""
    for root in (ROOT, exp["out"]):
        record = read_record(root / "records" / exp["name"])
        if record and exp["evaluations"].keys() <= record["evaluations"].keys():
            return record


def all_records(exp):
    """{name: record} of every record with the data and architecture of `exp`, committed or made here."""
    found = {}
    for root in (exp["out"], ROOT):  # a committed record wins, as in load_record
        for folder in sorted((root / "records").glob("*")):
            record = read_record(folder)
            if record and all(record["run"][key] == exp["run"][key] for key in ("data", "arch", "generation")):
                found[folder.name] = record
    return dict(sorted(found.items()))


def run_experiment(exp):
    """Load the record of an `experiment`, or train what is missing, evaluate it and write the record; a parent first.

    Returns the record: name, run, weights, initial_weights, history, bn, machine, evaluations.
    """
    if exp["parent"]:
        run_experiment(exp["parent"])
    record = load_record(exp)
    if record:
        return record
    data = load_data(exp["run"]["data"], exp["data_dir"])
    model, record, machine = train(exp, data)
    folder = exp["out"] / "records" / exp["name"]
    present = read_record(folder)
    if not present or present["weights"] != record["weights"]:  # evaluations of other weights are no longer read
        _write_json(folder / "machine.json", machine)
        _write_json(folder / "run.json", record)
    for name, settings in exp["evaluations"].items():
        if name not in read_record(folder)["evaluations"]:
            torch.manual_seed(exp["run"]["seed"])
            result = _evaluation(model, *(t[:settings["images"]] for t in data["test"]), settings)
            _write_json(folder / f"{name}.json", dict(result, settings=settings, weights=record["weights"]))
    return read_record(folder)


def _evaluation(model, x, y, settings):
    """One evaluation as its record keeps it: per-image outcomes as hexadecimal bits."""
    def pack(flags):
        return np.packbits(flags.numpy()).tobytes().hex()

    if settings["kind"] == "autoattack":
        return dict(robust=pack(autoattack(model, x, y, eps=settings["epsilon"] / 255)))
    if settings["kind"] == "curve":
        return dict(robust=pack(torch.stack([evaluate(model, x, y, eps=e / 255, steps=settings["steps"])["robust"]
                                             for e in tqdm(settings["epsilons"], desc="accuracy against ε", delay=3)])))
    result = evaluate(model, x, y, eps=settings["epsilon"] / 255, steps=settings["steps"], restarts=settings["restarts"],
                      progress=f"PGD-{settings['steps']}")
    return {key: pack(value) if value.dtype == torch.bool else torch.bincount(value, minlength=10).tolist()
            for key, value in result.items()}


def outcomes(record, kind, key="robust"):
    """Per-image outcomes of a record's evaluation of that kind on most images: bool [n] ("curve": [ε, n]), or None.

    kind: "pgd", "autoattack" or "curve"; key: "robust", or for "pgd" also "clean".
    """
    evaluation = evaluation_of(record, kind)
    if evaluation:
        n, rows = evaluation["settings"]["images"], len(evaluation["settings"].get("epsilons", "1"))
        flags = np.unpackbits(np.frombuffer(bytes.fromhex(evaluation[key]), np.uint8))[:n * rows].astype(bool)
        return flags.reshape(rows, n) if kind == "curve" else flags


def evaluation_of(record, kind):
    """The record's evaluation of that kind on most images, or None."""
    found = [e for e in record["evaluations"].values() if e["settings"]["kind"] == kind] if record else []
    return max(found, key=lambda e: e["settings"]["images"], default=None)


# ------------------------------------------------------------------------------ tables and figures
CHANCE, NON_TRIVIAL = 0.10, 0.15  # a constant classifier's accuracy; what a 95 % interval must clear to count
MAIN_ROWS = {  # label: step, does it train with an attack, colour (Okabe & Ito: safe for the colour-blind)
    "Standard training": ("pretrain", False, "#0072B2"), "AT, all weights": ("pretrain", True, "#009E73"),
    "BN-only, clean, from scratch": ("scratch", False, "#E69F00"), "BN-only AT, fine-tuned": ("finetune", True, "#D55E00"),
    "BN-only AT, from scratch": ("scratch", True, "#CC79A7"),
}


def main_records(profile, **parameters):
    """{label: record or None} of the main table's rows at the profile's settings; parameters: as of `experiment`."""
    return {label: load_record(experiment(step, profile=profile, epsilon=attack * PROFILES[profile]["epsilon"], **parameters))
            for label, (step, attack, _) in MAIN_ROWS.items()}


def proportion(flags):
    """Share of true in bool [n] with its 95 % Wilson interval: dict(rate, low, high, n); None for None."""
    if flags is not None:
        interval = binomtest(int(flags.sum()), flags.size).proportion_ci(0.95, method="wilson")
        return dict(rate=float(flags.mean()), low=float(interval.low), high=float(interval.high), n=flags.size)


def percent(p):
    """A `proportion` as text, in percent: rate [95 % interval]."""
    return f"{100 * p['rate']:.1f} [{100 * p['low']:.1f}, {100 * p['high']:.1f}]" if p else "not yet run"


def results_table(records):
    """One row a record of {label: record or None}: accuracies in percent with 95 % Wilson intervals and their n."""
    table = {}
    for label, record in records.items():
        row, pgd_ = {}, evaluation_of(record, "pgd")
        if record:
            row = {"trained": record["run"]["trainable"], "train ε": f"{record['run']['epsilon']:g}/255",
                   "epochs": record["run"]["epochs"], "lr": f"{record['run']['lr']:g}", "seed": record["run"]["seed"]}
        for name, flags in (("clean", outcomes(record, "pgd", "clean")), ("PGD", outcomes(record, "pgd")),
                            ("AutoAttack", outcomes(record, "autoattack"))):
            row[f"{name} (%)"], row[f"{name} n"] = percent(proportion(flags)), "–" if flags is None else f"{flags.size:,}"
        if pgd_:
            counts = pgd_["adversarial_predictions"]
            row |= {"eval ε": f"{pgd_['settings']['epsilon']:g}/255", "top class, attacked (%)": f"{100 * max(counts) / sum(counts):.0f}"}
        table[label] = row
    columns = ["trained", "train ε", "epochs", "lr", "seed", "eval ε", "clean (%)", "clean n", "PGD (%)", "PGD n",
               "AutoAttack (%)", "AutoAttack n", "top class, attacked (%)"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).fillna("–").rename_axis("model")


def summary(record):
    """What a record's rates say, as one Markdown sentence."""
    clean, attacked, aa = (proportion(outcomes(record, *key)) for key in (("pgd", "clean"), ("pgd",), ("autoattack",)))
    text = f"Clean accuracy {percent(clean)} %, PGD {percent(attacked)} %, AutoAttack {percent(aa)} %."
    robust = aa or attacked
    if robust:
        place = "above" if robust["low"] > NON_TRIVIAL else "below" if robust["high"] < NON_TRIVIAL else "across"
        meaning = dict(above="non-trivial robustness", below="no meaningful robustness", across="undecided at this n")
        text += f" The interval of {'AutoAttack' if aa else 'PGD'} (n = {robust['n']:,}) lies {place} the 15 % bar: **{meaning[place]}**."
    return text


def save(result, exp, name):
    """Write a table as .csv, or a figure as .png and .pdf, to out/<profile>/figures/<name>; returns a table."""
    path = exp["out"] / "figures" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(result, pd.DataFrame):
        result.to_csv(f"{path}.csv")
        return result
    result.savefig(f"{path}.png", dpi=200, bbox_inches="tight")
    result.savefig(f"{path}.pdf", bbox_inches="tight", metadata={"CreationDate": None})  # the same bytes each time


def plot_history(records):
    """Learning curves on the held-out training images, a line a record: clean and PGD-10 accuracy against epoch."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.6), sharex=True, layout="constrained")
    for axis, key, title in zip(axes, ("held_out_clean", "held_out_robust"), ("clean", "PGD-10"), strict=True):
        for label, record in records.items():
            axis.plot([h["epoch"] for h in record["history"]], [100 * h[key] for h in record["history"]], marker="o",
                      markersize=3, label=label, color=MAIN_ROWS.get(label, [None])[-1])
        axis.axhline(100 * CHANCE, color="grey", linestyle=":", linewidth=1)
        axis.set(xlabel="epoch", ylabel=f"{title} accuracy, held out (%)", ylim=(0, 100))
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure


def plot_epsilon_curves(records):
    """Robust accuracy against the attack's ε, a line a record, with 95 % Wilson bands; dotted: a constant classifier."""
    figure, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for label, record in records.items():
        settings, points = evaluation_of(record, "curve")["settings"], [proportion(o) for o in outcomes(record, "curve")]
        line, = axis.plot(settings["epsilons"], [100 * p["rate"] for p in points], marker="o", markersize=3, label=label,
                          color=MAIN_ROWS.get(label, [None])[-1])
        axis.fill_between(settings["epsilons"], [100 * p["low"] for p in points], [100 * p["high"] for p in points],
                          alpha=0.2, color=line.get_color(), linewidth=0)
        axis.set_title(f"PGD-{settings['steps']}, first {settings['images']:,} test images", fontsize="medium")
    axis.axhline(100 * CHANCE, color="grey", linestyle=":", linewidth=1)
    axis.set(xlabel="attack radius ε (1/255)", ylabel="robust accuracy (%)", ylim=(0, 100))
    axis.legend(fontsize="small", frameon=False)
    return figure
