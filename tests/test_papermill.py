"""What papermill refuses, in a sentence; what it runs is in test_readme.py."""

import re

import pytest
from conftest import copy, run


def last_line(done):
    return [line for line in done.stderr.splitlines() if line.strip()][-1]


@pytest.mark.parametrize(
    "notebook, name, value",
    [
        ("01_pretrain", "profile", "fast"),
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
