"""`make render` writes over what is committed: when it refuses to."""

import shutil
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, copy, run

BIN = f"BIN={Path(sys.executable).parent}"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A repository of its own, all committed, with the environment that make wants."""
    folder = copy(tmp_path_factory.mktemp("render"))
    shutil.copytree(REPOSITORY / "site", folder / "site", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", ".gitignore"):
        shutil.copy(REPOSITORY / name, folder)
    for record in sorted((folder / "records").iterdir())[2:]:
        shutil.rmtree(record)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "installed").touch()
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return folder


@pytest.fixture
def repository(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "copy"))


def git(folder, *words):
    run("git", "-c", "user.name=test", "-c", "user.email=test@test", *words, cwd=folder)


def render(folder, profile=None):
    """(whether it went on to the report, what it said)."""
    given = [] if profile is None else [f"PROFILE={profile}"]
    done = run("make", "render", BIN, "DAG=false", *given, cwd=folder, check=False)  # no report is made here
    assert done.returncode
    return "false --forcerun analysis -- report" in done.stdout, done.stderr


@pytest.mark.parametrize("profile", [None, "quick", "paper", "fast"])
def test_what_the_notebooks_do_not_show_by_default_is_not_rendered(repository, profile):
    went_on, said = render(repository, profile)
    assert not went_on
    assert f"render takes PROFILE=cpu, got {profile or 'quick'}: it writes over" in said


@pytest.mark.parametrize(
    "file", ["README.md", "figures/04_claims.csv", "notebooks/05_trust.ipynb", "study/decide/claims.py"]
)
def test_changes_that_are_not_committed_are_not_written_over(repository, file):
    with open(repository / file, "a") as changed:
        changed.write("\n")
    went_on, said = render(repository, "cpu")
    assert not went_on and "must be committed first" in said and f" M {file}" in said


def test_a_change_of_a_committed_record_is_not_written_over(repository):
    file = next((repository / "records").glob("*/machine.json"))
    file.write_text("{}")
    went_on, said = render(repository, "cpu")
    assert not went_on and f" M {file.relative_to(repository)}" in said


def test_new_records_are_what_render_is_for(repository):
    """`cp -r incoming/. records/; git rm -rq incoming; make render PROFILE=cpu`."""
    incoming = repository / "incoming" / "pretrain_new"
    incoming.mkdir(parents=True)
    (incoming / "run.json").write_text("{}")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "records of another machine")
    shutil.copytree(repository / "incoming", repository / "records", dirs_exist_ok=True)
    git(repository, "rm", "-rq", "incoming")
    went_on, said = render(repository, "cpu")
    assert went_on, said


def test_without_git_nothing_is_written_over(repository):
    shutil.rmtree(repository / ".git")
    went_on, said = render(repository, "cpu")
    assert not went_on and "render needs git" in said
