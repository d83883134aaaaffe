"""After new records: no dates in the committed notebooks, and the README says what the records say.

A README table bears its index' name and chooses its columns; between two marks stands the answer of 04.
"""

import re
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearMetadataPreprocessor

from study.decide import axes, claims, select
from study.define import parameters
from study.define.experiment import experiment
from study.define.rows import EVERY
from study.show import answer, claim_tables, tables

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ("finetuned", "random", "perceptron", "linear", "at")  # the rows of the README's table


def rows(table, header):
    """A table's lines in the README, of the columns that its header names."""
    for label in table.index:
        cells = [str(label), *(str(table.loc[label, column]) for column in header[1:])]
        yield "| " + " | ".join(cells) + " |\n"


def readme(text):
    """The README with its answer and its tables from the records, and a table of the parameters."""
    known = select.study_rows(rows=EVERY)
    decided = claims.decide(known, "cpu")
    made = (tables.main({key: known[key] for key in SHOWN}), claim_tables.claims(decided))
    by_head = {table.index.name: table for table in made}

    def renew(block):
        header = [cell.strip() for cell in block[1].strip("| \n").split("|")]
        if header[0] == "parameter":
            return parameters.table()
        if header[0] not in by_head:
            return block[0]
        return block[1] + block[2] + "".join(rows(by_head[header[0]], header))

    said = answer.folded(known, experiment("pretrain"), axes.radius(profile="cpu"))
    text = re.sub(
        r"(<!-- answer -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{said}\n{m[2]}", text, flags=re.DOTALL
    )
    return re.sub(r"(^\|.*\n)(^\|[-|]+\|\n)(?:^\|.*\n)+", renew, text, flags=re.MULTILINE)


if __name__ == "__main__":
    # papermill's times go, the tag of the parameters stays
    kept = dict(
        preserve_cell_metadata_mask={"tags"}, preserve_nb_metadata_mask={"kernelspec", "language_info"}
    )
    clear = ClearMetadataPreprocessor(**kept)
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook, _ = clear.preprocess(nbformat.read(path, as_version=4), {})
        for cell in notebook.cells:  # the preprocessor passes over what is not code
            cell.metadata.pop("papermill", None)
        nbformat.write(notebook, path)
    (ROOT / "README.md").write_text(readme((ROOT / "README.md").read_text()))
