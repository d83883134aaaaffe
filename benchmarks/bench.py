"""How fast are the attack, the training step and the evaluation, and are they as strong as their peers?

python benchmarks/bench.py # a quarter of an hour on two CPU cores; CUDA: ResNet-18 too

Everything runs in one process on the same network, images, batch, steps and threads; variants take turns
within a repeat, each repeat on other images, and a row is the median over repeats with its range. A peer
runs as its documentation uses it and in its best setting: float32 or bfloat16 autocast, NCHW or
channels_last. Writes figures/benchmark_<device>*.csv, .png, .pdf.
"""

import argparse
import functools
import json
import os
import tempfile
import time
from pathlib import Path

import foolbox
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import CIFAR10

from study.measure import attacks
from study.run.runs import bnat, set_up

ROOT = Path(__file__).resolve().parents[1]
EPS, STEP, BATCH = 8 / 255, 2 / 255, 128
CUDA = bnat.DEVICE.type == "cuda"
SETTINGS = [(dtype, layout) for dtype in ("fp32", "bf16 autocast") for layout in ("NCHW", "channels_last")]


class As(nn.Module):
    """A network run in one setting: under autocast or not, in one memory layout; logits in float32."""

    def __init__(self, model, dtype, layout):
        super().__init__()
        self.bf16, self.format = (
            dtype != "fp32",
            torch.channels_last if layout == "channels_last" else torch.contiguous_format,
        )
        self.mean, self.std = model.normalize.mean, model.normalize.std
        self.net = model.to(memory_format=self.format)
        self.net.normalize = nn.Identity()  # ours asks for channels_last, whatever is tried here

    def forward(self, x):
        with torch.autocast(bnat.DEVICE.type, torch.bfloat16, enabled=self.bf16):
            return self.net(((x - self.mean) / self.std).contiguous(memory_format=self.format)).float()


def copy_of(model, *setting):
    twin = bnat.network(model.arch)
    twin.load_state_dict(model.state_dict())
    return (As(twin, *setting) if setting else twin).eval()


def trained(arch):
    """A network to attack: ResNet-20 after some minutes of AT; for speed alone, one of random weights."""
    torch.manual_seed(0)
    model = bnat.network(arch)
    if arch == "resnet20":
        images, labels = (t[:10000] for t in bnat.load_data("cifar10")["train"])
        for _ in bnat.train(model, images, labels, epochs=2, lr=0.1, eps=EPS):
            pass
    model.arch = arch
    return model.eval()


# ------------------------------------------------------------------------------------ measuring
def sync():
    if CUDA:
        torch.cuda.synchronize()


def peak_memory(function, measure=True):
    """Run function(); the peak of the tensors alive meanwhile, above those alive before, in MB."""
    if not measure:
        function()
        return float("nan")
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        function()
    with tempfile.TemporaryDirectory() as folder:
        profile.export_chrome_trace(f"{folder}/trace.json")
        events = [
            e["args"]
            for e in json.loads(Path(f"{folder}/trace.json").read_text())["traceEvents"]
            if e.get("name") == "[memory]"
        ]
    return (
        max(e["Total Allocated"] for e in events) - events[0]["Total Allocated"] + events[0]["Bytes"]
    ) / 1e6


def interleaved(variants, repeats, images, memory=True):
    """{name: function(repeat) -> anything} timed in turns: {name: (images/s each, results, peak MB)}."""
    speeds, results, peaks = {name: [] for name in variants}, {name: [] for name in variants}, {}
    for name, function in variants.items():
        peaks[name] = peak_memory(lambda function=function: function(0), memory)  # the warm-up, too
    for repeat in range(repeats):
        for name, function in variants.items():
            sync()
            started = time.perf_counter()
            results[name].append(function(repeat))
            sync()
            speeds[name].append(images / (time.perf_counter() - started))
    return {name: (speeds[name], results[name], peaks[name]) for name in variants}


def rows(task, measured, n=None, accuracy=None):
    """Table rows of what `interleaved` measured; the first variant is ours. Ratios: paired, the median."""
    ours = np.array(next(iter(measured.values()))[0])
    for name, (speed, results, peak) in measured.items():
        robust = float(torch.cat(results).float().mean()) if accuracy else float("nan")
        yield {
            "task": task,
            "variant": name,
            "images/s": np.median(speed),
            "lowest": min(speed),
            "highest": max(speed),
            "repeats": len(speed),
            "ours / this": np.median(ours / speed),
            "peak MB": peak,
            "robust %": 100 * robust,
            "n": n,
        }


