"""Adversarial training (AT) of batch normalisation (BN) alone, in one file, in reading order:
data, networks, the part that trains, BN folding, attacks, training, evaluation.

The protocol is that of Walter, Stutz, Schiele, "On Fragile Features and Batch Normalization in Adversarial
Training" (arXiv 2204.12393). Images are uint8 in storage and float in [0, 1] for every network; the
per-channel normalisation is the network's first layer, so an L-inf radius `eps` is in pixel units, 8/255 say.

    data, model = bnat.load_data("cifar10"), bnat.network("resnet20")
    for epoch in bnat.train(model, *data["train"], epochs=5, lr=0.2, eps=8 / 255, trainable="bn"):
        print(epoch["loss"], epoch["accuracy"])
    print(bnat.evaluate(model, *data["test"], eps=8 / 255)["robust"].float().mean())
"""

import copy
import functools
import os
import time
import warnings
from collections import Counter, OrderedDict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.datasets import CIFAR10, CIFAR100, SVHN
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3
from tqdm import tqdm

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EVAL_BATCH = int(os.environ.get("BNAT_EVAL_BATCH", 500))  # images evaluated at a time


def _one_of(name, key, allowed):
    """allowed[key]; ValueError, which names the keys: that one is none of them."""
    if key not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {key!r}")
    return allowed[key]


# ---------------------------------------------------------------------------------------------- data
def _digits(root, train, download):
    """A split of scikit-learn's digits, as each reader below: uint8 [N, C, H, W], int64 [N]."""
    from sklearn.datasets import load_digits

    digits, n = load_digits(), DATASETS["digits"]["images"]
    part = slice(n) if train else slice(n, None)
    images = np.rint(digits.images[part, None] * 255 / 16).astype(np.uint8)
    return torch.from_numpy(images), torch.from_numpy(digits.target[part]).long()


def _cifar(dataset, root, train, download):
    split = dataset(root, train, download=download)
    return torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)


def _svhn(root, train, download):
    split = SVHN(root, "train" if train else "test", download=download)
    return torch.from_numpy(split.data), torch.from_numpy(split.labels)


# read: of a split; size: of an image's side; images: training images in all, of which the last `held_out` are
# for every choice; pad, flip: augmentation; chance: share of the most frequent class, the accuracy of a
# constant classifier; entropy: of the training labels, in nats, the least loss of a constant classifier
DATASETS = {
    "digits": dict(read=_digits, mean=(0.305,), std=(0.376,), size=8, images=1297, held_out=200, test=500,
                   classes=10, chance=0.10, entropy=float(np.log(10)), pad=1, flip=False),
    "cifar10": dict(read=functools.partial(_cifar, CIFAR10), mean=(0.4914, 0.4822, 0.4465),
                    std=(0.2470, 0.2435, 0.2616), size=32, images=50000, held_out=1000, test=10000,
                    classes=10, chance=0.10, entropy=float(np.log(10)), pad=4, flip=True),
    "cifar100": dict(read=functools.partial(_cifar, CIFAR100), mean=(0.5071, 0.4865, 0.4409),
                     std=(0.2673, 0.2564, 0.2762), size=32, images=50000, held_out=1000, test=10000,
                     classes=100, chance=0.01, entropy=float(np.log(100)), pad=4, flip=True),
    "svhn": dict(read=_svhn, mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970), size=32,
                 images=73257, held_out=1000, test=26032, classes=10, chance=0.196, entropy=2.236,
                 pad=4, flip=False),
}  # fmt: skip


def data_folder(data_dir=None):
    """Where a dataset's files are looked for: `data_dir`, else $BNAT_DATA, else data/ beside this file."""
    return Path(data_dir or os.environ.get("BNAT_DATA") or Path(__file__).resolve().parent / "data")


