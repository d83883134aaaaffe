"""What is committed: notebooks, README and versions follow from the records and say what they say."""

import re
import sys
from importlib.metadata import version

import nbformat
import pandas as pd
import pytest
import refresh
import yaml
from conftest import REPOSITORY, copy, run
from packaging.requirements import Requirement

NOTEBOOKS = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb"))


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
    cells = cells_of(notebook)
    code = [c for c in cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert not any("papermill" in c.metadata for c in cells), "its times are no result"
    assert not any(o.output_type in ("error", "stream") for c in code for o in c.outputs)


FOLDER = r"(?<![\w.:/<])/[A-Za-z]\w*/\w|\b[A-Z]:\\"  # from the root of a disk: no link, no tag, no 8/255


def texts_of(notebook):
    """What a reader sees of a notebook, its figures apart."""
    for cell in cells_of(notebook):
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield from (text for kind, text in output.get("data", {}).items() if kind.startswith("text"))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_committed_notebooks_name_no_folder_of_a_machine(notebook):
    assert not [text for text in texts_of(notebook) if re.search(FOLDER, text)]


@pytest.mark.parametrize("text", ["in '/home/me/bnat/study'", "/tmp/x.pt cannot be used", r"C:\Users"])
def test_a_folder_of_a_machine_is_found(text):
    assert re.search(FOLDER, text)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebooks_hold_prose_and_calls(notebook):
    code = [
        c.source.splitlines() for c in cells_of(notebook) if c.cell_type == "code" and not is_parameters(c)
    ]
    assert max(map(len, code)) <= 10 and sum(map(len, code)) <= 60


def nbval(folder):
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "notebooks"]
    return run(*command, cwd=folder, check=False, BNAT_DATA="/nonexistent")


def tables(folder):
    """{name: content} of a folder's CSVs, without the benchmark's, which no notebook makes."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.glob("*.csv"))
        if not path.name.startswith("benchmark_")
    }


def edited(made, committed):
    """The tables that are not committed byte for byte as they were made, or not committed, or not made."""
    return [name for name in sorted(made | committed) if made.get(name) != committed.get(name)]


def test_committed_notebooks_and_tables_follow_from_the_records_alone(tmp_path):
    done = nbval(copy(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:]
    for notebook, epsilon in (("01_pretrain", "None"), ("03_bn_scratch", "0")):  # make render runs them, too
        command = ["papermill", f"notebooks/{notebook}.ipynb", "again.ipynb", "-p", "epsilon", epsilon]
        run(*command, cwd=tmp_path, BNAT_DATA="/nonexistent")
    made = tables(tmp_path / "out" / "cpu" / "figures")
    assert not edited(made, tables(REPOSITORY / "figures")), "make render renews them"


def test_a_number_edited_in_a_table_is_found():
    committed = tables(REPOSITORY / "figures")
    assert {"01_all_runs.csv", "04_main_table.csv", "07_claim.csv"} <= committed.keys()
    for name, content in committed.items():
        digit = re.search(rb"\d(?=\D*$)", content)
        if digit:
            at, other = digit.start(), b"1" if digit[0] == b"0" else b"0"
            changed = committed | {name: content[:at] + other + content[at + 1 :]}
            assert edited(committed, changed) == [name]


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


def made_parts(text):
    """What of the README is made from records and parameters: the answer, and its tables with their heads."""
    heads = "mean ± sd \\(seeds\\)|claim|parameter"
    tables = re.findall(rf"^\| (?:{heads}) \|.*\n\|[-|]+\n(?:\|.*\n)+", text, re.MULTILINE)
    return re.findall(r"<!-- answer -->\n(.*?)<!-- end -->", text, re.DOTALL) + tables


def test_whatever_is_edited_in_the_readme_s_answer_and_tables_is_mended():
    text = (REPOSITORY / "README.md").read_text()
    parts = made_parts(text)
    assert len(parts) == 4, "the answer, the main table, the claims, the parameters"
    changed = text
    lines = [line for line in parts[0].splitlines() if line.startswith("- ")]
    lines += [line for table in parts[1:] for line in table.splitlines()[2:]]
    for line in lines:
        at = re.search(r"\w(?=\W*$)", line).start()  # its last digit or letter
        changed = changed.replace(line, line[:at] + ("8" if line[at] != "8" else "9") + line[at + 1 :])
    assert changed.count("\n") == text.count("\n") and changed != text
    assert refresh.readme(changed) == text


def benchmark_rows():
    """The benchmark's table as lines of its README."""
    for row in pd.read_csv(REPOSITORY / "figures" / "benchmark_cpu.csv").to_dict("records"):
        robust = "–" if pd.isna(row["robust %"]) else f"{row['robust %']:.1f} ({row['n']:,.0f})"
        peak = "–" if pd.isna(row["peak MB"]) else f"{row['peak MB']:.0f}"
        speeds = [row[key] for key in ("images/s", "lowest", "highest")]
        speed = "{0} [{1}, {2}]".format(*(f"{v:,.0f}" if v >= 1000 else f"{v:.3g}" for v in speeds))
        ratio = f"{row['ours / this']:.2f}"
        yield f"| {row['task']} | {row['variant']} | {speed} | {ratio} | {robust} | {peak} |"


