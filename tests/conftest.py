import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
import bnat_utils as bnat  # noqa: E402

FAST = dict(aa_images=0, check_images=0, eval_images=100, eval_restarts=1, batch_size=64)  # a quick run in seconds


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty repository: no committed records, out/ in a temporary folder."""
    monkeypatch.setattr(bnat, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def digits():
    return bnat.load_data("digits")


@pytest.fixture(scope="session")
def trained(digits, tmp_path_factory):
    """A network adversarially trained on the digits: neither fully robust nor fully broken at 32/255."""
    exp = bnat.experiment("pretrain", epsilon=32, epochs=8)
    exp["out"] = tmp_path_factory.mktemp("trained")
    return bnat.train(exp, digits)[0]


def run(*command, cwd, check=True, **environment):
    """A command as a user types it; the environment's own programs come first, output is captured."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=cwd, env=os.environ | {"PATH": path} | environment, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done
