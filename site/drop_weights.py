"""Delete the weights that need no place in the repository: python site/drop_weights.py.

Those of runs that only chose a learning rate, and of C7's networks but the first seed's from which AT of
their affine parameters starts, once all that the report shows of them is measured. Their records stay.
"""

import json
from pathlib import Path

from study.define.experiment import experiment
from study.define.normalisations import NORMS
from study.define.parameters import PROFILES
from study.define.rows import NORMALISED

ROOT = Path(__file__).resolve().parent.parent
FIRST = PROFILES["cpu"]["seed"]
NO_PARENTS = {
    experiment(row.step, **row.parameters, seed=seed).name
    for row in NORMALISED.values()
    for seed in (FIRST, FIRST + 1, FIRST + 2)
    if seed > FIRST or not NORMS[row.parameters["norm"]].affine
}


def only_chose(folder):
    """Whether a record was judged, and on images kept for tuning alone."""
    files = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    evaluations = [content["settings"] for content in files if "settings" in content]
    return bool(evaluations) and all(settings.get("split") == "tuning" for settings in evaluations)


def dispensable(folder):
    """Whether the weights of a record are deleted."""
    judged = any(folder.glob("small_*.json"))  # which the claim C7 reads, and which is measured last
    return (folder.name in NO_PARENTS and judged) or only_chose(folder)


if __name__ == "__main__":
    for path in (ROOT / "records").glob("*/weights.safetensors"):
        if dispensable(path.parent):
            path.unlink()
