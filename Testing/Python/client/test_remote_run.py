"""Runs whose engine works on another computer: live, cancelled, lost and resumed.

Real processes; the SSH command is a program that runs the remote command on this computer.
"""

import json
import os
import signal
import time

import numpy as np
import pytest
from phantom import iou
from safetensors.numpy import save_file
from small_runs import kill, named, run_folder, training, until, watched, with_slice

from SparseSegNetLib.client import engine_run
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.remote.run_files import ENGINES, contents, steps_taken
from SparseSegNetLib.runfolder.changes import Changes
from SparseSegNetLib.runfolder.checkpoints import ELSEWHERE, KEY, SCHEMA
from SparseSegNetLib.runfolder.lock import in_use
from SparseSegNetLib.runfolder.options import Options


def test_a_run_is_like_one_at_home(tmp_path, far):
    folder, truth = run_folder(tmp_path / "run", time_budget=60, save_model=True)
    run, events = watched(folder)
    assert until(run, lambda: training(run)), run.error
    (there,) = far.runs
    assert in_use(folder.path), "no other engine may work on it meanwhile"
    # The client may kill what it takes for the engine.
    assert {e["pid"] for e in events if "pid" in e} == {run._pid} and run._pid != os.getpid()
    assert str(run._pid) not in (there / "lock").read_text(encoding="utf-8")
    assert str(run._pid) in (folder.path / "lock").read_text(encoding="utf-8")
    labels, slices = with_slice(folder, truth, "k", 9)
    run.change_labels(labels, slices)
    assert until(run, lambda: named(events, "labels")), run.error
    run.preview()
    assert until(run, lambda: named(events, "preview")), run.error
    assert folder.read_preview().shape == truth.shape
    run.stop()
    assert run.wait(60) == "done", run.error
    assert iou(run.result(), truth) > 0.6
    assert folder.model_path.is_file() and folder.read_score() is not None
    assert not in_use(folder.path)
    assert not there.exists(), "of a run that is over nothing stays there"
    assert folder.log_path.is_file()


def test_a_lost_connection_loses_no_step(tmp_path, far):
    folder, truth = run_folder(tmp_path / "run", time_budget=60)
    run, events = watched(folder)
    assert until(run, lambda: training(run)), run.error
    far.lose()
    assert run.wait(30) == "failed" and run.error.code == "connection-lost"
    assert "gpu-box" in run.error.cause and "Resume" in run.error.remedy
    assert far.idle(), "the engine runs on unwatched"
    assert (folder.path / ELSEWHERE).is_file(), "the panel offers to resume it"
    (there,) = far.runs
    steps = steps_taken(there)
    assert steps >= run.progress["step"] and steps > steps_taken(folder.path)
    labels, slices = with_slice(folder, truth, "k", 9)
    options = Options.from_json({**folder.options.to_json(), "time_budget": 90.0})
    again = EngineRun(folder, changes=Changes(options, labels, slices))
    events.clear()
    again.observe(events.append)
    assert until(again, lambda: training(again)), again.error
    assert named(events, "resumed")[0]["step"] == steps
    assert (folder.read_labels() == labels).all() and steps_taken(folder.path) >= steps
    again.stop()
    assert again.wait(60) == "done", again.error
    assert (again.result()[labels != 255] == labels[labels != 255]).all()
    assert not (folder.path / ELSEWHERE).exists()


def checkpoint(folder, steps):
    """What tells of a checkpoint with so many steps, or none."""
    path = folder / "checkpoint" / "state.safetensors"
    path.unlink(missing_ok=True)
    if steps >= 0:
        about = {KEY: json.dumps({"schema": SCHEMA, "steps": steps})}
        save_file({"x": np.full(1, steps)}, path, about)


@pytest.mark.parametrize(("here", "there"), [(800, 500), (500, 800), (-1, 3), (3, -1)])
def test_the_side_that_took_more_steps_counts(tmp_path, far, monkeypatch, here, there):
    """A run that was resumed on this computer meanwhile, or went on there unseen."""
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")
    monkeypatch.setenv("STAND_IN_FAILS", "input")
    folder, _ = run_folder(tmp_path / "run")
    run, _ = watched(folder)
    assert run.wait(60) == "failed" and "on gpu-box: there is not enough" in run.error.cause
    (copy,) = far.runs
    checkpoint(folder.path, here)
    checkpoint(copy, there)
    run, _ = watched(folder)
    assert run.wait(60) == "failed" and run.error.code == "out-of-memory", run.error
    assert steps_taken(folder.path) == steps_taken(copy) == max(here, there)
    assert contents(folder.path, ENGINES) == contents(copy, ENGINES)


def test_cancel_ends_both(tmp_path, far, monkeypatch):
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")
    monkeypatch.setenv("STAND_IN_WAITS", str(tmp_path / "never"))
    folder, _ = run_folder(tmp_path / "run", time_budget=60)
    run, events = watched(folder)
    assert until(run, lambda: named(events, "ready")), run.error
    run.cancel()
    assert run.state == "cancelled" and not far.runs, "nothing stays there"


@pytest.mark.parametrize("way", ["dies", "signal"])
def test_the_client_dies_or_the_system_asks(tmp_path, far, way):
    """The engine there writes a checkpoint, which comes back."""
    folder, _ = run_folder(tmp_path / "run", time_budget=60)
    run, _ = watched(folder)
    assert until(run, lambda: training(run)), run.error
    if way == "dies":
        run._transport.close_input()
    elif os.name == "nt":
        run.interrupt()  # no signal there that a program could answer
    else:
        os.kill(run._pid, signal.SIGTERM)
    assert run.wait(40) == "failed" and run.error.code == "interrupted", run.error
    assert str(folder.path) in run.error.remedy and str(far.data) not in run.error.remedy
    assert far.idle() and steps_taken(folder.path) >= run.progress["step"]
    assert contents(far.runs[0], ENGINES) == contents(folder.path, ENGINES)


def test_this_side_is_killed(tmp_path, far):
    folder, _ = run_folder(tmp_path / "run", time_budget=60)
    run, _ = watched(folder)
    assert until(run, lambda: training(run)), run.error
    kill(run._pid)
    assert run.wait(30) == "failed" and run.error.code == "killed"
    assert far.idle() and steps_taken(far.runs[0]) >= run.progress["step"]


def test_the_engine_there_is_killed(tmp_path, far):
    folder, _ = run_folder(tmp_path / "run", time_budget=60)
    run, _ = watched(folder)
    assert until(run, lambda: training(run)), run.error
    kill(json.loads((far.runs[0] / "lock").read_text(encoding="utf-8"))["pid"])
    assert run.wait(30) == "failed" and run.error.code == "killed"


def test_old_copies_there_are_deleted_by_the_clock_there(tmp_path, far, monkeypatch):
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")
    now, day = time.time(), 86400
    kept, old, future, half = (far.data / "remote" / "runs" / f"run-{n}" for n in range(4))
    for folder, age in ((kept, 6), (old, 8), (future, -400), (half, 8)):
        folder.mkdir(parents=True)
        if folder != half:  # of one that was cancelled while the scan was sent
            (folder / "run.json").write_text("{}")
        os.utime(folder, (now - age * day, now - age * day))
    run, _ = watched(run_folder(tmp_path / "run")[0])
    assert run.wait(60) == "done", run.error
    assert far.runs == [kept, future]
