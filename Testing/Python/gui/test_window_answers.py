"""The window answers while long work is done: it is done in steps, and in other threads."""

import threading

import numpy as np
import pytest
import slicer
from scenes import SHAPE, annotated, planeOf, press, training

from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.runfolder import outputs, prepared_labels
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.scene import annotations, segment_reader


@pytest.fixture
def threads(monkeypatch):
    """The threads in which costly functions ran, by name; in "gui" or "other"."""
    seen = {}

    def watch(owner, name):
        function = getattr(owner, name)

        def watched(*args, **kwargs):
            here = threading.current_thread() is threading.main_thread()
            seen.setdefault(name, set()).add("gui" if here else "other")
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    for owner, name in (
        (annotations, "label_array"),
        (segment_reader, "mergedLayers"),
        (segment_reader, "overlaps_of"),
        (prepared_labels, "write_plain_array"),
        (outputs, "read_array"),
    ):
        watch(owner, name)
    return seen


@pytest.fixture
def held(monkeypatch):
    """Run folders are not written before `go` is set.

    `reached` is set when one is to be written, `written` when one was.
    """
    reached, go, written = threading.Event(), threading.Event(), threading.Event()
    create = RunFolder.create.__func__

    def waiting(cls, *args, **kwargs):
        reached.set()
        assert threading.current_thread() is not threading.main_thread()
        assert go.wait(60)
        folder = create(cls, *args, **kwargs)
        written.set()
        return folder

    monkeypatch.setattr(RunFolder, "create", classmethod(waiting))
    yield reached, go, written
    go.set()


def inPlane(truth, axis, index):
    where = np.zeros(SHAPE, bool)
    where[planeOf(axis, index)] = True
    return where & (truth == 1)


def test_costly_functions_run_in_other_threads(user, threads):
    truth = annotated(user, 120.0)
    assert threads["mergedLayers"] == threads["overlaps_of"] == {"gui", "other"}, (
        "an empty segmentation is read at once when it is chosen, what is drawn is not"
    )
    for calls in threads.values():
        calls.clear()
    user.click("trainButton")
    controller = user.panel.controller
    assert controller.starting and controller.run is None, "the click does not wait for the engine"
    assert user.ui.cancelButton.enabled and not user.ui.stopButton.enabled
    user.until(lambda: training(user) and user.panel.parameters.preview is not None)
    ids = list(user.panel.parameters.segmentation.GetSegmentation().GetSegmentIDs())
    user.paint(ids[0], inPlane(truth, "k", 12))
    user.until(lambda: AnnotatedSlice("k", 12) in controller.run.slices, 30)
    user.click("stopButton")
    user.until(lambda: not controller.active)
    assert controller.state == "done" and user.panel.parameters.result is not None
    assert threads["label_array"] == threads["write_plain_array"] == {"other"}
    assert "other" in threads["read_array"]


def test_painting_while_a_run_is_prepared(user, held):
    """What is painted after the press comes to the engine as all that is painted later."""
    reached, go, _written = held
    truth = annotated(user, 120.0)
    user.click("trainButton")
    controller = user.panel.controller
    user.until(reached.is_set, 30)
    assert controller.starting and controller.active and controller.state == "preparing"
    ids = list(user.panel.parameters.segmentation.GetSegmentation().GetSegmentIDs())
    user.paint(ids[0], inPlane(truth, "k", 12))
    user.until(lambda: AnnotatedSlice("k", 12) in user.panel.session.slices, 20)
    assert controller.starting, "painting is read meanwhile"
    go.set()
    user.until(lambda: not controller.starting, 30)
    assert AnnotatedSlice("k", 12) not in controller.run.slices
    user.until(lambda: AnnotatedSlice("k", 12) in controller.run.slices, 60)
    labels = controller.run.folder / "inputs" / "1" / "labels.npy"
    expected = annotations.annotationOf(
        user.panel.parameters.segmentation, user.panel.parameters.volume, None
    )
    assert np.array_equal(np.load(labels), expected.labels)
    user.click("cancelButton")


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_run_that_is_prepared_is_given_up(user, held, how):
    reached, go, written = held
    annotated(user)
    user.click("trainButton")
    controller = user.panel.controller
    user.until(reached.is_set, 30)
    if how == "cancel":
        user.click("cancelButton")
        assert "Cancelled" in user.ui.statusLabel.text and user.ui.trainButton.enabled
    else:
        slicer.mrmlScene.Clear(0)
    assert not controller.active and controller.run is None
    go.set()
    folder = user.panel.runs.folder
    user.until(lambda: written.is_set() and not any(folder.iterdir()), 20)
    assert controller.run is None, "no engine was started"
    if how == "cancel":
        press(user, "trainButton")
        assert controller.run is not None and len(list(folder.iterdir())) == 1
        user.click("cancelButton")


def test_a_segmentation_is_removed_while_a_run_is_prepared(user, held):
    reached, go, _written = held
    annotated(user)
    user.click("trainButton")
    controller = user.panel.controller
    user.until(reached.is_set, 30)
    slicer.mrmlScene.RemoveNode(user.panel.parameters.segmentation)
    go.set()
    user.until(lambda: not controller.starting, 30)
    assert controller.run is not None and controller.run.segmentationNode is None
    user.click("cancelButton")
    assert controller.state == "cancelled"