def test_the_benchmark_s_page_shows_its_table():
    lines = (REPOSITORY / "benchmarks" / "README.md").read_text().splitlines()
    kept = ("| AT step", "| PGD-20", "| AutoAttack,", "| input")
    assert [line for line in lines if line.startswith(kept)] == list(benchmark_rows())


def test_the_sentences_on_speed_follow_from_the_benchmark_s_tables():
    files = {name: REPOSITORY / "figures" / f"benchmark_cpu{name}.csv" for name in ("", "_floor", "_scaling")}
    speed, floor, scaling = (pd.read_csv(path) for path in files.values())
    steps = speed[speed.task.str.startswith("AT step")].set_index("variant")
    slower = steps["ours / this"].filter(like="textbook")
    best, plain = slower.min(), slower["textbook (train_pgd), fp32, NCHW"]
    said = [f"{plain:.1f} times as fast as the textbook loop", f"{best:.1f} times as fast as its best"]
    page = (REPOSITORY / "benchmarks" / "README.md").read_text()
    for text in (page, (REPOSITORY / "README.md").read_text()):
        assert all(sentence in " ".join(text.split()) for sentence in said)
    share = floor["share of the floor %"].item()
    assert f"{share:.0f} % of the FLOP floor" in page
    ours = floor["ours images/s"].item()
    assert share == pytest.approx(100 * ours / floor["floor images/s"].item(), abs=0.01)
    assert ours == steps["images/s"]["ours, all weights"]
    one_step = scaling[(scaling.axis == "attack steps") & (scaling.value == 1)]["images/s"].item()
    assert f"49,000 / {one_step:.0f} a second" in page
    gradients = pd.read_csv(REPOSITORY / "figures" / "benchmark_cpu_bf16.csv")
    assert "the same robust accuracy as with float32 gradients, seed by seed" in " ".join(page.split())
    assert (gradients["robust %, fp32 gradients"] == gradients["robust %, bf16 gradients"]).all()


def test_the_sentences_on_the_gpu_follow_from_the_costs():
    costs = pd.read_csv(REPOSITORY / "figures" / "04_costs.csv")
    on_gpu = costs.device == "NVIDIA H200, 1 thread(s)"  # from the first epoch to the last
    runs = costs[on_gpu & costs.run.str.contains("_resnet20_(?:all|bn)")]
    speed = runs["images/s, training"].str.replace(",", "").astype(int)
    minutes = runs["minutes"].astype(float)
    page, readme = (REPOSITORY / part for part in ("benchmarks/README.md", "README.md"))
    ranges = f"{speed.min():,} to {speed.max():,} images a second, {minutes.min()} to {minutes.max()} minutes"
    assert ranges in " ".join(page.read_text().split())
    assert f"(H200, fifteen runs at once) {minutes.median():.0f} minutes a run" in readme.read_text()


def test_conda_s_environment_reads_the_requirements():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["-r requirements.txt", "-e ."]


def pins(file):
    """{name: Requirement} of a requirements file, of what belongs on this machine."""
    lines = [line.removesuffix(" \\") for line in (REPOSITORY / file).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line[:1] not in ("", "#", " ")]
    return {pin.name: pin for pin in found if pin.marker is None or pin.marker.evaluate()}


def test_the_lock_holds_what_is_required():
    required, locked = pins("requirements.txt"), pins("requirements.lock")
    assert {"torch", "torchvision", "matplotlib", "pandas", "jupyter", "papermill"} <= required.keys()
    for name, pin in required.items():
        assert locked[name].specifier == pin.specifier, "make lock renews it"


def test_every_package_of_the_lock_has_a_hash_and_no_host():
    text = (REPOSITORY / "requirements.lock").read_text()
    packages = re.findall(r"^[a-z].*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", text, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^\S+==", text, re.MULTILINE)) > 200
    assert "://" not in text and "index-url" not in text


def test_what_runs_here_is_what_is_locked():
    for name, pin in pins("requirements.lock").items():
        assert pin.specifier.contains(version(name).split("+")[0]), f"{pin}; here is {version(name)}"


def test_python_is_bounded_by_what_the_lock_has_wheels_for(tmp_path):
    makefile = (REPOSITORY / "Makefile").read_text()
    check = re.search(r"\$\(PYTHON\) -c '(import sys; sys.exit\(.*\))'", makefile)[1]
    for found, accepted in (((3, 10, 9), 0), ((3, 11, 0), 1), ((3, 13, 9), 1), ((3, 14, 0), 0)):
        asked = check.replace("sys.version_info", str(found))
        assert (run(sys.executable, "-c", asked, cwd=tmp_path, check=False).returncode == 0) == accepted
