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


def copy(folder):
    """The repository's own files, without data, checkpoints or what runs have made here."""
    for name in ("notebooks", "records", "figures", "profiles", "bnat_utils.py", "Makefile", "Snakefile", "sweeps.yaml", "requirements.txt"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = copy(tmp_path_factory.mktemp("report"))
    (folder / ".venv").mkdir()
    (folder / ".venv" / "installed").touch()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run("make", "report", f"BIN={Path(sys.executable).parent}", cwd=folder)
    return folder, done, before


def test_make_report(report):
    folder, done, before = report
    assert all(path.read_bytes() == content for path, content in before.items()), "a quick run touched committed files"
    made = sorted((folder / "out" / "quick").glob("*.ipynb"))
    assert [p.stem for p in made] == ["01_pretrain-epsilon=0", "01_pretrain-epsilon=None", "02_bn_finetune", "03_bn_scratch-epsilon=0",
                                      "03_bn_scratch-epsilon=None", "04_robustness"]
    machines = {json.loads(path.read_text())["device"] for path in (folder / "out").rglob("machine.json")}
    assert len(machines) == 1 and ("1 thread" in next(iter(machines)) or "CPU" not in next(iter(machines))), machines
    for path in made:
        assert str(path.relative_to(folder)) in done.stdout
        for cell in nbformat.read(path, as_version=4).cells:
            assert not any(o.output_type == "error" for o in cell.get("outputs", []))
    assert "BN-only AT, from scratch" in done.stdout and re.search(r"it/s|s/it", done.stdout + done.stderr)
    table = pd.read_csv(folder / "out" / "quick" / "figures" / "04_main_table.csv", index_col=0)
    assert len(table) == 5 and not (table == "not yet run").any().any()
    for figure in (folder / "out" / "quick" / "figures").glob("*.png"):
        assert figure.with_suffix(".pdf").stat().st_size > 1000
    claims = pd.read_csv(folder / "out" / "quick" / "figures" / "04_claims.csv", index_col=0)
    assert list(claims.index) == ["C1", "C2", "C3", "C4", "C5", "C6"]
    assert set(claims.verdict) <= {"confirmed", "not confirmed", "contradicted", "not yet run"} and claims.verdict["C6"] == "not yet run"


def test_a_second_report_only_reads(report):
    folder, _, _ = report
    checkpoints = folder / "out" / "quick" / "checkpoints"
    checkpoints.rename(folder / "elsewhere")
    run("papermill", "notebooks/02_bn_finetune.ipynb", "out/again.ipynb", "-p", "profile", "quick", cwd=folder)
    assert not checkpoints.exists(), "a finished run was trained again"
    (folder / "elsewhere").rename(checkpoints)
    said = run("make", "report", f"BIN={Path(sys.executable).parent}", cwd=folder).stderr
    assert "rule run:" not in said and "rule analysis:" in said, "04 is made anew, for what sweeps have added; nothing else is"


def test_a_run_that_fails_leaves_the_rest_of_a_sweep(report):
    folder, _, _ = report
    (folder / "mine.yaml").write_text("report: []\nmine: [{notebook: 03_bn_scratch, lr: [1.0e+20, 0.1], epochs: 1, eval_images: 50, aa_images: 0, check_images: 0}]\n"
                                      "wrong: [{notebook: 02_bn_finetune, seed: -1}]\n")

    def sweep(name):
        return run(sys.executable, "-m", "snakemake", "--cores", "2", "--config", f"sweeps={name}.yaml", "--", "mine", cwd=folder, check=False)

    done = sweep("mine")
    refused = done.stderr.splitlines()[-1]
    assert done.returncode and refused == "mine.yaml: 02_bn_finetune {'seed': -1}: seed must be a whole number from 0 to 2147483647, got -1"
    for table, message in {"wrong: [{notebook: 02_bn_finetune, eps: 8}]": "eps: not among its parameters, profile, data, ", "wrong: 02_bn_finetune": "a table must be a list of rows",
                           "wrong: [": "not a file of tables"}.items():
        (folder / "wrong.yaml").write_text(f"report: []\n{table}\n")
        last = sweep("wrong").stderr.splitlines()[-1]
        assert last.startswith("wrong.yaml: ") and message in last
    (folder / "mine.yaml").write_text((folder / "mine.yaml").read_text().split("wrong")[0])
    done = sweep("mine")
    at = done.stderr.index("FAILED: 03_bn_scratch")
    last = done.stderr[at:].splitlines()
    assert done.returncode and "lr=1e+20" in last[0] and "FloatingPointError: the loss is" in last[1] and (folder / last[2].split("log: ")[1]).is_file()
    assert len(list((folder / "out" / "quick").glob("*lr=0.1*.ipynb"))) == 1 and done.stderr.count("FAILED") == 1
    (folder / "sweeps.yaml").write_text((folder / "mine.yaml").read_text().replace("1.0e+20, ", ""))
    make = ["make", "sweep", f"BIN={Path(sys.executable).parent}"]
    assert "sweeps.yaml: no table mien; there are report, mine, controls" in run(*make, "SWEEP=mien", cwd=folder, check=False).stderr
    assert re.search(r"lr=0\.1.* \(50\)", run(*make, "SWEEP=mine", cwd=folder).stdout), "a sweep shows what has come of it"


@pytest.mark.parametrize("where", [".", "notebooks"])
def test_papermill_as_users_call_it(report, where):
    folder, _, _ = report
    name = "02_bn_finetune.ipynb" if where == "notebooks" else "notebooks/02_bn_finetune.ipynb"
    run("papermill", name, "out.ipynb", "-p", "epsilon", "4", "-p", "epochs", "2",
        "-p", "aa_images", "0", "-p", "check_images", "0", cwd=folder / where)
    text = (folder / where / "out.ipynb").read_text()
    (folder / where / "out.ipynb").unlink()
    assert "4/255" in text and "finetune_resnet8_bn_eps4" in text
    assert re.search(r"02_finetune_bn_eps4_\w{10}_result.csv", " ".join(path.name for path in (folder / "out" / "quick" / "figures").iterdir())), (
        "runs of other epochs would draw over each other")
    run("papermill", "notebooks/04_robustness.ipynb", "out/04.ipynb", "-p", "profile", "quick", cwd=folder)
    table = pd.read_csv(folder / "out" / "quick" / "figures" / "04_main_table.csv", index_col=0)
    assert set(table["test ε"]) == {"32/255"}, "an evaluation of a user's own ε stands in the main table"


@pytest.mark.parametrize("notebook, name, value", [
    ("01_pretrain", "profile", "fast"), ("02_bn_finetune", "epsilon", "-1"), ("03_bn_scratch", "trainable", "everything"),
    ("04_robustness", "arch", "vgg")])
def test_the_last_word_of_papermill_is_the_sentence(tmp_path, notebook, name, value):
    done = run("papermill", f"notebooks/{notebook}.ipynb", "out.ipynb", "-p", name, value, cwd=copy(tmp_path), check=False)
    last = [line for line in done.stderr.splitlines() if line.strip()][-1]
    assert done.returncode and re.match(rf"ValueError: {name}.* must be .*got '?{value}'?$", last), last
    assert not (tmp_path / "out").exists()


def test_a_parameter_that_the_notebook_does_not_have_is_refused(tmp_path):
    done = run("papermill", "notebooks/03_bn_scratch.ipynb", "out.ipynb", "-p", "pretrain_epochs", "3", cwd=copy(tmp_path), check=False)
    last = [line for line in done.stderr.splitlines() if line.strip()][-1]
    assert done.returncode and last.startswith("ValueError: a parameter of this notebook must be one of profile, data, ") and last.endswith("got 'pretrain_epochs'")


def test_the_readme_s_python_runs(digits):
    code, = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    code = code.replace('"svhn", "data"', '"digits"').replace("MyNetwork()", 'bnat.resnet("resnet8", "digits")').replace("[:500]", "[:20]")
    run(sys.executable, "-c", code, cwd=REPOSITORY)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_committed_notebook_is_a_report(notebook):
    read = nbformat.read(REPOSITORY / "notebooks" / f"{notebook}.ipynb", as_version=4)
    cells = read.cells
    assert read.metadata.kernelspec.name == "python3"  # papermill needs it
    code = [c for c in cells if c.cell_type == "code"]
    parameters = [c for c in code if "parameters" in c.metadata.get("tags", [])]
    assert len(parameters) == 1 and all("  # " in line for line in parameters[0].source.splitlines())
    assert all(c.execution_count for c in code) and not any(o.output_type in ("error", "stream") for c in code for o in c.outputs)
    assert all(len(c.source.splitlines()) <= 25 for c in code)
    assert str(REPOSITORY.parent) not in json.dumps(cells)


def nbval(folder):
    return run(sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "notebooks", cwd=folder, check=False,
               BNAT_DATA="/nonexistent")


def test_nbval_committed_notebooks_follow_from_the_records(tmp_path):
    done = nbval(copy(tmp_path))
    assert done.returncode == 0, done.stdout[-5000:]


def test_nbval_sees_a_number_edited_by_hand(tmp_path):
    copy(tmp_path)
    for path in (tmp_path / "notebooks").glob("*.ipynb"):
        if path.stem != "01_pretrain":
            path.unlink()
    path = tmp_path / "notebooks" / "01_pretrain.ipynb"
    notebook = nbformat.read(path, as_version=4)
    table = next(output for cell in notebook.cells for output in cell.get("outputs", []) if "AutoAttack" in output.get("data", {}).get("text/html", ""))
    table.data["text/html"] = re.sub(r"(\d)\.(\d) \[", lambda m: f"{m[1]}.{(int(m[2]) + 1) % 10} [", table.data["text/html"], count=1)
    assert notebook != nbformat.read(path, as_version=4)
    nbformat.write(notebook, path)
    done = nbval(tmp_path)
    assert done.returncode == 1 and re.search(r"\b1 failed", done.stdout), done.stdout[-3000:]


def test_readme_tables_are_the_report_s():
    text = (REPOSITORY / "README.md").read_text()
    assert refresh.readme(text) == text, "make render, or python site/refresh.py, renews them"
    headers = re.findall(r"^\| ([^|]+?) \|.*\n\|-", text, re.MULTILINE)
    names = [pd.read_csv(REPOSITORY / "figures" / f"{name}.csv", index_col=0).index.name for name in refresh.TABLES]
    assert set(names) <= set(headers) and refresh.readme(text.replace("85.2 [84.5", "95.2 [84.5")) == text


def benchmark_rows():
    """The benchmark's table as lines of its README."""
    for row in pd.read_csv(REPOSITORY / "figures" / "benchmark_cpu.csv").to_dict("records"):
        robust = "–" if pd.isna(row["robust %"]) else f"{row['robust %']:.1f} ({row['n']:,.0f})"
        peak = "–" if pd.isna(row["peak MB"]) else f"{row['peak MB']:.0f}"
        speed = "{0} [{1}, {2}]".format(*(f"{v:,.0f}" if v >= 1000 else f"{v:.3g}" for v in (row["images/s"], row["lowest"], row["highest"])))
        yield f"| {row['task']} | {row['variant']} | {speed} | {row['ours / this']:.2f} | {robust} | {peak} |"


def test_its_readme_shows_the_benchmark_as_it_ran():
    shown = [line for line in (REPOSITORY / "benchmarks" / "README.md").read_text().splitlines() if line.startswith(("| AT step", "| PGD-20", "| AutoAttack,", "| input"))]
    assert shown == list(benchmark_rows())


def test_environment_and_requirements_agree():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["-r requirements.txt"]
    lines = [line for line in (REPOSITORY / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = dict(line.split("==") for line in lines)
    assert {"torch", "torchvision", "matplotlib", "pandas", "jupyter", "papermill", "nbval"} <= pins.keys()
    assert {name: version(name).split("+")[0] for name in pins} == pins
