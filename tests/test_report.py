"""The report as a user runs it: make, papermill and nbval, each on a copy of the repository."""

import json
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY, run

sys.path.insert(0, str(REPOSITORY / "site"))
import refresh  # noqa: E402

NOTEBOOKS = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb"))
READING = ("04_robustness", "05_trust", "06_features")
BIN = f"BIN={Path(sys.executable).parent}"
FILES = ("bnat_utils.py", "Makefile", "Snakefile", "sweeps.yaml", "requirements.txt")
FEW = ["-p", "epochs", "2", "-p", "margin_images", "0", "-p", "aa_images", "0", "-p", "check_images", "0"]


def copy(folder):
    """The repository's own files, without data, checkpoints or what runs have made here."""
    for name in ("notebooks", "records", "figures", "profiles", "study"):
        ignored = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    for name in FILES:
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def last_line(done):
    return [line for line in done.stderr.splitlines() if line.strip()][-1]


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
    runs += ["03_bn_scratch-epsilon=0", "03_bn_scratch-epsilon=None"]
    assert [p.stem for p in made] == runs + list(READING)
    assert all(str(path.relative_to(folder)) in done.stdout for path in made)


def test_a_quick_report_has_no_error_in_its_notebooks(report):
    for path in (report[0] / "out" / "quick").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not any(o.output_type == "error" for o in cell.get("outputs", []))


def test_digits_run_on_one_thread(report):
    machines = [json.loads(path.read_text())["device"] for path in (report[0] / "out").rglob("machine.json")]
    assert machines and all("1 thread" in m or "CPU" not in m for m in machines), machines


def test_a_quick_report_shows_its_progress_and_its_main_table(report):
    said = report[1].stdout + report[1].stderr
    assert "BN-only AT, random features" in said and re.search(r"it/s|s/it", said)


def test_a_quick_report_measures_r_of_every_row_that_it_runs(report):
    figures = report[0] / "out" / "quick" / "figures"
    networks = pd.read_csv(figures / "04_networks.csv", index_col=0)
    assert len(networks) == 5 and not (networks == "not yet run").any().any()


def test_every_figure_of_a_quick_report_is_there_as_pdf(report):
    for figure in (report[0] / "out" / "quick" / "figures").glob("*.png"):
        assert figure.with_suffix(".pdf").stat().st_size > 1000


def test_a_quick_report_lists_every_claim(report):
    claims = pd.read_csv(report[0] / "out" / "quick" / "figures" / "04_claims.csv", index_col=0)
    assert list(claims.index) == ["C1", "C2", "C3", "C4", "C5", "C6", "C6b", "C7"]
    words = {"confirmed", "contradicted", "undecided", "not yet run"}
    assert {verdict.split(" (")[0] for verdict in claims.verdict} <= words


def test_a_second_report_only_reads(report):
    folder = report[0]
    checkpoints = folder / "out" / "quick" / "checkpoints"
    checkpoints.rename(folder / "elsewhere")
    command = ["papermill", "notebooks/02_bn_finetune.ipynb", "out/again.ipynb", "-p", "profile", "quick"]
    run(*command, cwd=folder)
    assert not checkpoints.exists(), "a finished run was trained again"
    (folder / "elsewhere").rename(checkpoints)


def sweep(folder, tables, target="mine"):
    """Run a table of sweeps through Snakemake."""
    (folder / "mine.yaml").write_text(f"report: []\n{tables}\n")
    config = ["--config", "profile=quick", "sweeps=mine.yaml", f"sweep={target}"]
    return run(
        sys.executable, "-m", "snakemake", "--cores", "2", *config, "--", target, cwd=folder, check=False
    )


def test_a_run_that_fails_leaves_the_rest_of_a_sweep_and_is_named(report):
    row = "{notebook: 03_bn_scratch, lr: [1.0e+20, 0.1], epochs: 1, eval_images: 50, margin_images: 0, "
    done = sweep(report[0], f"mine: [{row}aa_images: 0, check_images: 0}}]")
    last = done.stderr[done.stderr.index("FAILED: 03_bn_scratch") :].splitlines()
    assert done.returncode and "lr=1e+20" in last[0] and "FloatingPointError: the loss is" in last[1]
    assert (report[0] / last[2].split("log: ")[1]).is_file()
    assert len(list((report[0] / "out" / "quick").glob("*lr=0.1*.ipynb"))) == 1


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


def test_the_user_s_own_command_shows_the_study_s_run_without_data(tmp_path):
    folder = copy(tmp_path)
    command = ["papermill", "notebooks/02_bn_finetune.ipynb", "out.ipynb", "-p", "epsilon", "8"]
    run(*command, cwd=folder, BNAT_DATA="/nonexistent")
    assert "finetune_resnet20_bn_eps8" in (folder / "out.ipynb").read_text()


@pytest.mark.parametrize(
    "notebook, name, value",
    [
        ("01_pretrain", "profile", "fast"),
        ("02_bn_finetune", "epsilon", "-1"),
        ("03_bn_scratch", "trainable", "everything"),
        ("04_robustness", "arch", "vgg"),
    ],
)
def test_the_last_word_of_papermill_is_the_sentence(tmp_path, notebook, name, value):
    command = ["papermill", f"notebooks/{notebook}.ipynb", "out.ipynb", "-p", name, value]
    done = run(*command, cwd=copy(tmp_path), check=False)
    assert done.returncode and re.match(rf"ValueError: {name} must be .*got '?{value}'?$", last_line(done))
    assert not (tmp_path / "out").exists()


