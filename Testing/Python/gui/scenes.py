"""A small annotated volume for the panel's tests."""

from pathlib import Path

import numpy as np
import slicer
import slicer.util
from phantom import nested

SAMPLE = Path(__file__).resolve().parents[3] / "SparseSegNet" / "Resources" / "Sample"
SHAPE = (24, 28, 30)
SLICES = (("k", 8), ("k", 16), ("j", 10), ("j", 18), ("i", 15))


def addVolume(name="MR"):
    """The volume in the scene, a little oblique; and its truth."""
    image, truth = nested(SHAPE)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, image)
    cos, sin = np.cos(0.2), np.sin(0.2)
    node.SetIJKToRASDirections(cos, -sin, 0, sin, cos, 0, 0, 0, 1)
    node.SetSpacing(0.8, 0.8, 1.2)
    return node, truth


def planeOf(axis, index):
    """An index expression of the plane in a (k, j, i) array."""
    where = [slice(None)] * 3
    where["kji".index(axis)] = index
    return tuple(where)


def paintSlices(user, truth, slices=SLICES):
    """Draw the truth of these slices into the chosen segmentation, one after another."""
    ids = list(user.panel.parameters.segmentation.GetSegmentation().GetSegmentIDs())
    for axis, index in slices:
        inPlane = np.zeros(SHAPE, bool)
        inPlane[planeOf(axis, index)] = True
        for segmentId, value in zip(ids, (1, 2), strict=False):
            user.paint(segmentId, inPlane & (truth == value))
        user.until(lambda: user.panel.session.dirtySince is None, 10)


def annotated(user, seconds=15.0):
    """A volume, a segmentation with five slices drawn, little time. Returns the truth."""
    volume, truth = addVolume()
    user.panel.parameters.volume = volume
    user.click("newSegmentationButton")
    paintSlices(user, truth)
    user.panel.parameters.timeBudget = seconds
    user.panel.parameters.device = "cpu"
    return truth


def press(user, button):
    """Press a button that starts a run, and wait until it is there or refused."""
    controller = user.panel.controller
    user.click(button)
    user.until(lambda: not controller.starting)


def training(user):
    return (
        user.panel.controller.state == "training"
        and user.panel.controller.progress.get("step", 0) > 0
    )
