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
from SparseSegNetLib.runfolder.protocol import decode

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
            text=True,
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


def steps_of(folder):
    return load_state(folder.state_paths)[1]["steps"]


def test_a_killed_rank_leaves_a_checkpoint_and_one_process_goes_on(tmp_path, places, monkeypatch):
    folder, _ = run_folder(tmp_path / "run", max_steps=100_000)
    other = Follower(folder, places)
    run, events = watched(folder)
    assert until(run, lambda: named(events, "checkpoint")), run.error
    assert in_use(folder.path)
    kill(other.pid)
    assert run.wait(60) == "failed" and run.error.code == "rank-lost", run.error
    assert "rank 1 was lost" in run.error.cause and "Resume" in run.error.remedy
    assert "rank 1 was lost" in folder.log_path.read_text()
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


def test_when_rank_0_is_killed_the_others_end_and_say_so(tmp_path, places):
    folder, _ = run_folder(tmp_path / "run", max_steps=100_000)
    other = Follower(folder, places)
    run, events = watched(folder)
    assert until(run, lambda: named(events, "checkpoint")), run.error
    kill(run._pid)
    assert other.end() == 3 and "rank 0 was lost" in other.log
    assert run.wait(60) == "failed" and run.error.code == "killed"
    assert steps_of(folder) > 0


def test_commands_reach_all_ranks_of_a_run_that_began_alone(tmp_path, places, monkeypatch):
    folder, truth = run_folder(tmp_path / "run", max_steps=100_000)
    monkeypatch.setenv("WORLD_SIZE", "1")
    run, events = watched(folder)
    assert until(run, lambda: training(run))
    run.interrupt()
    assert run.wait(60) == "failed" and run.error.code == "interrupted"
    saved = steps_of(folder)
    monkeypatch.setenv("WORLD_SIZE", "2")
    other = Follower(folder, places)
    run, events = watched(folder)
    assert until(run, lambda: training(run)), run.error
    assert named(events, "resumed")[0]["step"] == saved
    run.change_labels(*with_slice(folder, truth, "k", 3))
    run.pause()
    assert until(run, lambda: named(events, "paused")) and other.process.poll() is None
    before = run.progress["step"]
    run.resume()
    assert until(run, lambda: named(events, "labels") and run.progress["step"] > before + 2)
    run.stop()
    assert run.wait(60) == "done", run.error
    assert other.end() == 0 and steps_of(folder) == run.summary["step"]


@posix
def test_a_signal_to_any_rank_leaves_a_checkpoint(tmp_path, places):
    folder, _ = run_folder(tmp_path / "run", max_steps=100_000)
    other = Follower(folder, places)
    run, events = watched(folder)
    assert until(run, lambda: training(run)), run.error
    os.kill(other.pid, signal.SIGTERM)
    assert run.wait(60) == "failed" and run.error.code == "interrupted", run.error
    assert other.end() == 3
    assert named(events, "paused")[0]["step"] == steps_of(folder) > 0