def load_data(name, data_dir=None, download=True):
    """A dataset as tensors on the device: {"train", "held_out", "test": (uint8 [N, C, H, W], int64 [N])}.

    name: a key of DATASETS. All but "digits" are looked for in `data_folder(data_dir)` and, if `download`,
    downloaded there. The held-out images are the training set's last. ValueError: no such name or no data.
    """
    root, info = data_folder(data_dir), _one_of("name", name, DATASETS)
    try:
        train, test = (info["read"](root, part, download) for part in (True, False))
    except (OSError, RuntimeError) as error:
        why = (str(error) or repr(error)).split("\n")[0]
        raise ValueError(f"data_dir (BNAT_DATA) must hold the files of {name}, got '{root}': {why}") from None
    held = -info["held_out"]
    splits = dict(train=[t[:held] for t in train], held_out=[t[held:] for t in train], test=test)
    return {key: tuple(t.to(DEVICE) for t in pair) for key, pair in splits.items()}


def to_float(images):
    """uint8 images as float32 in [0, 1]; float images as they are. ValueError: others, or beyond [0, 1]."""
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise ValueError(f"images must be uint8 or float in [0, 1], got {images.dtype}")
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):  # NaN is neither
        raise ValueError(f"images must be uint8 or in [0, 1], got {images.min():g} to {images.max():g}")
    return images


def augment(images, pad, flip):
    """Random crops of images zero-padded by `pad`, and (if `flip`) random mirroring; uint8 [N, C, H, W]."""
    (n, c, h, w), device = images.shape, images.device
    top, left = torch.randint(2 * pad + 1, (2, n, 1), device=device)
    rows, cols = top + torch.arange(h, device=device), left + torch.arange(w, device=device)
    if flip:
        cols = torch.where(torch.rand(n, 1, device=device) < 0.5, cols.flip(1), cols)
    picture = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(c, device=device)[None, :, None, None]
    return F.pad(images, [pad] * 4)[picture, channel, rows[:, None, :, None], cols[:, None, None, :]]


# ------------------------------------------------------------------------------------------ networks
# ResNets: stage widths, residual blocks a stage; resnet8 is for the 8x8 digits. The last two have no features
# to speak of: a linear classifier on the pixels, and a perceptron on the means of an 8 x 8 grid of blocks
ARCHS = {
    "resnet8": ((4, 8, 16), 1), "resnet20": ((16, 32, 64), 3), "resnet56": ((16, 32, 64), 9),
    "resnet20x0.5": ((8, 16, 32), 3), "resnet20x2": ((32, 64, 128), 3), "resnet20x4": ((64, 128, 256), 3),
    "resnet18": ((64, 128, 256, 512), 2), "linear": None, "perceptron": None,
}  # fmt: skip


def layout(model):
    """The memory format of a network: channels_last, the fastest, but where that writes outside its memory.

    oneDNN 3.12, in torch 2.14, does on a CPU without AVX-512: in the gradient of the weights of a strided 1x1
    convolution of fewer than 8 channels, as ResNet-8 has one.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1):
            if module.in_channels < 8:
                return torch.contiguous_format
    return torch.channels_last


class Normalize(nn.Module):
    """Per-channel (x - mean) / std for x in [0, 1], then the network's memory format and dtype."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.out_dtype = None  # set by fold_bn: the folded network runs in one dtype from here on
        self.memory_format = torch.channels_last  # or another `layout`

    def forward(self, x):
        x = (x - self.mean) / self.std
        return x.to(self.out_dtype or x.dtype, memory_format=self.memory_format)


