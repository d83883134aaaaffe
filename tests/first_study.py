"""Nothing of the first study was lost: python tests/first_study.py [commit, 819e749 unless given].

Every committed record loads under its name, and the main tables made from those of the first study equal the
ones that it committed, cell by cell. Dropped on purpose: column "robustness", a verdict at 15 %, withdrawn.
Right after the code was rebuilt, at 436c29b, where the first study's defaults were still the profile's, an
earlier version of this script compared all its fifteen tables so: controls, learning rates, checks and the
rest.
"""

import io
import subprocess
import sys
from pathlib import Path

import pandas as pd

from study import ablations, experiments, records, tables

ROOT = Path(__file__).resolve().parent.parent
COMMIT = sys.argv[1] if len(sys.argv) > 1 else "819e749"
NAMES = {
    "BN-only, clean, from scratch": "BN-only clean, random features",
    "BN-only AT, fine-tuned": "BN-only AT, trained features",
    "BN-only AT, from scratch": "BN-only AT, random features",
}


def tables_of_now():
    """{name of a table of then: the same from the records, by today's code}."""
    rows = ablations.first_study()
    rows = {key: rows.get(key, {}) for key in rows.ROWS}
    found = tables.by_seed(rows)
    return {
        "04_main_table": tables.results(found), "04_over_seeds": tables.main(rows),
        "04_paired": tables.pairs(rows), "04_autoattack": tables.autoattack(found),
    }  # fmt: skip


def renamed(text):
    """A label of then as it is now."""
    for old, new in NAMES.items():
        text = text.replace(old, new)
    return text.replace("BN-only AT over random features, no", "BN-only AT, random features, no")


def before(name):
    """A table as it was committed."""
    command = ["git", "show", f"{COMMIT}:figures/{name}.csv"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return pd.read_csv(io.StringIO(text), index_col=0, dtype=str, keep_default_na=False)


def now_of(column, table):
    """The column that has an old one's numbers: the main table's heads name their images now."""
    start = column.removesuffix(" (%)").replace("PGD", "PGD-20") + " %"
    return next((c for c in table.columns if c in (column, renamed(column)) or c.startswith(start)), None)


def compare(old, now):
    """Print the cells that differ from the table `old`; return how many."""
    was, now = before(old), now.fillna("").astype(str)
    equal, other, dropped = 0, 0, []
    for column in was.columns:
        target = now_of(column, now)
        if target is None:
            dropped.append(column)
            continue
        for label in was.index:
            row = renamed(label)
            found = now.loc[row, target] if row in now.index else "no such row"
            same = found == was.loc[label, column]
            equal, other = equal + same, other + (not same)
            if not same:
                print(f"  {old}: {label} | {column}: {was.loc[label, column]!r} is now {found!r}")
    print(f"{old}: {equal} cells equal, {other} not; dropped: {', '.join(dropped) or 'nothing'}")
    return other


if __name__ == "__main__":
    folders = [path for path in sorted((ROOT / "records").glob("*")) if path.is_dir()]
    loaded = [records.read_record(path) for path in folders]
    names = [experiments.identity(record["run"]) for record in loaded]
    same = sum(name == path.name for name, path in zip(names, folders, strict=True))
    print(f"{sum(map(bool, loaded))} of {len(folders)} records load, {same} under their names")
    sys.exit(1 if sum([compare(*pair) for pair in tables_of_now().items()]) else 0)
