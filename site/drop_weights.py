"""Delete the weights of runs that only chose a learning rate: python site/drop_weights.py.

Their records stay, with all that the report shows of them; of the networks that it judges the weights stay.
"""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def only_chose(folder):
    """Whether a record was judged, and on images kept for tuning alone."""
    files = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    evaluations = [content["settings"] for content in files if "settings" in content]
    return bool(evaluations) and all(settings.get("split") == "tuning" for settings in evaluations)


if __name__ == "__main__":
    for path in (ROOT / "records").glob("*/weights.safetensors"):
        if only_chose(path.parent):
            path.unlink()
