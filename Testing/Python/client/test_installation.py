"""What a client sees of an installation in this Python."""

import json
import sys
import time

import pytest

from SparseSegNetLib.client import installing
from SparseSegNetLib.client.installation import in_this_python


def finished(run, timeout=60.0):
    end = time.monotonic() + timeout
    while run.poll() == "running" and time.monotonic() < end:
        time.sleep(0.01)
    return run.state


def test_steps_bytes_and_the_reason_of_a_failure():
    """pip prints bytes where it has no terminal: `PIP_PROGRESS_BAR=raw`."""
    run = in_this_python(
        [
            ["-c", "print('Collecting torch')"],
            ["-c", "print('Progress 512 of 2048'); raise SystemExit('cause: dns error')"],
            ["-c", "print('never')"],
        ]
    )
    assert finished(run) == "failed"
    assert run.step == (2, 3) and (run.size, run.total) == (512, 2048)
    assert list(run.lines) == ["Collecting torch", "cause: dns error"]
    assert run.problem.code == "offline" and "PIP_FIND_LINKS" in run.problem.remedy


def test_what_pip_prints_is_no_event():
    lines = ['{"event": "done"}', '{"broken', "[1]", "null", "{}"]
    run = in_this_python([["-c", f"print({chr(10).join(lines)!r})"]])
    assert finished(run) == "done", run.problem
    assert list(run.lines) == lines and run.step == (1, 1)


def test_the_second_at_once_says_so():
    first = in_this_python([["-c", "print('at work'); import time; time.sleep(60)"]])
    while not first.said:
        assert first.poll() == "running", first.problem
        time.sleep(0.01)
    second = in_this_python([["-c", "print('never')"]])
    assert finished(second) == "failed" and "another Slicer" in str(second.problem)
    assert second.problem.code == "locked" and not second.lines
    first.cancel()
    assert first.state == "cancelled"


def test_killed_by_the_system():
    run = in_this_python([["-c", "import os; os.abort()"]])
    assert finished(run) == "failed" and "installation failed" in str(run.problem)


@pytest.mark.parametrize(("version", "raw"), [("24.0", None), ("24.1.2", "raw"), ("?", None)])
def test_old_pips_are_not_asked_for_bytes(monkeypatch, version, raw):
    monkeypatch.setattr(installing.importlib.metadata, "version", lambda name: version)
    assert installing.pip_environment().get("PIP_PROGRESS_BAR") == raw


def test_a_program_that_is_not_there(capsys):
    with pytest.raises(installing.StepFailed, match=r"No such file|cannot find"):
        installing.run(["no-such-program"])
    installing.run([sys.executable, "-c", "print('ü'.encode().decode('latin-1'))"])
    assert json.loads(capsys.readouterr().out)["event"] == "said"