# -------------------------------------------------------------------------------- training step
def textbook_step(model, optimizer, x, y, train_mode=True):
    """PGD-7 AT as fast_adversarial's train_pgd does it (Wong et al. 2020): the attack in train mode, each
    of its steps a whole backward pass. train_mode=False: the attack in eval mode, of the input's gradient."""
    model.train(train_mode)
    delta = torch.clamp(torch.empty_like(x).uniform_(-EPS, EPS), -x, 1 - x).requires_grad_()
    for _ in range(7):
        loss = F.cross_entropy(model(x + delta), y)
        if train_mode:
            optimizer.zero_grad()
            loss.backward()
            gradient = delta.grad
        else:
            (gradient,) = torch.autograd.grad(loss, delta)
        with torch.no_grad():
            delta = torch.clamp(torch.clamp(delta + STEP * gradient.sign(), -EPS, EPS), -x, 1 - x)
        delta.requires_grad_()
    model.train()
    output = model(x + delta.detach())
    loss = F.cross_entropy(output, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), (output.argmax(1) == y).sum().item()


def sgd(model):
    return torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        0.01,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
    )


def our_step(model, part="all", steps=7, compiled=True):
    """A function (x, y) that makes one update, set up as `bnat.train` does."""
    bnat.set_trainable(model, part)
    optimizer, attacked = sgd(model), bnat.fold_bn(model, bnat.fast_dtype())
    if compiled:
        attacked.compile(dynamic=False, mode="reduce-overhead" if CUDA else None)
    settings = dict(eps=EPS, step_size=STEP, steps=steps, attacked=attacked)
    return lambda x, y: bnat.train_step(model, optimizer, x, y, **settings)[0].item()


def training(model, x, y, repeats):
    def at(function):
        return lambda repeat: function(
            x[repeat * BATCH : (repeat + 1) * BATCH], y[repeat * BATCH : (repeat + 1) * BATCH]
        )

    variants = {
        "ours, all weights": at(our_step(copy_of(model))),
        "ours, all weights, not compiled": at(our_step(copy_of(model), compiled=False)),
        "ours, BN only": at(our_step(copy_of(model), "bn")),
    }
    for name, train_mode in (("textbook (train_pgd)", True), ("eval-mode attack, BN not folded", False)):
        for setting in SETTINGS:
            twin = copy_of(model, *setting)
            optimizer = sgd(twin)
            step = functools.partial(textbook_step, twin, optimizer, train_mode=train_mode)
            variants[f"{name}, {', '.join(setting)}"] = at(step)
    return rows(f"AT step, PGD-7, batch {BATCH}", interleaved(variants, repeats, BATCH))


# ----------------------------------------------------------------------------------- evaluation
def evaluation(model, x, y, repeats, n):
    def survivors(attack):
        def of(repeat):
            images, labels = x[repeat * n : (repeat + 1) * n], y[repeat * n : (repeat + 1) * n]
            adv = torch.cat(
                [attack(a, b) for a, b in zip(images.split(BATCH), labels.split(BATCH), strict=True)]
            ).detach()
            with torch.no_grad():
                return (
                    model(adv).argmax(1) == labels
                ).cpu()  # every variant is judged by the network itself, in float32

        return of

    def foolbox_pgd(net):
        fmodel, attack = (
            foolbox.PyTorchModel(net, bounds=(0, 1)),
            foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=20),
        )
        return lambda images, labels: attack(fmodel, images, labels, epsilons=EPS)[1]

    def art_pgd(net):
        estimator = PyTorchClassifier(
            net,
            nn.CrossEntropyLoss(),
            (3, 32, 32),
            10,
            clip_values=(0, 1),
            device_type="gpu" if CUDA else "cpu",
        )
        attack = ProjectedGradientDescent(
            estimator, eps=EPS, eps_step=STEP, max_iter=20, num_random_init=1, batch_size=BATCH, verbose=False
        )
        return lambda images, labels: torch.from_numpy(
            attack.generate(images.cpu().numpy(), labels.cpu().numpy())
        ).to(images)

    def apgd_ce(net):
        attack = APGDAttack(
            net, n_iter=20, norm="Linf", eps=EPS, n_restarts=1, seed=0, loss="ce", device=str(bnat.DEVICE)
        )
        return lambda images, labels: attack.perturb(images, labels)

    folded = bnat.fold_bn(model, bnat.fast_dtype())
    variants = {
        "ours (evaluate)": lambda r: bnat.evaluate(
            model, x[r * n : (r + 1) * n], y[r * n : (r + 1) * n], eps=EPS
        )["robust"],
        "ours, every image to the end (pgd)": survivors(
            lambda a, b: bnat.pgd(folded, a, b, eps=EPS, step_size=STEP, steps=20)
        ),
    }
    for name, attack in (
        ("foolbox LinfPGD", foolbox_pgd),
        ("ART ProjectedGradientDescent", art_pgd),
        ("pyautoattack APGD-CE", apgd_ce),
    ):
        for setting in (SETTINGS[0], SETTINGS[3]):
            variants[f"{name}, {', '.join(setting)}"] = survivors(attack(copy_of(model, *setting)))
    return rows("PGD-20 evaluation", interleaved(variants, repeats, n), n * repeats, accuracy=True)


