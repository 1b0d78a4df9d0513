"""A real MRML scene from PyPI's slicer-core: Slicer's own libraries, without the application."""

import numpy as np
import pytest
from mrml_scene import rotation

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("slicer.util", reason="slicer-core without slicer.util")


@pytest.fixture
def scene():
    """A scene with the logics that Slicer has, hung up where slicer.util looks for them."""
    from mrml_scene import sceneWithLogics

    scene, slicer.modules, _application = sceneWithLogics()
    slicer.mrmlScene = scene
    yield scene
    scene.Clear(1)
    del slicer.mrmlScene, slicer.modules


@pytest.fixture
def makeVolume(scene):
    """makeVolume(array (k, j, i), seed=None, ...) -> volume node, oblique when a seed is given."""
    import slicer.util

    def make(
        array,
        seed=None,
        spacing=(0.7, 1.1, 3.3),
        name="CT",
        kind="vtkMRMLScalarVolumeNode",
        leftHanded=False,
    ):
        node = scene.AddNewNodeByClass(kind, name)
        slicer.util.updateVolumeFromArray(node, array)
        if seed is not None:
            node.SetIJKToRASDirections(*rotation(seed, leftHanded).ravel())
        node.SetSpacing(*spacing)
        node.SetOrigin(1 / 3, -200.7, 55.1)
        return node

    return make


@pytest.fixture
def makeSegmentation(scene):
    """makeSegmentation(volume, {id: boolean (k, j, i)}) -> segmentation node drawn like that."""
    import slicer.util

    def make(volume, masks, name="Drawn"):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for n, (segmentId, mask) in enumerate(masks.items()):
            node.GetSegmentation().AddEmptySegment(
                segmentId, f"Name of {segmentId}", (0.1 * n, 1 - 0.1 * n, 0.5)
            )
            slicer.util.updateSegmentBinaryLabelmapFromArray(
                mask.astype(np.uint8), node, segmentId, volume
            )
        return node

    return make
