"""How runs become a report, on five floors: define, measure, run, decide, show. An import goes down only.

It imports bnat_utils, never the other way round; the notebooks import it.

Decided here: whose code runs. It is that of the clone of the repository that the working directory lies in,
else that of the clone which is installed (pip install -e .): a notebook, which Jupyter runs in notebooks/ and
papermill where it is called, never runs with another clone's code. And bnat_utils is the one beside study/,
not a copy in the working directory.
"""

import sys
from pathlib import Path


def clone_of(folder):
    """The clone of the repository that a folder lies in (it has bnat_utils.py and study/), or None."""
    for place in (folder, *folder.parents):
        if (place / "bnat_utils.py").is_file() and (place / "study" / "__init__.py").is_file():
            return place
    return None


def use(clone):
    """Import from a clone from now on. ImportError: bnat_utils was imported from elsewhere."""
    other = sys.modules.get("bnat_utils")
    if other is not None and Path(other.__file__).resolve().parent != clone:
        raise ImportError(f"import study before bnat_utils: that is {other.__file__}, not the one of {clone}")
    sys.path.insert(0, str(clone))
    return [str(clone / "study")]


__path__ = use(clone_of(Path.cwd().resolve()) or Path(__file__).resolve().parent.parent)
