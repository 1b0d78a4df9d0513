"""Nothing is lost when processes die, disks fill up and clients misbehave; real processes."""

import os
import random
import subprocess
import sys
import time

import pytest
from phantom import iou
from small_runs import kill, named, run_folder, training, until, watched

from SparseSegNetLib.client.engine_run import WORKER, EngineRun
from SparseSegNetLib.client.popen_transport import PopenTransport
from SparseSegNetLib.client.processes import engine_environment
from SparseSegNetLib.engine.training.checkpoint import load_state
from SparseSegNetLib.errors import EngineError
from SparseSegNetLib.runfolder.lock import FolderLock, alive

# The 30 take minutes; `KILLS=30 make test` does them all.
KILLS = int(os.environ.get("KILLS", "3"))
MOMENTS = ("started", "ready", "plan", "resumed", "progress", "metrics", "checkpoint")


def test_killed_at_random_moments_it_goes_on_to_a_result(tmp_path):
    folder, truth = run_folder(tmp_path / "run", max_steps=100_000)
    chance, steps = random.Random(4), 0
    # The first has a checkpoint to leave, the others end anywhere from their start into training.
    for number in range(KILLS):
        run, events = watched(folder)
        moment = chance.choice(MOMENTS) if number else "checkpoint"
        assert until(run, lambda events=events, moment=moment: named(events, moment)), moment
        kill(run._pid)
        assert run.wait(60) == "failed" and run.error.code == "killed", run.error
        assert "resume" in run.error.remedy
        for again in named(events, "resumed"):
            assert number and again["step"] >= steps, "never behind the last checkpoint told of"
        steps = max([steps, *(e["step"] for e in named(events, "checkpoint"))])
    assert steps > 0
    run, events = watched(folder)
    assert until(run, lambda: training(run))
    assert named(events, "resumed")[0]["step"] >= steps
    run.stop()
    assert run.wait(60) == "done", run.error
    assert iou(run.result(), truth) > 0.7
    assert not list(folder.path.rglob(".writing-*")), "leftovers were swept away"


def test_a_resumed_training_counts_on(tmp_path):
    folder, _ = run_folder(tmp_path / "run", max_steps=24)
    run, _ = watched(folder)
    assert until(run, lambda: run.progress.get("step", 0) > 6)
    run.stop()
    assert run.wait(60) == "done"
    first = run.summary["step"]
    assert 0 < first < 24
    state = load_state(folder.state_paths)
    assert state is not None and state[1]["steps"] == first
    again, events = watched(folder)
    assert again.wait(120) == "done", again.error
    assert named(events, "resumed")[0]["step"] == first
    assert again.summary["step"] == 24


def test_the_engine_goes_with_its_client(tmp_path):
    folder, _ = run_folder(tmp_path / "run", time_budget=120)
    code = (
        "import sys, time; sys.path[:0] = sys.argv[2:]\n"
        "from SparseSegNetLib.client.engine_run import EngineRun\n"
        "from SparseSegNetLib.runfolder.folder import RunFolder\n"
        "run = EngineRun(RunFolder.open(sys.argv[1]))\n"
        "while not run.ended:\n"
        "    run.poll(); time.sleep(0.05)\n"
        "    print(run._pid or 0, run.state, flush=True)\n"
    )
    for state in ("preparing", "training"):
        parent = subprocess.Popen(
            [sys.executable, "-c", code, str(folder.path), *sys.path],
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=engine_environment(),
        )
        pid = 0
        for line in parent.stdout:
            pid = int(line.split()[0])
            if pid and line.split()[1] == state:
                break
        assert pid and alive(pid)
        kill(parent.pid)
        parent.wait()
        end = time.monotonic() + 60  # it would train for 120 s
        while _running(pid) and time.monotonic() < end:
            time.sleep(0.05)
        assert not _running(pid), f"the engine outlived its client while {state}"
        assert not folder.has_result()
        parent.stdout.close()


