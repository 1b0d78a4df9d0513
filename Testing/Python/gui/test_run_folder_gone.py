"""The panel while the disk of its run is full, or the run's folder goes away."""

import errno
import os
import shutil

import numpy as np
import pytest
from injected_faults import moved
from scenes import SHAPE, annotated, planeOf, training

from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.scene.segmentations import mergedSegments


def contentOf(user):
    node, volume = user.panel.parameters.segmentation, user.panel.parameters.volume
    ids = list(node.GetSegmentation().GetSegmentIDs())
    return mergedSegments(node.GetSegmentation(), ids, volume)


def stroke(user, truth, index):
    """One more slice of the first segment."""
    inPlane = np.zeros(SHAPE, bool)
    inPlane[planeOf("k", index)] = True
    segmentId = user.panel.parameters.segmentation.GetSegmentation().GetNthSegmentID(0)
    user.paint(segmentId, inPlane & (truth == 1))


@pytest.mark.parametrize("deleted", [False, True])
def test_the_folder_goes_away_while_the_panel_watches(user, deleted):
    truth = annotated(user, 120.0)
    user.click("trainButton")
    user.until(lambda: training(user))
    folder = user.panel.controller.run.folder
    if not deleted:
        user.until(lambda: (folder / "checkpoint" / "state.safetensors").is_file())
    folder.rename(moved(folder))
    if deleted:
        shutil.rmtree(moved(folder))
    # Everything that looks into the folder or writes there is asked to.
    stroke(user, truth, 12)
    user.panel.annotate.next._lookedAt = 0.0
    user.until(lambda: "is gone" in user.ui.statusLabel.text, 20)
    drawn = contentOf(user)
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "failed"
    assert f"The run folder {folder} is gone" in user.ui.statusLabel.text
    assert "Bring it back to this place" in user.ui.statusLabel.text
    assert user.panel._lastError == "" and (contentOf(user) == drawn).all()
    assert not folder.exists() and not user.ui.resumeButton.visible
    assert user.ui.trainButton.enabled, "another run can begin"
    if deleted:
        return
    moved(folder).rename(folder)
    user.panel.update()
    user.click("resumeButton")
    user.until(lambda: training(user))
    assert AnnotatedSlice("k", 12) in user.panel.controller.run.slices, "with what was drawn last"
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text


def test_labels_on_a_full_disk_are_sent_when_there_is_space(user, monkeypatch):
    truth = annotated(user, 120.0)
    events = []
    user.click("trainButton")
    user.until(lambda: training(user))
    user.panel.controller.run.observe(events.append)
    full = [True]
    write = RunFolder.prepare_labels

    def writing(self, *arguments):
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *arguments)

    monkeypatch.setattr(RunFolder, "prepare_labels", writing)
    stroke(user, truth, 12)
    folder = user.panel.controller.run.folder
    said = f"The changed labels cannot be written: the disk of the run folder {folder} is full."
    user.until(lambda: said in user.ui.statusLabel.text, 20)
    assert "Free some space there" in user.ui.statusLabel.text
    assert user.panel.controller.state == "training"
    assert AnnotatedSlice("k", 12) not in user.panel.controller.run.slices
    full.clear()
    user.until(lambda: any(e["event"] == "labels" for e in events), 20)
    assert AnnotatedSlice("k", 12) in user.panel.controller.run.slices
    user.until(lambda: said not in user.ui.statusLabel.text, 20)
    assert user.panel._lastError == ""
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text
