"""Compiled code: where torch keeps it, and for how long.

Decided here: the folder, which is this repository's own unless a user names another. Not here: whether a
training is compiled (runs.py).
"""

import os
import tempfile
import time
from contextlib import suppress

from study.define import parameters

FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # the variable by which torch is told
DAYS = 30  # after so many it is compiled anew, in a minute, where it is still wanted


def keep():
    """Have code that is compiled once kept for the next run, in a folder that a user named, else in out/."""
    # torch names one in the temporary folder as soon as some of its parts are imported
    of_torch = os.path.join(tempfile.gettempdir(), "torchinductor_")
    if os.environ.get(FOLDER, of_torch).startswith(of_torch):
        os.environ[FOLDER] = str(parameters.ROOT / "out" / "compiled")


def prune():
    """Delete what was compiled long ago, so that code of every network ever tried does not pile up.

    A file that a process has loaded stays its own until it ends. A user's own folder is left alone.
    """
    folder = parameters.ROOT / "out" / "compiled"
    if os.environ.get(FOLDER) != str(folder):
        return
    for path in folder.rglob("*"):
        with suppress(OSError):  # gone meanwhile, or in a folder that cannot be written
            if path.is_file() and path.stat().st_mtime < time.time() - DAYS * 24 * 3600:
                path.unlink()
