"""Delete the weights that need no place in the repository: python site/drop_weights.py.

Those of runs that are judged on images kept for tuning alone, of C7's networks and those beside them, of runs
that one at a rate tuned at its ε replaced, and of large networks on which no verdict rests; where no run has
started from them, and once all that sweeps.yaml asks of them is measured. Their records stay. For a run that
starts from them later the weights come from the repository's history, or are trained again.
"""

import json
from pathlib import Path

from study.decide.axes import RADIUS_RATES
from study.define.experiment import experiment
from study.define.rows import BESIDE_C7, EVERY, NORMALISED
from study.measure.plan import evaluations
from study.run import sweeps

ROOT = Path(__file__).resolve().parent.parent
# half a megabyte and more a network, and no verdict rests on it: rows, and what sets them apart
LARGE = (("at", dict(epsilon=2)), ("at", dict(epsilon=4)), ("perceptron_long", {}))


def asked():
    """{run: file names of all that is asked of it}, of the runs whose weights may go, as said above."""
    _, jobs = sweeps.load(ROOT / "sweeps.yaml", "cpu")
    runs = [sweeps.run_of(job, "cpu") for job in jobs.values()]
    known = [json.loads(path.read_bytes()) for path in (ROOT / "records").glob("*/run.json")]
    parents = {record["run"]["parent"] for record in known}
    seeds = {exp.run["seed"] for exp in runs}
    of_c7 = [(key, {}) for key in NORMALISED | BESIDE_C7]
    replaced = [(key, dict(epsilon=eps)) for key, tuned in RADIUS_RATES.items() for eps in tuned]
    may_go = {
        experiment(EVERY[key].step, **EVERY[key].among(dict(seed=seed) | other)).name
        for key, other in (*of_c7, *replaced, *LARGE)
        for seed in seeds
    }
    wanted = {name: set() for name in {exp.name for exp in runs} & may_go - parents}
    for exp in runs:
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
