"""Processes side by side: which of them is at a run, and what the others say while they wait.

Decided here: how a run is held, how often a waiting process says so, where a user reads it. Not here: what is
done under the lock (runs.py, records.py).
"""

import errno
import os
import socket
import time
from contextlib import suppress

from filelock import FileLock, Timeout

from study.run.terminal import say

FIRST_WORD, SECOND_WORD, LAST_WORDS = 1, 60, 600  # s until a process that waits says so (again), and again


class ReadOnly(OSError):
    """Nothing can be written here."""


def is_read_only(error):
    """Whether an OSError says that nothing may be written here, as in somebody else's checkout."""
    return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


def lock(exp, name=None):
    """Held while a run (or what bears `name`) is made or written; it falls with its process.

    A process that waits says so, for whom, and again with the time that it has waited. ReadOnly: nothing can
    be written here.
    """
    path = exp.out / "locks" / f"{name or exp.name}.lock"
    holder = path.with_suffix(".holder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        acquired = _acquired(FileLock(path, is_singleton=True), path.stem, holder)
    except OSError as error:
        if is_read_only(error):
            raise ReadOnly(f"{path.parent} cannot be written ({error.strerror})") from None
        raise
    with suppress(OSError):  # who has it: a courtesy
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    return acquired


def _acquired(free, name, holder):
    """The lock, however long another process has it. It is one object a process, which may take it twice."""
    started, timeout = time.monotonic(), FIRST_WORD
    while True:
        with suppress(Timeout):
            return free.acquire(timeout=timeout)
        who = ""
        with suppress(OSError):
            who = holder.read_text()
        waited = time.monotonic() - started
        say(
            f"{name}: {who or 'another process'} is at it; process {os.getpid()} has waited for "
            + (f"{waited / 60:.0f} min" if waited > 100 else f"{waited:.0f} s")
        )
        timeout = min(max(2 * timeout, SECOND_WORD), LAST_WORDS)
