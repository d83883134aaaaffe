"""What a run tells its user in passing, in the notebook and on the terminal.

Decided here: how a line gets to the terminal. Not here: the sentences of the report (show/sentences.py).
"""

import os
import sys


def say(text):
    """Print, in the notebook and on the terminal, where papermill shows nothing of a notebook's output."""
    print(text, flush=True)
    terminal = getattr(sys.stdout, "_original_stdstream_copy", None)  # ipykernel's copy of the process's own
    if terminal is not None:
        os.write(terminal, f"{text}\n".encode())
