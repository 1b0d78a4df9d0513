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

RUNS = int(os.environ.get("RUNS", "5"))
WARM = max(2, RUNS // 5)


@pytest.fixture(autouse=True)
def standIn(monkeypatch):
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")


def held(user):
    """How many there are of what a run makes: Qt's objects, our own, nodes, threads, files."""
    from PySide6.QtCore import QObject
    from PySide6.QtWidgets import QApplication

    for _ in range(3):
        user.turn()  # deleteLater
    gc.collect()
    counts = Counter(
        type(one).__name__
        for one in gc.get_objects()
        if str(type(one).__module__).startswith("SparseSegNetLib")
    )
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


def test_nothing_grows_from_run_to_run(user):
    annotated(user)
    parameters, counts, memory = user.panel.parameters, [], []
    for number in range(RUNS + 1):
        earlier = [n for n in (parameters.result, parameters.uncertainty) if n is not None]
        user.click("trainButton")
        user.until(lambda: not user.panel.controller.active)
        assert user.panel.controller.state == "done", (number, user.ui.statusLabel.text)
        for node in earlier:  # results stay until the user deletes them
            slicer.mrmlScene.RemoveNode(node)
        if number >= WARM:
            counts.append(held(user))
            memory.append(resident())
    assert user.panel._lastError == ""
    for later in counts[1:]:
        assert later == counts[0], later - counts[0]
    assert len(list(Path(os.environ["SPARSESEGNET_DATA"], "runs").iterdir())) == RUNS + 1
    if RUNS >= 200:
        grown = memory[-1] / memory[0] - 1
        print(f"{len(memory) - 1} runs after {WARM}: {memory[0] / 1e6:.1f} MB,", end=" ")
        print(f"at the end {memory[-1] / 1e6:.1f} MB ({grown:+.2%}), most {max(memory) / 1e6:.1f}")
        print(dict(counts[-1]))
        assert grown < 0.01
