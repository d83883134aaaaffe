"""After new records: no dates in the committed notebooks, and the README says what the records say.

A README table bears its index' name and chooses its columns; between two marks stands the answer of 04.
"""

import re
import sys
from pathlib import Path

import nbformat
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from study import answer, parameters, records  # noqa: E402
from study.experiments import CONTROLS, NORMALISED, ROWS, experiment  # noqa: E402

TABLES = ("04_main_table", "04_claims")


def rows(table, header):
    """A table's lines in the README, of the columns that its header names."""
    for label in table.index:
        cells = [str(label), *(str(table.loc[label, column]) for column in header[1:])]
        yield "| " + " | ".join(cells) + " |\n"


def readme(text):
    """The README with its answer from the records, its tables from figures/*.csv and from the parameters."""
    tables = {}
    for name in TABLES:
        table = pd.read_csv(ROOT / "figures" / f"{name}.csv", index_col=0, keep_default_na=False)
        tables[table.index.name] = table

    def renew(block):
        header = [cell.strip() for cell in block[1].strip("| \n").split("|")]
        if header[0] == "parameter":
            return parameters.table()
        if header[0] not in tables:
            return block[0]
        return block[1] + block[2] + "".join(rows(tables[header[0]], header))

    known = records.study_rows(rows=ROWS | CONTROLS | NORMALISED)
    said = answer.sentences(known, experiment("pretrain"))
    text = re.sub(
        r"(<!-- answer -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{said}\n{m[2]}", text, flags=re.DOTALL
    )
    return re.sub(r"(^\|.*\n)(^\|[-|]+\|\n)(?:^\|.*\n)+", renew, text, flags=re.MULTILINE)


if __name__ == "__main__":
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for part in (notebook, *notebook.cells):
            part.metadata.pop("papermill", None)
            part.metadata.pop("execution", None)
        nbformat.write(notebook, path)
    (ROOT / "README.md").write_text(readme((ROOT / "README.md").read_text()))
