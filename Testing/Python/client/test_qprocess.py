"""The transport that Slicer uses, with real Qt."""

import os
import sys
import time
from pathlib import Path

import pytest
from phantom import iou
from small_runs import run_folder

from SparseSegNetLib.client import installation
from SparseSegNetLib.client.engine_run import EngineRun, worker_arguments
from SparseSegNetLib.client.interpreter import OTHER, Interpreter
from SparseSegNetLib.errors import EngineError

core = pytest.importorskip("PySide6.QtCore", reason="PySide6 is not installed")


@pytest.fixture
def transport(monkeypatch):
    """QProcessTransport, with Qt under the name that Slicer gives it; without an event loop."""
    monkeypatch.setitem(sys.modules, "qt", core)
    monkeypatch.delitem(sys.modules, "SparseSegNetLib.client.qprocess_transport", raising=False)
    from SparseSegNetLib.client.qprocess_transport import QProcessTransport

    yield QProcessTransport
    sys.modules.pop("SparseSegNetLib.client.qprocess_transport", None)


def everything(process, timeout=20.0):
    """All chunks of a process, and its exit code."""
    said, end = {"out": b"", "err": b""}, time.monotonic() + timeout
    while time.monotonic() < end:
        got = process.receive(0.2)
        if got is None:
            continue
        if got[0] == "end":
            return said, got[1]
        said[got[0]] += got[1]
    raise AssertionError("the process did not end")


def test_the_whole_way(transport, tmp_path):
    folder, truth = run_folder(tmp_path / "run ü", max_steps=20)
    run = EngineRun(folder, transport(worker_arguments(folder)))
    assert run.wait(90) == "done", run.error
    assert run.metrics and run.progress["step"] > 0
    assert iou(run.result(), truth) > 0.7


def test_both_streams_and_the_exit_code(transport):
    process = transport(["-c", "import sys; print('out'); sys.exit('err ü')"])
    said, code = everything(process)
    assert said == {"out": b"out\n", "err": "err ü\n".encode()} and code == 1
    assert process.receive(0.1) is None
    process.send(b"too late")
    process.close_input()
    process.kill()


def test_what_is_said_and_the_end_of_input(transport):
    process = transport(["-c", "import sys; print(sys.stdin.read().upper())"])
    process.send(b"hello")
    process.close_input()
    assert everything(process)[0]["out"].strip() == b"HELLO"


def test_killed(transport, tmp_path):
    folder, _ = run_folder(tmp_path / "run")
    run = EngineRun(folder, transport(["-c", "import time; time.sleep(60)"]))
    run.cancel(patience=0.5)
    assert run.state == "cancelled" and run._transport.receive() is None, "its end was seen"
    process = transport(["-c", "import os; os.abort()"])
    assert everything(process)[1] == -6 or sys.platform == "win32"


def test_what_cannot_be_started(transport, tmp_path):
    with pytest.raises(EngineError, match="cannot be started"):
        transport(["-c", "pass"], Interpreter(OTHER, str(tmp_path / "none")))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found through /proc")
def test_cancelling_an_installation_ends_what_a_launcher_started(transport, tmp_path, monkeypatch):
    """Slicer's Python is started by a launcher: killing that leaves pip running."""
    launcher = tmp_path / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    launcher.chmod(0o755)
    monkeypatch.setattr(
        installation, "this_python", lambda: Interpreter(OTHER, str(launcher), "a launcher")
    )
    step = "import os, time; print('pip', os.getpid(), flush=True); time.sleep(60)"
    run = installation.in_this_python([["-c", step]])
    end = time.monotonic() + 30
    while not run.said.startswith("pip") and time.monotonic() < end:
        run.poll()
        time.sleep(0.01)
    pip = int(run.said.split()[1])
    assert running(pip) and os.getpgid(pip) == run._pid != os.getpgid(0)
    run.cancel()
    # The system ends them one after the other.
    while (running(pip) or running(run._pid)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not running(pip) and not running(run._pid)


def running(pid):
    """True if the process lives, apart from one that only waits to be noticed."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
