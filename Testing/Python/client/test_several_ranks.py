"""A run folder trained by several ranks, as torchrun starts them: each is a process."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from small_runs import kill, named, run_folder, training, until, watched, with_slice

from SparseSegNetLib.client import engine_run
from SparseSegNetLib.client.processes import engine_environment
from SparseSegNetLib.engine.training.checkpoint import load_state
from SparseSegNetLib.runfolder.lock import in_use

posix = pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")


@pytest.fixture
def places(monkeypatch):
    """Has what is started next be rank 0 of two; gives the environment of rank 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in (shared | {"RANK": "0", "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    yield shared | {"RANK": "1", "LOCAL_RANK": "1"}
    monkeypatch.undo()


class Follower:
    """Rank 1, and what it says."""

    def __init__(self, folder, place):
        self.process = subprocess.Popen(
            [sys.executable, "-m", engine_run.WORKER, str(folder.path)],
            env=engine_environment() | place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.log, self._begun = "", threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.log += line
            self._begun.set()

    @property
    def pid(self):
        """Of the engine itself, which a server may have forked."""
        self._begun.wait()
        return int(re.search(r"rank 1 of 2: process (\d+) on", self.log)[1])

    def end(self):
        """The exit code; nothing may stand on stdout, where events are."""
        said = self.process.stdout.read()
        self._reader.join()
        assert said == ""
        return self.process.wait()


def small_run(path):
    return run_folder(path, (1, 1, 1), (16, 18, 20), max_steps=100_000)


def steps_of(folder):
    return load_state(folder.state_paths)[1]["steps"]


def test_commands_reach_all_ranks_and_one_process_goes_on_where_one_is_killed(
    tmp_path, places, monkeypatch
):
    folder, truth = small_run(tmp_path / "run")
    other = Follower(folder, places)
    run, events = watched(folder)
    assert until(run, lambda: training(run)), run.error
    assert in_use(folder.path)
    run.pause()
    assert until(run, lambda: named(events, "paused")) and other.process.poll() is None
    assert named(events, "checkpoint")
    run.change_labels(*with_slice(folder, truth, "k", 3))
    before = run.progress["step"]
    run.resume()
    assert until(run, lambda: named(events, "labels") and run.progress["step"] > before + 2)
    kill(other.pid)
    assert run.wait(60) == "failed" and run.error.code == "rank-lost", run.error
    assert "rank 1 was lost" in run.error.cause and "Resume" in run.error.remedy
    assert "rank 1 was lost" in folder.log_path.read_text(encoding="utf-8")
    other.end()
    assert not in_use(folder.path)
    saved = steps_of(folder)
    assert saved >= named(events, "checkpoint")[-1]["step"] > 0
    monkeypatch.setenv("WORLD_SIZE", "1")
    run, events = watched(folder)
    assert until(run, lambda: training(run))
    assert named(events, "resumed")[0]["step"] == saved
    run.stop()
    assert run.wait(60) == "done", run.error


@posix
def test_two_ranks_go_on_where_one_process_was(tmp_path, places, monkeypatch):
    """And a signal to any rank leaves a checkpoint."""
    folder, _ = small_run(tmp_path / "run")
    monkeypatch.setenv("WORLD_SIZE", "1")
    run, _ = watched(folder)
    assert until(run, lambda: training(run))
    run.interrupt()
    assert run.wait(60) == "failed" and run.error.code == "interrupted"
    saved = steps_of(folder)
    monkeypatch.setenv("WORLD_SIZE", "2")
    other = Follower(folder, places)
    run, events = watched(folder)
    assert until(run, lambda: run.progress.get("step", 0) > saved), run.error
    assert named(events, "resumed")[0]["step"] == saved
    os.kill(other.pid, signal.SIGTERM)
    assert run.wait(60) == "failed" and run.error.code == "interrupted", run.error
    assert other.end() == 3
    assert named(events, "paused")[0]["step"] == steps_of(folder) > saved
