"""What lies over each other in the views: nothing filled hides what is below it."""

import numpy as np
import pytest

from SparseSegNetLib.scene.results import createResultNode
from SparseSegNetLib.scene.shown_layers import (
    arrange,
    asPreview,
    hideEarlierResults,
    isOverlaid,
    isShown,
    setShown,
)

SHAPE = (6, 7, 8)


@pytest.fixture
def drawn(makeVolume, makeSegmentation):
    """A volume, its annotation, and a function that makes results."""
    volume = makeVolume(np.zeros(SHAPE, np.int16))
    mask = np.zeros(SHAPE, bool)
    mask[2:4, 2:4, 2:4] = True
    node = makeSegmentation(volume, {"A": mask})

    def result(on=volume):
        return createResultNode(mask.astype(np.uint8), ["A"], node, on, "dense")

    return volume, node, result


def filled(node):
    return bool(node.GetDisplayNode().GetVisibility2DFill())


def test_the_annotation_is_an_outline_over_a_prediction(drawn):
    _, annotation, make = drawn
    arrange(annotation, [None], False)
    assert filled(annotation)
    result = make()
    arrange(annotation, [None, result], False)
    assert not filled(annotation) and filled(result)
    setShown(result, False)
    arrange(annotation, [result], False)
    assert filled(annotation), "nothing lies below it"


def test_all_are_outlines_over_the_uncertainty(drawn):
    _, annotation, make = drawn
    result = make()
    arrange(annotation, [result], True)
    assert not filled(annotation) and not filled(result)
    assert isShown(annotation) and isShown(result)
    arrange(annotation, [result], False)
    assert filled(result) and not filled(annotation)


def test_earlier_results_are_hidden(drawn, makeVolume):
    volume, annotation, make = drawn
    other = makeVolume(np.zeros(SHAPE, np.int16), name="other")
    first, elsewhere, second = make(), make(other), make()
    hideEarlierResults(volume, second)
    assert [isShown(n) for n in (first, elsewhere, second, annotation)] == [
        False,
        True,
        True,
        True,
    ]


def test_a_preview_is_transparent_and_not_saved(drawn):
    _, _, make = drawn
    node = asPreview(make())
    assert node.GetDisplayNode().GetOpacity2DFill() < 0.5 and not node.GetSaveWithScene()


def test_what_the_views_overlay(drawn, scene):
    volume, *_ = drawn
    assert not isOverlaid(None) and not isOverlaid(volume)
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    composite.SetForegroundVolumeID(volume.GetID())
    assert isOverlaid(volume)
