"""Nothing of the first study was lost: python tests/first_study.py [commit, 819e749 unless given].

Run once, after the code was rebuilt: every committed record loads under its name, and the tables made from
the records equal those committed before, cell by cell. Dropped on purpose: columns "robustness" (a verdict
at 15 %, withdrawn) and "expected" of the checks; the checks' marks follow paired tests now, so that only the
measured accuracies are compared.
"""

import io
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from study import experiments, records  # noqa: E402

COMMIT = sys.argv[1] if len(sys.argv) > 1 else "819e749"
LABELS = {
    "BN-only, clean, from scratch": "BN-only clean, random features",
    "BN-only AT, fine-tuned": "BN-only AT, trained features",
    "BN-only AT, from scratch": "BN-only AT, random features",
}
TABLES = {
    "04_main_table": "04_networks", "04_over_seeds": "04_main_table", "04_paired": "04_paired",
    "04_controls": "06_controls", "04_lr": "06_lr", "04_checks": "05_checks",
    "04_random_features": "06_random_features", "04_dose": "06_dose", "04_shipped": "06_shipped",
    "04_autoattack": "05_autoattack", "04_bn": "06_bn", "04_features": "06_features",
    "04_suppression": "06_suppression", "04_transfer": "05_transfer", "04_costs": "04_costs",
}  # fmt: skip


def renamed(text):
    """A label of then as it is now."""
    for old, new in LABELS.items():
        text = text.replace(old, new)
    return text.replace("BN-only AT over random features, no", "BN-only AT, random features, no")


def before(name):
    """A table as it was committed."""
    command = ["git", "show", f"{COMMIT}:figures/{name}.csv"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return pd.read_csv(io.StringIO(text), index_col=0, dtype=str, keep_default_na=False)


def measured(cell):
    """A cell without the mark of a check's verdict."""
    return cell.removesuffix(" ✓").removesuffix(" ✗")


def now_of(column, table):
    """The column that has an old one's numbers: the main table's heads name their images now."""
    start = column.removesuffix(" (%)").replace("PGD", "PGD-20") + " %"
    return next((c for c in table.columns if c in (column, renamed(column)) or c.startswith(start)), None)


def compare(old, new):
    """Print the cells that differ; return how many were equal and how many were not."""
    was, now = before(old), pd.read_csv(ROOT / "figures" / f"{new}.csv", index_col=0, dtype=str)
    now = now.fillna("")
    now.index = now.index.astype(str)
    equal, other, dropped = 0, 0, []
    for column in was.columns:
        target = now_of(column, now)
        if target is None or column == "expected":
            dropped.append(column)
            continue
        for label in was.index.astype(str):
            then = measured(was.loc[label if label in was.index else int(label), column])
            found = (
                measured(now.loc[renamed(label), target]) if renamed(label) in now.index else "no such row"
            )
            equal, other = equal + (then == found), other + (then != found)
            if then != found:
                print(f"  {old}: {label} | {column}: {then!r} is now {found!r}")
    print(f"{old} -> {new}: {equal} cells equal, {other} not; dropped: {', '.join(dropped) or 'nothing'}")
    return other


if __name__ == "__main__":
    folders = [path for path in sorted((ROOT / "records").glob("*")) if path.is_dir()]
    loaded = [records.read_record(path) for path in folders]
    names = [experiments.identity(record["run"]) for record in loaded]
    same = sum(name == path.name for name, path in zip(names, folders, strict=True))
    print(f"{sum(map(bool, loaded))} of {len(folders)} records load, {same} under their names")
    sys.exit(1 if sum([compare(*pair) for pair in TABLES.items()]) else 0)
