"""Run after run in one panel: nothing is left of those before.

RUNS=200 (`make benchmark-faults`) makes as many, and prints the memory.
"""

import gc
import os
import threading
from collections import Counter
from pathlib import Path

import pytest
import slicer
from scenes import annotated

from SparseSegNetLib.client import engine_run
from SparseSegNetLib.scene.scans import removed

RUNS = int(os.environ.get("RUNS", "5"))
WARM = max(2, RUNS // 5)


@pytest.fixture(autouse=True)
def standIn(monkeypatch):
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")


def idle(user):
    """No thread looks for slices to suggest, or at the stored runs."""
    following, stored = user.panel.annotate.next, user.panel.stored
    settled = following._madeOf == following._state() and following._task is None
    return settled and stored._look is None and not stored._again


def held(user):
    """How many there are of what a run makes: Qt's objects, our own, nodes, threads, files."""
    from PySide6.QtCore import QObject
    from PySide6.QtWidgets import QApplication

    user.panel.annotate.next._lookedAt = 0.0
    user.until(lambda: user.panel.annotate.next._lookedAt > 0 and idle(user))
    gc.collect()
    counts = Counter(
        type(one).__name__
        for one in gc.get_objects()
        if str(type(one).__module__).startswith("SparseSegNetLib")
    )
    counts.pop("StoredRun")  # one for each run folder, of which there are more and more
    counts["widgets"] = len(QApplication.allWidgets())
    counts["children"] = sum(
        len(one.findChildren(QObject)) for one in QApplication.topLevelWidgets()
    )
    counts["of the application"] = len(QApplication.instance().findChildren(QObject))
    counts["nodes"] = slicer.mrmlScene.GetNumberOfNodes()
    counts["observations"] = len(user.widget.Observations) + sum(
        node.HasObserver("AnyEvent") or node.HasObserver("ModifiedEvent")
        for node in map(slicer.mrmlScene.GetNthNode, range(counts["nodes"]))
    )
    counts["threads"] = threading.active_count()
    if os.path.isdir("/proc/self/fd"):
        counts["files"] = len(os.listdir("/proc/self/fd"))
    return counts


def resident():
    """Bytes of memory that this process holds; 0 where the system does not tell so."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0


def test_nothing_grows_from_run_to_run(user, monkeypatch, tmp_path):
    annotated(user)
    go_on = tmp_path / "go on"
    monkeypatch.setenv("STAND_IN_PREVIEWS", "")
    monkeypatch.setenv("STAND_IN_WAITS", str(go_on))
    parameters, counts, memory = user.panel.parameters, [], []
    for number in range(RUNS + 1):
        earlier = parameters.result
        go_on.unlink(missing_ok=True)
        user.click("trainButton")
        user.until(lambda: parameters.preview is not None)
        go_on.touch()
        user.until(lambda: not user.panel.controller.active)
        assert user.panel.controller.state == "done", (number, user.ui.statusLabel.text)
        assert parameters.preview is None and parameters.result is not earlier
        if earlier is not None:  # a result stays until the user deletes it
            removed(earlier)
        if number == WARM:  # counting takes memory too, for good where it leaves holes
            counts.append(held(user))
        if number in (WARM, RUNS):
            memory.append(resident())
    counts.append(held(user))
    assert user.panel._lastError == ""
    assert counts[1] == counts[0], counts[1] - counts[0]
    assert len(list(Path(os.environ["SPARSESEGNET_DATA"], "runs").iterdir())) == RUNS + 1
    if RUNS >= 200:
        first, last = memory
        print(
            f"{first / 1e6:.1f} MB after {WARM} runs, {last / 1e6:.1f} MB after {RUNS}:",
            f"{last / first - 1:+.2%}",
            dict(counts[1]),
        )
        assert last < 1.01 * first
