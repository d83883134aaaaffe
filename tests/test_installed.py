"""The repository installed once, and called from anywhere: whose code runs."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import FAST, OWN_NETWORK, REPOSITORY, copy, run


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment in which a clone was installed by pip install -e: (its Python, that clone)."""
    pytest.importorskip("setuptools", minversion="77")
    clone = copy(tmp_path_factory.mktemp("installed"))
    place = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", str(place), cwd=place)
    python = place / "bin" / "python"
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    here, there = (run(str(p), "-c", find, cwd=place).stdout.strip() for p in (sys.executable, python))
    Path(there, "outer.pth").write_text(f"{here}\n")  # torch and the rest need no second installation
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "-e", "."]
    run(*install, "--no-deps", "--no-build-isolation", cwd=clone)
    return str(python), clone


def test_a_network_of_one_s_own_folder_is_trained_from_there(installed, tmp_path):
    python, clone = installed
    (tmp_path / "my_models.py").write_text(OWN_NETWORK)
    small = FAST | dict(eval_images=20, epochs=1, pretrain_epochs=1, arch="my_models:make")
    given = [word for name, value in small.items() for word in ("-p", name, str(value))]
    notebook = str(clone / "notebooks" / "02_bn_finetune.ipynb")
    run(python, "-m", "papermill", notebook, "out.ipynb", *given, cwd=tmp_path)
    assert "finetune_my_models-make_bn_eps32" in (tmp_path / "out.ipynb").read_text()
    assert list((clone / "out").rglob("records/finetune_my_models-make_*/run.json"))


@pytest.mark.parametrize("where", [".", "notebooks"])
def test_a_notebook_of_another_clone_runs_with_that_clone_s_code(installed, tmp_path, where):
    python, _ = installed
    clone = copy(tmp_path)
    for room in ("bnat_utils.py", "study/define/parameters.py"):
        with (clone / room).open("a") as file:
            file.write(f"print({room!r}, 'of this clone')\n")
    notebook = str(clone / "notebooks" / "01_pretrain.ipynb")
    run(python, "-m", "papermill", notebook, str(clone / "out.ipynb"), cwd=clone / where)
    shown = (clone / "out.ipynb").read_text()
    assert "bnat_utils.py of this clone" in shown and "study/define/parameters.py of this clone" in shown


def test_an_outdated_copy_of_the_module_is_not_what_the_study_uses(installed, tmp_path):
    python, clone = installed
    (tmp_path / "bnat_utils.py").write_text("raise RuntimeError('of another day')\n")
    shown = run(
        python, "-c", "from study.run.datasets import bnat; print(bnat.__file__)", cwd=tmp_path
    ).stdout
    assert Path(shown.strip()) == clone / "bnat_utils.py"


def test_two_clones_in_one_process_are_refused(installed, tmp_path):
    clone = copy(tmp_path)
    done = run(installed[0], "-c", "import bnat_utils, study", cwd=clone / "notebooks", check=False)
    assert f"ImportError: import study before bnat_utils: that is {installed[1]}" in done.stderr


def test_the_module_copied_alone_works(tmp_path):
    shutil.copy(REPOSITORY / "bnat_utils.py", tmp_path)
    code = """
import bnat_utils as bnat
data, model = bnat.load_data("digits"), bnat.network("resnet8", "digits")
x, y = (t[:128] for t in data["train"])
for epoch in bnat.train(model, x, y, epochs=1, lr=0.2, eps=32 / 255, steps=1, trainable="bn"):
    pass
print(bnat.__file__, len(bnat.evaluate(model, x[:20], y[:20], eps=32 / 255)["robust"]))
"""
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert shown.stdout.split() == [str(tmp_path / "bnat_utils.py"), "20"], shown.stderr


@pytest.mark.parametrize("path", sorted((REPOSITORY / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_begins_with_imports_alone(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    statements = ast.parse(cells[1].source).body  # after the parameters
    assert all(isinstance(statement, ast.Import | ast.ImportFrom) for statement in statements)
