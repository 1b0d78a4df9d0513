"""Settings of the whole test run, and the engine that tests start.

Two processes run the tests side by side (pytest-xdist): each, and the engines that it starts,
computes with one thread, since threads that outnumber the cores wait for each other.
"""

import os
import signal
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# A shell starts programs in the background with Ctrl-C ignored, and the engines that tests start
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def engine(request, monkeypatch):
    """Clients start quick_engine and quick_doctor, unless the test is marked `full_engine`."""
    from SparseSegNetLib.client import diagnosis, engine_run

    if request.node.get_closest_marker("full_engine"):
        return
    monkeypatch.setattr(engine_run, "WORKER", "quick_engine")
    monkeypatch.setattr(diagnosis, "DOCTOR", "quick_doctor")
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
