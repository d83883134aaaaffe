"""The quick report as a user runs it: make, papermill and Snakemake, on a copy of the repository."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import bnat, copy, execute, run

from study.define import parameters
from study.define.notebook import READING
from study.measure import plan

pytestmark = pytest.mark.slow
BIN = f"BIN={Path(sys.executable).parent}"
FEW = ["-p", "epochs", "2"]
for asked in ("margin_images", "aa_images", "check_images", "small_images"):
    FEW += ["-p", asked, "0"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A copy in which `make report` has run: (folder, what it said, its files as they were before)."""
    folder = copy(tmp_path_factory.mktemp("report"))
    (folder / ".venv").mkdir()
    (folder / ".venv" / "installed").touch()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run("make", "report", BIN, cwd=folder)
    return folder, done, before


def test_a_quick_report_touches_no_committed_file(report):
    assert all(path.read_bytes() == content for path, content in report[2].items())


def test_a_quick_report_makes_every_notebook_and_names_it(report):
    folder, done, _ = report
    made = sorted((folder / "out" / "quick").glob("*.ipynb"))
    runs = ["01_pretrain-epsilon=0", "01_pretrain-epsilon=None", "02_bn_finetune"]
    runs += ["03_bn_scratch-epsilon=0", "03_bn_scratch"]
    assert [p.stem for p in made] == runs + list(READING)
    assert all(str(path.relative_to(folder)) in done.stdout for path in made)


def test_a_quick_report_ran_every_cell_of_its_notebooks_without_an_error(report):
    made = sorted((report[0] / "out" / "quick").glob("*.ipynb"))
    assert len(made) == 10
    for path in made:
        code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        assert all(c.execution_count for c in code if c.source), path.name
        assert not any(o.output_type == "error" for c in code for o in c.outputs), path.name


def test_digits_run_on_one_thread_however_many_are_offered(report):
    folder, offered = report[0], dict(OMP_NUM_THREADS="2")
    command = ["papermill", "notebooks/01_pretrain.ipynb", "out.ipynb", "-p", "profile", "quick"]
    run(*command, "-p", "seed", "5", *FEW, cwd=folder, **offered)
    machine = json.loads(next((folder / "out").rglob("*_seed5_*/machine.json")).read_text())
    assert machine["threads"] == 1


def test_a_quick_report_shows_its_progress_and_its_main_table(report):
    """papermill's bar counts cells; those of training and attacks come after three seconds."""
    said = report[1].stdout + report[1].stderr
    assert "BN-only AT, random features" in said and said.count("Executing: 100%") >= 10


def test_a_quick_report_measures_r_of_every_row_that_it_runs(report):
    figures = report[0] / "out" / "quick" / "figures"
    networks = pd.read_csv(figures / "04_networks.csv", index_col=0)
    assert len(networks) == 5 and not (networks == "not yet run").any().any()


def test_every_figure_of_a_quick_report_is_there_as_png_and_as_pdf(report):
    figures = report[0] / "out" / "quick" / "figures"
    drawn = {kind: {path.stem for path in figures.glob(f"*.{kind}")} for kind in ("png", "pdf")}
    assert drawn["png"] == drawn["pdf"] and len(drawn["pdf"]) >= 15
    assert {"01_pretrain_eps0_curves", "04_headline", "08_bn_layers"} <= drawn["pdf"]
    for name in drawn["pdf"]:
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF-"), name
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name


def test_a_quick_report_lists_every_claim(report):
    claims = pd.read_csv(report[0] / "out" / "quick" / "figures" / "04_claims.csv", index_col=0)
    assert list(claims.index) == ["C1", "C2", "C3", "C4", "C5", "C6", "C6s", "C6b", "C7"]
    words = {"confirmed", "contradicted", "undecided", "not yet run"}
    assert {re.split(r" \(|, |: ", verdict)[0] for verdict in claims.verdict} <= words


def test_a_finished_run_is_only_read(report, monkeypatch):
    monkeypatch.setattr(parameters, "ROOT", report[0])
    monkeypatch.setattr(bnat, "train_step", lambda *_, **__: pytest.fail("it was trained again"))
    monkeypatch.setattr(plan, "measure", lambda *_, **__: pytest.fail("it was evaluated again"))
    assert "finetune_resnet8_bn_eps32" in execute("02_bn_finetune", profile="quick")


def sweep(folder, tables, target="mine"):
    """Run a table of sweeps through Snakemake."""
    (folder / "mine.yaml").write_text(f"report: []\n{tables}\n")
    config = ["--config", "profile=quick", "sweeps=mine.yaml", f"sweep={target}"]
    return run(
        sys.executable, "-m", "snakemake", "--cores", "2", *config, "--", target, cwd=folder, check=False
    )


GOOD = "03_bn_scratch-aa_images=0-check_images=0-epochs=1-eval_images=50-lr=0.1-margin_images=0"
BAD, OTHER = GOOD.replace("lr=0.1", "lr=1e+20"), "03_bn_scratch"


@pytest.fixture(scope="module")
def half_failed(tmp_path_factory):
    """A sweep of two rows, of which one diverges, over notebooks of calls that failed: (folder, call)."""
    folder = copy(tmp_path_factory.mktemp("sweep"))
    (folder / "out" / "quick" / "logs").mkdir(parents=True)
    for name in (GOOD, BAD, OTHER):
        (folder / "out" / "quick" / "logs" / f"{name}.log.123.ipynb").write_text("{}")
    row = "notebook: 03_bn_scratch, epochs: 1, eval_images: 50, margin_images: 0, aa_images: 0"
    return folder, sweep(folder, f"mine: [{{{row}, check_images: 0, lr: [1.0e+20, 0.1]}}]")


def test_a_run_that_fails_leaves_the_rest_of_a_sweep_and_is_named(half_failed):
    folder, done = half_failed
    last = done.stderr[done.stderr.index("FAILED: 03_bn_scratch") :].splitlines()
    assert done.returncode and "lr=1e+20" in last[0] and "the loss is not finite" in last[1]
    assert (folder / last[2].split("log: ")[1]).is_file()
    assert (folder / "out" / "quick" / f"{GOOD}.ipynb").is_file()


def test_half_run_notebooks_go_when_a_later_call_succeeds(half_failed):
    """Those of a job that fails stay, to be looked at; of no other job is one touched."""
    logs = half_failed[0] / "out" / "quick" / "logs"
    assert {path.name.partition(".log.")[0] for path in logs.glob("*.ipynb")} == {BAD, OTHER}


@pytest.mark.parametrize("where", [".", "notebooks"])
def test_papermill_runs_from_the_root_and_from_the_notebooks(report, where):
    folder = report[0]
    name = "02_bn_finetune.ipynb" if where == "notebooks" else "notebooks/02_bn_finetune.ipynb"
    run(
        "papermill",
        name,
        "out.ipynb",
        "-p",
        "profile",
        "quick",
        "-p",
        "epsilon",
        "4",
        *FEW,
        cwd=folder / where,
    )
    text = (folder / where / "out.ipynb").read_text()
    (folder / where / "out.ipynb").unlink()
    assert "4/255" in text and "finetune_resnet8_bn_eps4" in text
