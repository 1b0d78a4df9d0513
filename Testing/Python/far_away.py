"""Another computer that is this one: its own data folder, reached by fake_ssh or by sshd."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from quick_engine import SERVER

HERE = Path(__file__).parent


def quoted(*words):
    """Words as the user would write them in one line."""
    return " ".join(f'"{word}"' for word in words)


def kill(pid):
    """Ends a process at once."""
    os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)


class Far:
    """The other computer.

    command: the SSH command; data: the folder that it keeps runs and code in; lose: ends the
    connection.
    """

    def __init__(self, command, data, lose):
        self.command, self.data, self.lose = command, data, lose

    @property
    def runs(self):
        """The run folders over there."""
        return sorted(self.data.glob("remote/runs/run-*"))

    def idle(self, timeout=40.0):
        """Waits until no engine works over there; whether it came to that."""
        from SparseSegNetLib.runfolder.lock import in_use

        end = time.monotonic() + timeout
        while any(map(in_use, self.runs)) and time.monotonic() < end:
            time.sleep(0.02)
        return not any(map(in_use, self.runs))


def far_environment(data):
    """Variables over there: the tests' engines are found, runs lie in a folder of their own."""
    found = {
        "PYTHONPATH": str(HERE),
        "SPARSESEGNET_DATA": str(data),
        "SPARSESEGNET_SSH": "",
        "OMP_NUM_THREADS": "1",
    }
    return found | ({SERVER: os.environ[SERVER]} if SERVER in os.environ else {})


def use(monkeypatch, command, python=None):
    """Has runs use the engine over there. python: words of its shell; this Python by default."""
    from SparseSegNetLib.client import interpreter

    monkeypatch.setenv(interpreter.SSH_VARIABLE, command)
    monkeypatch.setenv(interpreter.REMOTE_VARIABLE, python or quoted(sys.executable))


@pytest.fixture
def far_nearby(engine, tmp_path, monkeypatch):
    """The other computer, reached without a network; nothing uses it yet."""
    data = tmp_path / "far away"
    monkeypatch.setenv("FAR_ENVIRONMENT", json.dumps(far_environment(data)))
    number = tmp_path / "fake-ssh-pid"
    monkeypatch.setenv("FAR_PID", str(number))
    command = quoted(sys.executable, HERE / "fake_ssh.py", "gpu-box")
    return Far(command, data, lambda: kill(int(number.read_text(encoding="utf-8"))))


@pytest.fixture
def far(far_nearby, monkeypatch):
    """The other computer, reached without a network; runs use it."""
    use(monkeypatch, far_nearby.command)
    return far_nearby
