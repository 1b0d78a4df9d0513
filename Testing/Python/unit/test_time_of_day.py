"""Clocks that jump, and files from the future: the time of day measures and orders nothing."""

import ast
import os
import time
from pathlib import Path

import numpy as np
import pytest

import SparseSegNetLib
from SparseSegNetLib.engine.interaction.clock import Clock
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.stored_runs import may_go, stored_runs
from whole_inputs import run_folder as whole_run

LIBRARY = Path(SparseSegNetLib.__file__).parent
# What tells the time of day, and where it is written for people to read.
STAMPS = {
    "cli/reproduce.py",
    "client/make_environment.py",
    "engine/interaction/model_export.py",
    "runfolder/folder.py",
    "widget/run_store.py",
}
# What is deleted after days on another computer, none of it in use: this one holds the run itself.
AGES = {"remote/service.py"}
OF_DAY = {("time", "time"), ("time", "time_ns"), ("time", "strftime"), ("time", "localtime")}
OF_DAY |= {("datetime", "now"), ("datetime", "today"), ("datetime", "utcnow")}


def test_the_time_of_day_is_only_written_down():
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                asked = node.value.id, node.attr
                if asked in OF_DAY:
                    found.setdefault(path.relative_to(LIBRARY).as_posix(), set()).add(asked)
    assert set(found) == {*STAMPS, *AGES}
    assert not any(("time", name) in found[file] for file in STAMPS for name in ("time", "time_ns"))


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 3.2e7, -3.2e9])
def test_the_budget_of_a_run_does_not_jump(monkeypatch, jump):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(60.0)
    now[0] += 20.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert clock.seconds == 20.0 and clock.left == 40.0
    clock.pause()
    now[0] += 500.0
    clock.resume()
    assert clock.seconds == 20.0 and clock.left == 40.0


@pytest.mark.parametrize("age", [-3.2e8, 3.2e8, 0.0])
def test_files_of_any_date_are_read(tmp_path, age):
    """All files years from now, years ago, and at one moment."""
    folder = tmp_path / "run"
    whole_run(folder)
    expected = RunFolder.open(folder)
    before = expected.read_result(), expected.read_preview(), expected.read_profiles().array
    for path in folder.rglob("*"):
        os.utime(path, (1.7e9 + age, 1.7e9 + age))
    run = RunFolder.open(folder)
    now = run.read_result(), run.read_preview(), run.read_profiles().array
    assert all(np.array_equal(a, b) for a, b in zip(before, now, strict=True)) and not run.notes
    # A newer preview is taken, whatever the clock says now; then a newer result.
    item = run.read_slices()[0]
    one = np.ones(run.shape(), np.uint8)
    run.write_preview(1, one)
    assert (run.read_prediction(1, item) == 1).all()
    run.write_result(1, one * 2, one)
    assert (run.read_prediction(1, item) == 2).all()
    (stored,) = stored_runs(tmp_path)
    assert stored.finished and may_go([stored], 0, []) == [stored]