def autoattack(model, x, y, repeats, n):
    def plain(repeat):
        attack = AutoAttack(plain_net, norm="Linf", eps=EPS, version="standard", seed=0, device=bnat.DEVICE)
        attack.verbose = False
        images, labels = x[repeat * n : (repeat + 1) * n], y[repeat * n : (repeat + 1) * n]
        adv, _ = attack.run_standard_evaluation(images, labels, batch_size=250)
        with torch.no_grad():
            return (model(adv).argmax(1) == labels).cpu()

    plain_net = copy_of(model, *SETTINGS[0])
    variants = {
        "ours": lambda r: attacks.autoattack(model, x[r * n : (r + 1) * n], y[r * n : (r + 1) * n], eps=EPS)[
            "square"
        ],
        "pyautoattack, fp32, NCHW": plain,
    }
    measured = {name: ([], [], float("nan")) for name in variants}
    for repeat in range(repeats):  # no warm-up: a run takes minutes
        for name, function in variants.items():
            sync()
            started = time.perf_counter()
            measured[name][1].append(function(repeat))
            measured[name][0].append(n / (time.perf_counter() - started))
    return rows("AutoAttack, standard", measured, n * repeats, accuracy=True)


def precision(model, x, y, seeds=5):
    """PGD-20 by gradients in float32 and in bfloat16, BN folded in both: a row a seed."""
    nets = {"fp32": bnat.fold_bn(model), "bf16": bnat.fold_bn(model, torch.bfloat16)}
    for seed in range(seeds):
        row = {"seed": seed, "n": len(y)}
        for name, net in nets.items():
            torch.manual_seed(seed)
            with torch.no_grad():
                adv = torch.cat(
                    [
                        bnat.pgd(net, a, b, eps=EPS, step_size=STEP, steps=20)
                        for a, b in zip(x.split(500), y.split(500), strict=True)
                    ]
                )
                row[f"robust %, {name} gradients"] = 100 * (model(adv).argmax(1) == y).float().mean().item()
        yield row


