"""The structure: a thin module that stands alone, and floors between which an import goes down only."""

import ast
import inspect
import subprocess
import sys

import pytest
from conftest import REPOSITORY, bnat

FLOORS = ("define", "measure", "run", "decide", "show")  # from below
ROOMS = sorted((REPOSITORY / "study").rglob("*.py"))


def imported(path):
    """The rooms of study that a file imports: [(floor, room)], (floor,) of a whole floor."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [name.split(".") for name in names]
    return [tuple(part[1:3]) for part in parts if part[0] == "study" and len(part) > 1]


def test_the_thin_module_is_thin_and_stands_alone():
    source = inspect.getsource(bnat)
    assert source.count("\n") <= 575 and "import study" not in source and "from study" not in source


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_room_has_one_screenful_of_subject(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("floor", FLOORS)
def test_an_import_goes_down_only(floor):
    below = FLOORS[: FLOORS.index(floor) + 1]
    for path in (REPOSITORY / "study" / floor).glob("*.py"):
        upwards = [room for room in imported(path) if room[0] not in below]
        assert upwards == [], path.name


@pytest.mark.parametrize("floor", FLOORS)
def test_no_two_rooms_of_a_floor_need_each_other(floor):
    paths = (REPOSITORY / "study" / floor).glob("*.py")
    needs = {
        path.stem: {room[1] for room in imported(path) if room[0] == floor and len(room) > 1}
        for path in paths
    }
    while free := [room for room, others in needs.items() if not others & needs.keys()]:
        for room in free:
            del needs[room]
    assert needs == {}, "a circle"


def test_importing_has_no_effect():
    rooms = [f"study.{path.parent.name}.{path.stem}" for path in ROOMS if path.parent.name in FLOORS]
    code = (
        "import os, sys, matplotlib, torch; before = dict(os.environ); threads = torch.get_num_threads(); "
        f"import {', '.join(rooms)}; "
        "assert dict(os.environ) == before, set(os.environ) ^ set(before); "
        "assert matplotlib.rcParams['font.size'] == matplotlib.rcParamsDefault['font.size']; "
        "assert torch.get_num_threads() == threads and torch.backends.cudnn.allow_tf32; "
        "assert not torch.backends.cudnn.deterministic"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