def _running(pid):
    """Whether a process runs; one that ended but was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return os.name == "nt" and alive(pid)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a file's size")
def test_a_full_disk_costs_no_checkpoint(tmp_path):
    folder, _ = run_folder(tmp_path / "run", time_budget=40)
    run, events = watched(folder)
    assert until(run, lambda: training(run))
    run.pause()
    assert until(run, lambda: named(events, "checkpoint"))
    kill(run._pid)
    run.wait(10)
    before = load_state(folder.state_paths)
    assert before is not None
    # Files may have 20 kB: log and metrics fit, checkpoints and results do not.
    limited = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"sys.argv[:] = ['worker', {str(folder.path)!r}, '--client']\n"
        f"runpy.run_module({WORKER!r}, run_name='__main__')\n"
    )
    run, events = watched(folder, PopenTransport(["-c", limited]))
    assert until(run, lambda: training(run))
    run.stop()
    assert run.wait(60) == "failed"
    assert run.error.code == "disk-full" and "Free some space" in run.error.remedy
    assert any("cannot be written" in text for text in run.warnings)
    after = load_state(folder.state_paths)
    assert after is not None and after[1]["steps"] == before[1]["steps"]
    run = EngineRun(folder)
    assert until(run, lambda: training(run))
    run.stop()
    assert run.wait(60) == "done"


def test_a_second_client_is_refused(tmp_path):
    folder, _ = run_folder(tmp_path / "run", time_budget=60)
    first, _ = watched(folder)
    assert until(first, lambda: training(first))
    second = EngineRun(folder)
    assert second.wait(60) == "failed"
    assert second.error.code == "locked" and str(first._pid) in second.error.cause
    assert first.poll() == "training"
    first.cancel()
    assert first.state == "cancelled"


class TestLock:
    def test_taken_over_from_the_dead(self, tmp_path):
        (tmp_path / "lock").write_text('{"pid": 999999999, "host": "elsewhere"}')
        with FolderLock(tmp_path), pytest.raises(EngineError, match=f"process {os.getpid()} on"):
            FolderLock(tmp_path)
        with FolderLock(tmp_path):
            pass

    def test_where_the_system_has_no_locks_the_pid_decides(self, tmp_path, monkeypatch):
        from SparseSegNetLib.runfolder import lock

        def none(descriptor):
            raise OSError(38, "no locks here")

        monkeypatch.setattr(lock, "_lock", none)
        host = lock.socket.gethostname()
        (tmp_path / "lock").write_text(f'{{"pid": {os.getppid()}, "host": "{host}"}}')
        with pytest.raises(EngineError, match="another engine"):
            FolderLock(tmp_path)
        (tmp_path / "lock").write_text(f'{{"pid": 999999999, "host": "{host}"}}')
        with FolderLock(tmp_path):
            pass


def test_the_clock_jumps_and_a_folder_with_an_odd_name(tmp_path):
    """The time of day jumps back and forth by hours and years; nobody cares."""
    strange = tmp_path / "Ordner mit Ümläuten 漢字"
    strange.mkdir()
    (strange / "sitecustomize.py").write_text(
        "import itertools, time\nreal = time.time\n"
        "jumps = itertools.cycle((0, -3e7, 7200, 3e7, -7200))\n"
        "time.time = lambda: real() + next(jumps)\n"
    )
    folder, truth = run_folder(strange / "läuft 走", time_budget=8)
    code = (
        f"import sys; sys.path.insert(0, {str(strange)!r})\nimport sitecustomize, runpy\n"
        "exec(open(sys.path[0] + '/sitecustomize.py').read())\n"
        f"sys.argv[:] = ['worker', {str(folder.path)!r}, '--client']\n"
        f"runpy.run_module({WORKER!r}, run_name='__main__')\n"
    )
    run, events = watched(folder, PopenTransport(["-c", code]))
    assert run.wait(68) == "done", run.error
    assert run.summary["seconds"] < 1e6, "a year is no part of it"
    seconds = [e["seconds"] for e in named(events, "progress")]
    assert seconds == sorted(seconds)
    assert all(0 <= e["remaining"] <= 8 for e in named(events, "progress"))
    assert iou(run.result(), truth) > 0.7