def test_a_parameter_that_the_notebook_does_not_have_is_refused(tmp_path):
    command = ["papermill", "notebooks/03_bn_scratch.ipynb", "out.ipynb", "-p", "pretrain_epochs", "3"]
    last = last_line(run(*command, cwd=copy(tmp_path), check=False))
    assert last.startswith("ValueError: a parameter of this notebook must be one of profile, data, ")
    assert last.endswith("got 'pretrain_epochs'")


def test_the_readme_s_first_python_runs():
    code = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)[0]
    run(sys.executable, "-c", code.replace("[:100]", "[:20]"), cwd=REPOSITORY)


def test_the_readme_is_read_in_five_minutes():
    text = (REPOSITORY / "README.md").read_text()
    prose = re.sub(r"```.*?```|^\|.*?$|<details>.*?</details>", "", text, flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) <= 1500


def cells_of(notebook):
    return nbformat.read(REPOSITORY / "notebooks" / f"{notebook}.ipynb", as_version=4).cells


def is_parameters(cell):
    return {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", []))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_committed_notebooks_ran_without_an_error_or_a_word(notebook):
    code = [c for c in cells_of(notebook) if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert not any(o.output_type in ("error", "stream") for c in code for o in c.outputs)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_committed_notebooks_name_no_folder_of_a_machine(notebook):
    assert str(REPOSITORY.parent) not in json.dumps(cells_of(notebook))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebooks_hold_prose_and_calls(notebook):
    code = [
        c.source.splitlines() for c in cells_of(notebook) if c.cell_type == "code" and not is_parameters(c)
    ]
    assert max(map(len, code)) <= 10 and sum(map(len, code)) <= 60


def nbval(folder):
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "notebooks"]
    return run(*command, cwd=folder, check=False, BNAT_DATA="/nonexistent")


def test_committed_notebooks_follow_from_the_records_alone(tmp_path):
    done = nbval(copy(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:]


def test_nbval_fails_where_a_number_was_edited(tmp_path):
    path = copy(tmp_path) / "notebooks" / "01_pretrain.ipynb"
    for other in path.parent.glob("0[2-9]*.ipynb"):
        other.unlink()
    notebook = nbformat.read(path, as_version=4)
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    table = next(data for data in outputs if "AutoAttack" in data.get("text/html", ""))
    html = re.sub(r"(\d)\.(\d) \[", lambda m: f"{m[1]}.{(int(m[2]) + 1) % 10} [", table["text/html"], count=1)
    assert html != table["text/html"]
    table["text/html"] = html
    nbformat.write(notebook, path)
    done = nbval(tmp_path)
    assert done.returncode == 1 and re.search(r"\b1 failed", done.stdout), done.stdout[-3000:]


def test_the_readme_says_what_the_records_say():
    text = (REPOSITORY / "README.md").read_text()
    assert refresh.readme(text) == text, "make render, or python site/refresh.py, renews it"


def test_a_number_edited_in_the_readme_is_mended():
    text = (REPOSITORY / "README.md").read_text()
    number = re.search(r"\d+\.\d ± \d+\.\d \(\d\)", text)[0]
    assert refresh.readme(text.replace(number, "99.9 ± 0.1 (3)")) == text


def benchmark_rows():
    """The benchmark's table as lines of its README."""
    for row in pd.read_csv(REPOSITORY / "figures" / "benchmark_cpu.csv").to_dict("records"):
        robust = "–" if pd.isna(row["robust %"]) else f"{row['robust %']:.1f} ({row['n']:,.0f})"
        peak = "–" if pd.isna(row["peak MB"]) else f"{row['peak MB']:.0f}"
        speeds = [row[key] for key in ("images/s", "lowest", "highest")]
        speed = "{0} [{1}, {2}]".format(*(f"{v:,.0f}" if v >= 1000 else f"{v:.3g}" for v in speeds))
        ratio = f"{row['ours / this']:.2f}"
        yield f"| {row['task']} | {row['variant']} | {speed} | {ratio} | {robust} | {peak} |"


def test_the_benchmark_s_page_shows_it_as_it_ran():
    lines = (REPOSITORY / "benchmarks" / "README.md").read_text().splitlines()
    kept = ("| AT step", "| PGD-20", "| AutoAttack,", "| input")
    assert [line for line in lines if line.startswith(kept)] == list(benchmark_rows())


def test_conda_s_environment_reads_the_requirements():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["-r requirements.txt"]


def test_what_runs_here_is_what_is_required():
    lines = [
        line
        for line in (REPOSITORY / "requirements.txt").read_text().splitlines()
        if line[:1] not in ("", "#")
    ]
    pins = dict(line.split("==") for line in lines)
    wanted = {"torch", "torchvision", "matplotlib", "pandas", "jupyter", "papermill", "nbval"}
    assert wanted <= pins.keys() and {name: version(name).split("+")[0] for name in pins} == pins