def pipeline(images, labels, root, repeats, n=4096):
    """Batches of augmented training images, ready on the device."""

    def ours(repeat):
        order = torch.randperm(len(labels), device=bnat.DEVICE)[:n]
        for batch in order.split(BATCH):
            bnat.to_float(bnat.augment(images[batch], 4, True)), labels[batch]

    chain = transforms.Compose(
        [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    dataset = torch.utils.data.Subset(CIFAR10(root, transform=chain), range(n))

    def torch_loader(workers):
        def of(repeat):
            for a, b in DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, pin_memory=CUDA):
                a.to(bnat.DEVICE), b.to(bnat.DEVICE)

        return of

    return rows(
        "input pipeline",
        interleaved(
            {
                "ours": ours,
                "DataLoader + torchvision transforms": torch_loader(0),
                "the same, 2 workers": torch_loader(2),
            },
            repeats,
            n,
            memory=False,
        ),
    )


# -------------------------------------------------------------------------------- how cost grows
STUDY = {"batch": BATCH, "attack steps": 7, "width": 1, "layers": 20}  # the study's own point on each axis


def scaling(x, y, repeats=3):
    """Images a second of our AT step against batch, attack steps, width and depth, from ResNet-20's."""
    bnat.ARCHS.update(
        {f"width x{k:g}": (tuple(int(16 * k * 2**i) for i in range(3)), 3) for k in (0.5, 1, 2)}
        | {f"{6 * k + 2} layers": ((16, 32, 64), k) for k in (1, 3, 9)}
    )
    points = [("batch", b, "resnet20", b, 7) for b in (32, 64, 128, 256, 512)] + [
        ("attack steps", s, "resnet20", BATCH, s) for s in (1, 3, 7, 20)
    ]
    points += [("width", k, f"width x{k:g}", BATCH, 7) for k in (0.5, 1, 2)] + [
        ("layers", 6 * k + 2, f"{6 * k + 2} layers", BATCH, 7) for k in (1, 3, 9)
    ]
    for axis, value, arch, batch, steps in points:
        step = our_step(bnat.network(arch), steps=steps, compiled=False)
        speed, _, peak = interleaved({"": lambda _, b=batch, step=step: step(x[:b], y[:b])}, repeats, batch)[
            ""
        ]
        yield {
            "axis": axis,
            "value": value,
            "images/s": np.median(speed),
            "lowest": min(speed),
            "highest": max(speed),
            "peak MB": peak,
        }


def draw(scale, stem):
    """Speed against each axis of `scaling`, as a multiple of the study's own point in the same panel.

    The panels were timed one after another, so their speeds are of other minutes of the machine.
    """
    with plt.style.context(ROOT / "notebooks" / "bnat.mplstyle"):
        figure, axes = plt.subplots(1, 4, figsize=(7.2, 2.1), sharey=True)
        for axis, (what, points) in zip(axes, scale.groupby("axis", sort=False), strict=True):
            own = points.loc[points["value"] == STUDY[what], "images/s"].item()
            speed, low, high = (points[column] / own for column in ("images/s", "lowest", "highest"))
            axis.errorbar(points["value"], speed, [speed - low, high - speed], marker="o")
            axis.axhline(1, color="grey", linestyle=":", linewidth=1)
            axis.set(xscale="log", yscale="log", xlabel={"width": "width (x 16, 32, 64)"}.get(what, what))
            axis.set_title(f"1 = {own:.0f} images/s at {STUDY[what]:g}")
            axis.set_xticks(points["value"], [f"{value:g}" for value in points["value"]])
            axis.set_yticks([0.25, 0.5, 1, 2], ["¼", "½", "1", "2"])
            axis.minorticks_off()
        axes[0].set_ylabel("AT speed, relative")
        for suffix, metadata in (("png", None), ("pdf", {"CreationDate": None})):
            figure.savefig(f"{stem}_scaling.{suffix}", metadata=metadata)


def flop_floor(model, x):
    """FLOP an image of one PGD-7 AT step, and the device's matmul peak in `fast_dtype`, FLOP/s.

    A forward pass is counted by torch; the gradient by a layer's input, and that by its weights, cost as
    much again each: 2 passes for each of 7 attack steps, 3 for the update.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x[:BATCH])
    a = torch.randn(
        8192 if CUDA else 2048, 8192 if CUDA else 2048, device=bnat.DEVICE, dtype=bnat.fast_dtype()
    )
    speed = interleaved({"": lambda _: a @ a}, 10, 2 * len(a) ** 3, memory=False)[""][0]
    return (7 * 2 + 3) * counter.get_total_flops() / BATCH, max(speed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--aa-images", type=int, default=12, help="a repeat; there are two")
    parser.add_argument("--out", type=Path, default=ROOT / "figures")
    options = parser.parse_args()
    set_up()  # the memory of the process as runs have it
    bnat.exact()
    data, device = bnat.load_data("cifar10"), bnat.DEVICE.type
    x, y = bnat.to_float(data["test"][0]), data["test"][1]
    root, table, floors = os.environ.get("BNAT_DATA") or ROOT / "data", [], []
    started = time.perf_counter()

    def say(what):
        print(f"{time.perf_counter() - started:5.0f} s  {what}", flush=True)

    for arch in ("resnet20", "resnet18") if CUDA else ("resnet20",):
        say(f"{arch}: the network to attack")
        model = trained(arch)
        model.eval().requires_grad_(False)
        say(f"{arch}: training step")
        part = list(training(model, x, y, 2 * options.repeats))
        print(pd.DataFrame(part).round(2).to_string(), flush=True)
        flop, peak = flop_floor(model, x)
        floors.append(
            {
                "arch": arch,
                "MFLOP an image": flop / 1e6,
                "matmul peak GFLOP/s": peak / 1e9,
                "floor images/s": peak / flop,
                "ours images/s": part[0]["images/s"],
                "share of the floor %": 100 * part[0]["images/s"] * flop / peak,
            }
        )
        say(f"{arch}: evaluation by PGD-20")
        part += evaluation(model, x, y, 3, 256)
        print(pd.DataFrame(part).round(2).to_string(), flush=True)
        if arch == "resnet20":
            say(f"{arch}: AutoAttack")
            part += autoattack(model, x, y, 2, options.aa_images)
        table += [{"network": arch, **row} for row in part]
        if arch == "resnet20":
            say("gradients in bfloat16 against float32")
            bf16 = pd.DataFrame(precision(model, x[:500], y[:500]))
    say("input pipeline")
    table += [{"network": "-", **row} for row in pipeline(*data["train"], root, options.repeats)]
    say("how cost grows")
    scale = pd.DataFrame(scaling(x, y))
    say("done")

    table, stem = pd.DataFrame(table), options.out / f"benchmark_{device}"
    name = torch.cuda.get_device_name() if CUDA else f"CPU, {torch.get_num_threads()} threads"
    table.insert(0, "device", f"{name}, torch {torch.__version__}")
    for suffix, frame in (
        ("", table),
        ("_bf16", bf16),
        ("_floor", pd.DataFrame(floors)),
        ("_scaling", scale),
    ):
        frame.round(2).to_csv(f"{stem}{suffix}.csv", index=False)
        print(f"\n{frame.drop(columns='device', errors='ignore').round(2).to_string(index=False)}")
    draw(scale, stem)


if __name__ == "__main__":
    main()
