"""Delete the weights that need no place in the repository: python site/drop_weights.py.

Those of runs that only chose a learning rate, and of C7's networks from which no other run starts, once all
that sweeps.yaml asks of them is measured. Their records stay.
"""

import json
from pathlib import Path

from study.measure.plan import evaluations
from study.run import sweeps

ROOT = Path(__file__).resolve().parent.parent


def asked():
    """{name of a run: file names of all that is asked of it}, of C7's runs from which no other starts."""
    tables, jobs = sweeps.load(ROOT / "sweeps.yaml", "cpu")
    runs = {name: sweeps.run_of(job, "cpu") for name, job in jobs.items()}
    parents = {exp.parent.name for exp in runs.values() if exp.parent}
    of_c7 = {runs[job].name for table, made in tables.items() if table.startswith("norms") for job in made}
    wanted = {name: set() for name in of_c7 - parents}
    for exp in runs.values():
        if exp.name in wanted:
            wanted[exp.name].update(f"{name}.json" for name in evaluations(exp))
    return wanted


def only_chose(folder):
    """Whether a record was judged, and on images kept for tuning alone."""
    files = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    made = [content["settings"] for content in files if "settings" in content]
    return bool(made) and all(settings.get("split") == "tuning" for settings in made)


def dispensable(folder, wanted):
    """Whether the weights of a record are deleted; wanted: what is `asked`."""
    measured = {path.name for path in folder.glob("*.json")}
    return (folder.name in wanted and wanted[folder.name] <= measured) or only_chose(folder)


if __name__ == "__main__":
    wanted = asked()
    for path in (ROOT / "records").glob("*/weights.safetensors"):
        if dispensable(path.parent, wanted):
            path.unlink()
