"""What a run ran on: processor, threads, number format, compiled or not, over every resumption.

Decided here: what of a machine can change a run's last bits or its speed, and how it is said. Not here: what
a run is (define/experiment.py) and how fast it was (show/tables.py).
"""

import platform
import re
from pathlib import Path

import torch

import bnat_utils as bnat

LINUX_CPUS = Path("/proc/cpuinfo")


def processor():
    """The CPU's model, as the system names it."""
    if LINUX_CPUS.exists():
        named = re.search(r"^model name\s*: (.+)$", LINUX_CPUS.read_text(), re.MULTILINE)
        if named:
            return named[1].strip()
    return platform.processor() or platform.machine()


def _on_cpu(threads):
    """What stands for the device where there is no GPU."""
    return f"CPU, {threads} thread(s)"


def here(compiled=False):
    """This machine, with all that can change a run's rounding."""
    cuda, threads = bnat.DEVICE.type == "cuda", torch.get_num_threads()
    return dict(
        device=torch.cuda.get_device_name() if cuda else _on_cpu(threads),
        cpu=processor(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        threads=threads,
        precision=str(bnat.fast_dtype()),
        compiled=compiled,
        torch=str(torch.__version__),
    )


def seen(machine):
    """The machines that trained, in their order; an older machine.json knows one, by fewer words."""
    if not machine["seconds"]:  # nothing was trained
        return []
    return machine.get("machines") or [{key: machine[key] for key in ("device", "precision", "torch")}]


def joined(machines, machine):
    """The list with a machine that it does not have yet."""
    return machines if machine in machines else [*machines, machine]


def with_speed(machines, seconds, images):
    """The content of machine.json: the machines so far, the words of the last, the speed over all.

    seconds: of each epoch; images: in each.
    """
    return machines[-1] | dict(
        machines=machines,
        seconds=seconds,
        peak_memory_bytes=torch.cuda.max_memory_allocated(),
        images_per_second=images * len(seconds) / sum(seconds) if seconds else 0.0,
    )


def described(machine):
    """A machine in a few words; of an older file without the processor's name."""
    if "cpu" not in machine:
        return machine["device"]
    where = machine["cpu"] if machine["device"] == _on_cpu(machine["threads"]) else machine["device"]
    said = f"{where}, {machine['threads']} thread(s)"
    return f"{said}, compiled" if machine["compiled"] else said