def _resnet_layers(channels, norm_layer, widths, blocks):
    inputs = widths[0]
    layers = [("conv1", conv3x3(channels, inputs)), ("bn1", norm_layer(inputs)), ("relu", nn.ReLU(True))]
    for stage, width in enumerate(widths):
        for number in range(blocks):
            stride = 2 if stage > 0 and number == 0 else 1
            shortcut = nn.Sequential(conv1x1(inputs, width, 2), norm_layer(width)) if stride > 1 else None
            block = BasicBlock(inputs, width, stride, shortcut, norm_layer=norm_layer)
            layers.append((f"layer{stage + 1}_{number}", block))
            inputs = width
    return [*layers, ("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())], inputs


def network(arch, data="cifar10", normalize=True, norm_layer=nn.BatchNorm2d):
    """A network, float [N, C, H, W] in [0, 1] to logits [N, classes of `data`], its normalisation inside.

    arch: a key of ARCHS. ResNet-20/56 as in He et al. 2016, section 4.2, but with projection shortcuts;
    x0.5, x2, x4: times as wide; ResNet-18 with the 3x3 stem usual on CIFAR; blocks are torchvision's.
    normalize: False takes the images as they are. norm_layer: what a ResNet has behind its convolutions.
    ValueError: no such arch or data.
    """
    sizes, info = _one_of("arch", arch, ARCHS), _one_of("data", data, DATASETS)
    channels = len(info["mean"])
    if arch == "linear":
        layers, features = [("flatten", nn.Flatten())], channels * info["size"] ** 2
    elif arch == "perceptron":
        hidden = [("hidden", nn.Linear(channels * 64, 512)), ("relu", nn.ReLU(True))]
        layers, features = [("pool", nn.AdaptiveAvgPool2d(8)), ("flatten", nn.Flatten()), *hidden], 512
    else:
        layers, features = _resnet_layers(channels, norm_layer, *sizes)
    mean, std = (info["mean"], info["std"]) if normalize else ((0.0,) * channels, (1.0,) * channels)
    layers = [("normalize", Normalize(mean, std)), *layers, ("fc", nn.Linear(features, info["classes"]))]
    model = nn.Sequential(OrderedDict(layers))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    model.normalize.memory_format = layout(model)
    return model.to(DEVICE, memory_format=model.normalize.memory_format)


# --------------------------------------------------------------------------------- the part that trains
# the modules whose parameters learn, and whether BN's running statistics follow the training images; "head"
# is every nn.Linear of a network, not its last alone
BN, NORM = nn.modules.batchnorm._BatchNorm, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
TRAINABLE = {
    "all": (nn.Module, True), "bn": (BN, True), "norm": (NORM, True), "bn+head": ((BN, nn.Linear), True),
    "bn_affine": (BN, False), "head": (nn.Linear, False), "head+stats": (nn.Linear, True),
    "bn_stats": (BN, True),  # at a learning rate of 0
}  # fmt: skip


def set_trainable(model, part):
    """Freeze all but `part`, a key of TRAINABLE; what is left to train. ValueError: no such key, nothing."""
    kind = _one_of("trainable", part, TRAINABLE)[0]
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(isinstance(module, kind))
    chosen = [p for p in model.parameters() if p.requires_grad]
    if not chosen:
        kinds = sorted({type(m).__name__ for m in model.modules() if len(m._parameters)})
        raise ValueError(f"trainable={part!r}: the network has no such layers, but {', '.join(kinds)}")
    return chosen


MOMENTUM = 0.9


def sgd(weights, lr, weight_decay=5e-4):
    """SGD with Nesterov momentum over a list of parameters."""
    return torch.optim.SGD(weights, lr, MOMENTUM, weight_decay=weight_decay, nesterov=True)


# ---------------------------------------------------------------------------------------- BN folding
def exact():
    """From now on float32 is not TF32 on a GPU, and the same seed gives the same network."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def fast_dtype():
    """bfloat16 where the device computes in it (CUDA from Ampere, AVX512-BF16, AMX), else float32."""
    has = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older torch: float32 then
    native = has.get("avx512_bf16") or has.get("amx_bf16")
    if DEVICE.type == "cuda":
        native = torch.cuda.get_device_capability() >= (8, 0)
    return torch.bfloat16 if native else torch.float32


FOLDED_INTO = {nn.Conv2d: nn.BatchNorm2d, nn.Linear: nn.BatchNorm1d}
NONE_FOLDED = 1.2  # times as long takes an AT step of ResNet-20 if nothing folds (benchmarks/README.md)


def _obstacle(node, modules, calls, names, read):
    """Why the BN that a node of the graph calls is not one layer with what stands before it, or "".

    calls: how often each path is called; names: how many each module has; read: paths of modules of which a
    tensor is looked up without a call.
    """
    bn, before = modules[node.target], node.args[0] if node.args else None
    layer = modules[before.target] if getattr(before, "op", None) == "call_module" else None
    if FOLDED_INTO.get(type(layer)) is not type(bn):
        return "behind no convolution or linear layer that it folds into"
    if bn.running_mean is None:
        return "without running statistics"
    if calls[before.target] > 1 or calls[node.target] > 1:
        return "used more than once, or the layer before it is"
    if names[layer] > 1 or names[bn] > 1:  # state_dict has its tensors twice, which one fold does not change
        return "registered under two names, or the layer before it is"
    if len(before.users) > 1:
        return "what enters it is used elsewhere too"
    if {before.target, node.target} & read:
        return "its tensors, or those of the layer before it, are used elsewhere too"
    if bn.num_features != layer.weight.shape[0]:
        return "it normalises other channels than those of the layer before it"
    if any(module._forward_hooks or module._forward_pre_hooks for module in (layer, bn)):
        return "a hook is on it or on the layer before it"
    return ""


def _foldable(model):
    """What folds, [(path of a layer, path of the BN behind it)], and why the rest does not, {path: why}."""
    modules, folded = dict(model.named_modules()), []
    left = {path: "not called by itself" for path, module in modules.items() if isinstance(module, BN)}
    try:
        nodes = fx.Tracer().trace(model).nodes
    except Exception as error:  # whatever such a forward makes of the tracer's stand-in for an image
        why = (str(error) or repr(error)).split("\n")[0]
        return [], dict.fromkeys(left, f"torch.fx cannot trace the network: {why}")
    calls = Counter(node.target for node in nodes)
    read = {node.target.rpartition(".")[0] for node in nodes if node.op == "get_attr"}
    names = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    for node in nodes:
        if node.op == "call_module" and node.target in left:
            left[node.target] = _obstacle(node, modules, calls, names, read)
            if not left[node.target]:
                folded.append((node.args[0].target, node.target))
    return folded, {path: why for path, why in left.items() if why}


def _warn_of(left, count):
    """A warning that names the BN, {path: why}, which do not fold, out of so many."""
    if not left:
        return
    groups = {}
    for path, why in left.items():
        groups.setdefault(why, []).append(path)
    said = []
    for why, paths in groups.items():
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        said.append(f"{', '.join(paths[:3])}{more} ({why})")
    times = 1 + (NONE_FOLDED - 1) * len(left) / count
    message = f"{len(left)} of {count} BN are not folded, so the attack takes roughly {times:.2f} times"
    warnings.warn(f"{message} as long: {'; '.join(said)}", stacklevel=3)


def fold_bn(model, dtype=torch.float32, into=None, warn=True):
    """A frozen eval-mode copy of a network, each BN folded into the convolution or linear layer before it.

    Exact up to rounding, since BN is affine in eval mode, for a linear layer of inputs [N, features]. dtype:
    of the layers after a `Normalize` that comes first, else float32. into: an earlier result, to be brought
    up to date. warn: name the BN that do not fold, and why: they have no such layer, or torch.fx cannot
    trace a forward that branches.
    """
    if into is None:
        into = copy.deepcopy(model).eval().requires_grad_(False)
        count = len([module for module in into.modules() if isinstance(module, BN)])
        into.folded, left = _foldable(into)
        first = getattr(into, "normalize", None)
        _warn_of(left if warn else {}, count)
        for path, bn_path in into.folded:
            layer, channels = into.get_submodule(path), into.get_submodule(bn_path).num_features
            layer.weight = nn.Parameter(layer.weight.clone(), requires_grad=False)  # it may have been shared
            layer.bias = nn.Parameter(layer.weight.new_zeros(channels), requires_grad=False)
            into.set_submodule(bn_path, nn.Identity())
        if isinstance(first, Normalize):
            into = into.to(dtype=dtype, memory_format=first.memory_format)
            into.normalize = copy.deepcopy(model.normalize)  # in fp32: rounded, it would shift the image
            into.normalize.out_dtype = dtype
    tensors = model.state_dict()
    for path, bn_path in into.folded:
        layer, bn = model.get_submodule(path), model.get_submodule(bn_path)
        statistics = bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
        fused = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics)
        tensors[f"{path}.weight"], tensors[f"{path}.bias"] = fused
    with torch.no_grad():
        for name, tensor in into.state_dict().items():
            tensor.copy_(tensors[name])
    return into


# ------------------------------------------------------------------------------------------- attacks
@contextmanager
def eval_mode(model):
    """Eval mode; afterwards every module has the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def checked_eps(eps):
    """The radius of an attack as it is. ValueError: it is not in pixel units."""
    if not 0 <= eps <= 1:
        raise ValueError(f"eps must be in pixel units, 0 to 1 (8 / 255, say), got {eps}")
    return eps


def _start(x, eps, random=True):
    checked_eps(eps)
    noise = torch.empty_like(x).uniform_(-eps, eps) if random else 0
    return torch.clamp(x + noise, x - eps, x + eps).clamp_(0, 1)


CROSS_ENTROPY = functools.partial(F.cross_entropy, reduction="sum")  # each image's gradient is its own


def _ascend(model, adv, x, y, eps, step_size, steps, loss=CROSS_ENTROPY):
    """`steps` signed gradient steps up the loss from `adv` (overwritten), within [0, 1] and eps of x."""
    low, high = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
    for _ in range(steps):
        with torch.enable_grad():
            value = loss(model(adv.requires_grad_()).to(adv.dtype), y)
        gradient = torch.autograd.grad(value, adv)[0]  # of the input alone: no weight's .grad is touched
        adv = adv.detach().add_(gradient.sign(), alpha=step_size)
        torch.clamp(adv, low, high, out=adv)
    return adv


def pgd(model, x, y, *, eps, step_size, steps, random_start=True):
    """L-inf projected gradient descent on the cross-entropy (Madry et al. 2018), untargeted, in eval mode.

    x: float [N, C, H, W] in [0, 1]; y: int64 [N]; eps, step_size: pixel units; random_start: uniform in the
    ball. Returns adversarial images, at least float32, within eps of x and in [0, 1]; the model stays as it
    was, gradients and modes included. ValueError for an eps outside [0, 1], a negative step_size or steps.
    """
    if min(step_size, steps) < 0:
        raise ValueError(f"pgd needs step_size and steps of 0 or more, got {step_size}, {steps}")
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    with eval_mode(model), torch.no_grad():
        return _ascend(model, _start(x, eps, random_start), x, y, eps, step_size, steps)


# ------------------------------------------------------------------------------------------ training
# learning rate, as a share of lr, over the share of updates done: linear between these points
SCHEDULES = {
    "cycle": ((0, 0.4, 1), (0, 1, 0)),
    "steps": ((0, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8), (1, 1, 0.1, 0.1, 0.01, 0.01, 0.001)),
}


def train_step(model, optimizer, x, y, *, eps=0.0, step_size=None, steps=7, statistics=True, attacked=None):
    """One update on a batch, on `pgd` examples where eps is not 0; returns (loss, number correct).

    The attack sees the network in eval mode with BN folded; running statistics see the images of the update
    alone, and none if not `statistics`. x: float [N, C, H, W] in [0, 1]; y: int64 [N]; step_size: eps / 4
    unless given; attacked: an earlier `fold_bn`.
    """
    dtype = fast_dtype()
    if eps:
        attacked = fold_bn(model, dtype, attacked)
        x = pgd(attacked, x, y, eps=eps, step_size=step_size or eps / 4, steps=steps)
    model.train(statistics)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = model(x).float()
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach(), (logits.argmax(1) == y).sum()


def train(
    model, images, labels, *, epochs, lr, eps=0.0, step_size=None, steps=7, trainable="all", batch_size=128,
    weight_decay=5e-4, schedule="cycle", pad=4, flip=True, seed=0, optimizer=None, state=None, progress=None,
    compiled=False,
):  # fmt: skip
    """Train a part of `model` on images (uint8 [N, C, H, W]) with labels (int64 [N]): `epochs` items.

    lr: the peak of "cycle", the first of "steps"; schedule: one of these, the keys of SCHEDULES. eps,
    step_size, steps: of the training attack, see `train_step`; 0 trains on clean images. trainable: a key of
    TRAINABLE. batch_size: images an update; weight_decay: of `sgd`, on all that trains. pad, flip: of
    `augment`, CIFAR's unless given (DATASETS has each dataset's). seed: of the order, augmentation and
    random starts, not of the weights, which are the model's. optimizer: in place of `sgd` over that part, of
    weights that the caller has chosen and unfrozen; weight_decay is its own then. progress: a bar's title.
    compiled: the attacked network by torch.compile. Yielded is all that is needed to go on: {epoch, loss,
    accuracy, seconds, model, optimizer}. state: such an item, to go on from. Left behind: `model` in train
    mode, frozen but for that part; torch's global generator seeded; `exact`. FloatingPointError if a loss is
    not finite. ValueError for fewer images than a batch, no such trainable or schedule.
    """
    if batch_size > len(labels):
        raise ValueError(f"batch_size must be at most the number of images, {len(labels)}, got {batch_size}")
    statistics = _one_of("trainable", trainable, TRAINABLE)[1]
    points, shares = _one_of("schedule", schedule, SCHEDULES)
    exact()
    if trainable == "bn_stats":
        lr = 0.0  # γ and β stay, bit for bit, while the statistics follow
    optimizer = optimizer or sgd(set_trainable(model, trainable), lr, weight_decay)
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    done, updates = state["epoch"] if state else 0, len(labels) // batch_size
    attacked = fold_bn(model, fast_dtype()) if eps else None
    if attacked and compiled:
        attacked.compile(dynamic=False, mode="reduce-overhead" if DEVICE.type == "cuda" else None)
    step = dict(eps=eps, step_size=step_size, steps=steps, statistics=statistics)
    total = dict(total=updates * epochs, initial=updates * done, disable=progress is None or done == epochs)
    with tqdm(**total, desc=progress, delay=3, mininterval=5) as bar:
        for epoch in range(done, epochs):
            started = time.perf_counter()
            torch.manual_seed(seed + 1_000_003 * (epoch + 1))
            order = torch.randperm(len(labels), device=DEVICE)
            results = []
            moments = (epoch + np.arange(1, updates + 1) / updates) / epochs
            rates = np.interp(moments, points, np.multiply(shares, lr)).tolist()
            for update in range(updates):  # a last, smaller batch is left out: static shapes
                batch = order[update * batch_size : (update + 1) * batch_size]
                x = to_float(augment(images[batch], pad, flip))
                for group in optimizer.param_groups:
                    group["lr"] = rates[update]
                results.append(train_step(model, optimizer, x, labels[batch], attacked=attacked, **step))
                bar.update()
            losses, correct = (torch.stack(part) for part in zip(*results, strict=True))
            if not losses.isfinite().all():
                raise FloatingPointError(f"epoch {epoch + 1}: the loss is not finite, take an lr below {lr}")
            item = dict(epoch=epoch + 1, loss=losses.mean().item(), seconds=time.perf_counter() - started)
            item |= dict(accuracy=correct.sum().item() / (updates * batch_size), model=model.state_dict())
            item["optimizer"] = optimizer.state_dict()
            yield copy.deepcopy(item)  # the next epoch changes these tensors in place


# ---------------------------------------------------------------------------------------- evaluation
def _numbers(logits):
    """The logits of images as they come. FloatingPointError: one is NaN, which argmax takes for the most."""
    if logits.isnan().any():
        raise FloatingPointError("the network's logits are NaN, so it predicts no class")
    return logits


@torch.no_grad()
def evaluate(
    model, x, y, *, eps, step_size=None, steps=20, restarts=1, dtype=None, batch_size=EVAL_BATCH,
    progress=None,
):  # fmt: skip
    """Clean and PGD accuracy on images x (uint8, or float in [0, 1]; [N, C, H, W]) with labels y.

    Attacked are the images classified correctly, `restarts` times from a random start, by `steps` steps of
    eps / 4 unless `step_size` is given; an image broken after 5 steps or a restart leaves. eps 0: no attack,
    robust is clean. Gradients are the folded copy's in dtype, `fast_dtype` unless given, decisions the
    model's own in float32 and eval mode. Returns dict(clean, robust: bool [N]; clean_predictions,
    adversarial_predictions: int64 [N], when the image left), on the CPU. FloatingPointError: logits of x
    itself that are NaN.
    """
    exact()
    clean, adversarial, attacked = [], [], fold_bn(model, dtype or fast_dtype()) if eps else None
    with eval_mode(model):
        for start in tqdm(range(0, len(y), batch_size), desc=progress, disable=progress is None, delay=3):
            images, labels = to_float(x[start : start + batch_size]), y[start : start + batch_size]
            clean.append(_numbers(model(images)).argmax(1))
            predictions = clean[-1].clone()
            adversarial.append(predictions)  # below it changes in place
            for _ in range(restarts if eps else 0):
                adv = _start(images, eps)
                first = min(5, steps)  # most images that break break early
                for count in (first, steps - first):
                    alive = (predictions == labels).nonzero().squeeze(1)
                    if count and len(alive):
                        part = adv[alive], images[alive], labels[alive]
                        adv[alive] = _ascend(attacked, *part, eps, step_size or eps / 4, count)
                        predictions[alive] = model(adv[alive]).argmax(1)
    clean, adversarial, y = torch.cat(clean).cpu(), torch.cat(adversarial).cpu(), y.cpu()
    predictions = dict(clean_predictions=clean, adversarial_predictions=adversarial)
    return dict(clean=clean == y, robust=adversarial == y) | predictions


def margin(logits, pairs):
    """The loss of a targeted attack, summed: the logit of the second class of each pair less the first's."""
    return logits.gather(1, pairs).diff(dim=1).sum()


@torch.no_grad()
def multi_targeted(
    model, x, y, *, eps, steps=20, alive=None, dtype=None, batch_size=EVAL_BATCH, progress=None
):
    """Which images survive multi-targeted PGD (Gowal et al. 2019): bool [N], on the CPU.

    `steps` steps of eps / 4 from a random start on the margin to each class but the label, the likeliest on
    the clean image first; an image that breaks leaves. A margin shows the way where the cross-entropy is
    saturated. alive: bool [N], attack these alone, the others count as broken. Else as in `evaluate`.
    """
    exact()
    attacked, survivors = fold_bn(model, dtype or fast_dtype()), torch.zeros(len(y), dtype=torch.bool)
    chosen = torch.arange(len(y)) if alive is None else alive.cpu().nonzero().squeeze(1)
    parts = chosen.split(batch_size) if len(chosen) else ()
    with eval_mode(model):
        for part in tqdm(parts, desc=progress, disable=progress is None, delay=3):
            images, labels = to_float(x[part.to(x.device)]), y[part.to(y.device)]
            logits = _numbers(model(images))
            left = (logits.argmax(1) == labels).nonzero().squeeze(1)
            order = logits.scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)
            for target in order[:, :-1].T:
                if len(left):
                    pairs, start = torch.stack([labels[left], target[left]], 1), _start(images[left], eps)
                    adv = _ascend(attacked, start, images[left], pairs, eps, eps / 4, steps, margin)
                    left = left[model(adv).argmax(1) == labels[left]]
            survivors[part[left.cpu()]] = True
    return survivors
