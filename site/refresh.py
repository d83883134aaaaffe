"""After new records: take papermill's dates out of the committed notebooks, and renew the tables of the README from figures/*.csv."""
import re
from pathlib import Path

import nbformat
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("04_main_table", "04_over_seeds", "04_controls", "04_dose", "04_claims")  # a README table bears its index' name, and chooses its columns


def rows(table, header):
    """A table's lines in the README, of the columns that its header names."""
    for label in table.index:
        yield "| " + " | ".join([str(label), *(str(table.loc[label, column]) for column in header[1:])]) + " |\n"


def readme(text):
    """The README with its tables as the figures' CSV files have them."""
    tables = {table.index.name: table for name in TABLES for table in [pd.read_csv(ROOT / "figures" / f"{name}.csv", index_col=0, keep_default_na=False)]}

    def renew(block):
        header = [cell.strip() for cell in block[1].strip("| \n").split("|")]
        return block[1] + block[2] + "".join(rows(tables[header[0]], header)) if header[0] in tables else block[0]
    return re.sub(r"(^\|.*\n)(^\|[-|]+\|\n)(?:^\|.*\n)+", renew, text, flags=re.MULTILINE)


if __name__ == "__main__":
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for part in (notebook, *notebook.cells):
            part.metadata.pop("papermill", None)
        nbformat.write(notebook, path)
    (ROOT / "README.md").write_text(readme((ROOT / "README.md").read_text()))
