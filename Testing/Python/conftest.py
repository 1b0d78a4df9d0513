"""Settings of the whole test run, and the engine that tests start.

Two processes run the tests side by side (pytest-xdist): each, and the engines that it starts,
computes with one thread, since threads that outnumber the cores wait for each other.
"""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from far_away import far, far_nearby  # noqa: F401
from local_sshd import far_by_ssh, ssh_server  # noqa: F401
from quick_engine import SERVER

HERE = Path(__file__).parent
NUMBERS = itertools.count(1)
# A shell starts programs in the background with Ctrl-C ignored, and the engines that tests start
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def quick_environment() -> dict[str, str]:
    """The environment in which `python -m quick_engine` is found."""
    from SparseSegNetLib.client.processes import engine_environment

    environment = engine_environment()
    return environment | {"PYTHONPATH": f"{HERE}{os.pathsep}{environment['PYTHONPATH']}"}


@pytest.fixture(scope="session")
def engine_server(tmp_path_factory):
    """The socket of a process that forks quick engines; None anywhere but on Linux.

    With several threads, and with macOS's libraries, a fork would copy locks that nobody releases.
    """
    if sys.platform != "linux" or os.environ.get("OMP_NUM_THREADS") != "1":
        yield None
        return
    path = str(tmp_path_factory.mktemp("engine") / "s")
    with subprocess.Popen(
        [sys.executable, "-m", "quick_engine", "--serve"],
        env={**quick_environment(), SERVER: path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as server:
        yield path if server.stdout.readline() == b"ready\n" else None
        server.kill()


@pytest.fixture(autouse=True)
def local_data(tmp_path_factory, monkeypatch):
    """No test writes into the user's own folder of runs; engines inherit the variable."""
    folder = tmp_path_factory.getbasetemp() / "local-data" / str(next(NUMBERS))
    monkeypatch.setenv("SPARSESEGNET_DATA", str(folder))
    choices = [f"SPARSESEGNET_{name}" for name in ("PYTHON", "SSH", "REMOTE_PYTHON")]
    for name in choices:
        monkeypatch.delenv(name, raising=False)
    yield
    # The command line puts its choice into this process's environment, and fixtures of modules and
    # of the session are made before this one clears it.
    for name in choices:
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path_factory, monkeypatch):
    """What failed runs leave for their users lies among pytest's folders, which it removes."""
    folder = tmp_path_factory.getbasetemp() / "temporary"
    folder.mkdir(exist_ok=True)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture(autouse=True)
def engine(request, monkeypatch):
    """Clients start quick_engine and quick_doctor, unless the test is marked `full_engine`."""
    if request.node.path.parent.name in ("engine", "unit"):
        return  # they start none
    # Before anything else: a test of the panel drops what is first imported while it runs.
    from SparseSegNetLib.client import diagnosis, engine_run

    if request.node.get_closest_marker("full_engine"):
        return
    monkeypatch.setattr(engine_run, "WORKER", "quick_engine")
    monkeypatch.setattr(diagnosis, "DOCTOR", "quick_doctor")
    monkeypatch.setenv("PYTHONPATH", quick_environment()["PYTHONPATH"])
    path = request.getfixturevalue("engine_server")
    if path is not None:
        monkeypatch.setenv(SERVER, path)
