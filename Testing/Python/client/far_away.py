"""Another computer that is this one: its own data folder, reached by fake_ssh or by sshd."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from quick_engine import SERVER

from SparseSegNetLib.client import interpreter

HERE = Path(__file__).parent


def quoted(*words):
    """Words as the user would write them in one line."""
    return " ".join(f'"{word}"' for word in words)


class Far:
    """The other computer.

    command: the SSH command; data: the folder that it keeps runs and code in.
    """

    def __init__(self, command, data):
        self.command, self.data = command, data

    @property
    def runs(self):
        """The run folders over there."""
        return sorted(self.data.glob("remote/runs/run-*"))


def far_environment(data):
    """Variables over there: the tests' engines are found, runs lie in a folder of their own."""
    found = {
        "PYTHONPATH": str(HERE.parent),
        "SPARSESEGNET_DATA": str(data),
        "SPARSESEGNET_SSH": "",
        "OMP_NUM_THREADS": "1",
    }
    return found | ({SERVER: os.environ[SERVER]} if SERVER in os.environ else {})


def use(monkeypatch, command, python=sys.executable):
    """Has runs use the engine over there."""
    monkeypatch.setenv(interpreter.SSH_VARIABLE, command)
    monkeypatch.setenv(interpreter.REMOTE_VARIABLE, quoted(python))


@pytest.fixture
def far(engine, tmp_path, monkeypatch):
    """The other computer, reached without a network; runs use it."""
    data = tmp_path / "far away"
    monkeypatch.setenv("FAR_ENVIRONMENT", json.dumps(far_environment(data)))
    command = quoted(sys.executable, HERE / "fake_ssh.py", "gpu-box")
    use(monkeypatch, command)
    return Far(command, data)


def words(text):
    return shlex.split(text)
