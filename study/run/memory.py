"""Memory: what becomes of what is freed, how too little is recognised, and what a user is told then.

Decided here: which errors mean too little (torch has one for a GPU and none for a CPU). Not here: what
follows for files that were being read (records.py).
"""

import ctypes
import sys
from contextlib import contextmanager

import torch

import bnat_utils as bnat


def keep_freed():
    """Have glibc keep big freed blocks: a fifth more steps of training a second on a CPU.

    Else it hands them back to the kernel, which clears them anew at every layer. Without glibc: nothing.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
        for option, value in ((-3, 2**25), (-1, 2**31 - 1), (-2, 2**28)):
            libc.mallopt(option, value)


def is_lack_of_memory(error):
    """Whether an exception says that memory was too little, and nothing of what was being done with it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # on a CPU torch raises a RuntimeError like any other, so its words must tell
    said = str(error)
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator" in said or "not enough memory: you tried to allocate" in said
    )


@contextmanager
def fits(setting, images):
    """Too little memory for so many images becomes a MemoryError that names the setting."""
    try:
        yield
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
        device = torch.cuda.get_device_name() if bnat.DEVICE.type == "cuda" else bnat.DEVICE
        raise MemoryError(
            f"{device} has too little memory for {images} images at a time ({setting}={images}): "
            f"set {setting} to {max(images // 2, 1)} and run again"
        ) from None
