"""Several processes and somebody else's folders: who waits, who holds a run, what cannot be written."""

import errno
import os
import re
import subprocess
import threading
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from conftest import FAST
from test_runs import folder_of, made, python

from study.decide import select
from study.define.experiment import experiment
from study.run import processes, runs
from study.show import figures, tables


def test_who_waits_for_a_run_says_so_and_goes_on_saying_for_how_long(root, capsys, monkeypatch):
    monkeypatch.setattr(processes, "SECOND_WORD", 1)
    monkeypatch.setattr(processes, "LAST_WORDS", 1)
    exp = experiment("pretrain", **FAST)
    holding = (
        f"with runs.lock(experiment('pretrain', **{FAST})):\n    print('has it', flush=True)\n    input()"
    )
    other = python(root, "\n" + holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == "has it\n"
    threading.Timer(2.5, lambda: other.communicate("\n")).start()
    with runs.lock(exp):
        said = capsys.readouterr().out.splitlines()
    wanted = rf"{exp.name}: process {other.pid} on \S+ is at it; process {os.getpid()} has waited for (\d) s"
    assert len(said) >= 2 and all(re.fullmatch(wanted, line) for line in said), said
    waited = [int(re.fullmatch(wanted, line)[1]) for line in said]
    assert waited == sorted(set(waited))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_checkout_that_cannot_be_written_shows_its_record(root, monkeypatch, capsys, number):
    exp, _ = made("pretrain")
    (exp.out / "records").rename(root / "records")  # as make render commits them

    def refused(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    record = runs.run(exp)
    assert record["pgd"] is not None
    assert "run" in tables.save(tables.results({"this run": record}), exp, "table").data
    figures.save(figures.curves({"this run": record}), exp, "figure")
    plt.close("all")
    said = capsys.readouterr().err
    assert said.count("is not written, what it would hold is shown") == 1, said
    assert not (exp.out / "figures").exists()


def test_a_full_disk_is_not_taken_for_a_folder_that_cannot_be_written(root, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"table.csv could not be written \(No space left on device\)"):
        tables.save(pd.DataFrame({"a": [1]}), experiment("pretrain", **FAST), "table")


def test_a_plain_file_among_the_records_is_no_record(root):
    exp, record = made("pretrain")
    for folder in (root / "records", folder_of(exp).parent):
        folder.mkdir(exist_ok=True)
        (folder / ".DS_Store").write_bytes(b"\0Bud1")
    assert list(select.all_records(exp)) == [exp.name]
    assert select.study_rows(**FAST | dict(epochs=1))["at"][0]["weights"] == record["weights"]
