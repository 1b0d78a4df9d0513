"""Layers of the slice views that lie over each other: annotation, predictions, uncertainty."""

from __future__ import annotations

import slicer.util

from .results import isResult

OPACITY = 0.6  # of the uncertainty
PREVIEW_FILL = 0.35  # opacity


def isShown(node) -> bool:
    """True if a segmentation is shown in the views."""
    display = None if node is None else node.GetDisplayNode()
    return display is not None and bool(display.GetVisibility())


def setShown(node, shown: bool) -> None:
    """Shows a segmentation in the views, or hides it."""
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(shown)


def asPreview(node):
    """The segmentation node as a preview: more transparent, and not saved with the scene."""
    node.GetDisplayNode().SetOpacity2DFill(PREVIEW_FILL)
    node.SetSaveWithScene(False)
    return node


def arrange(annotation, predictions, uncertainty: bool) -> None:
    """Draws outlines where a filled segmentation would hide what lies below it.

    The annotation is an outline over a prediction. Over the uncertainty all are.

    Args:
        annotation: The segmentation with the annotation, or None.
        predictions: Segmentations with predictions; None among them is left out.
        uncertainty: True while the uncertainty is shown.
    """
    shown = [node for node in predictions if node is not None]
    if annotation is not None:
        _fill(annotation, not uncertainty and not any(map(isShown, shown)))
    for node in shown:
        _fill(node, not uncertainty)


def _fill(node, filled: bool) -> None:
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(filled)
    display.SetVisibility2DOutline(True)


def hideEarlierResults(volumeNode, result) -> None:
    """Hides all results on a volume but one.

    Args:
        volumeNode: The volume.
        result: The one that is left as it is, or None.
    """
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        of = node.GetNodeReference(role)
        if node is not result and isResult(node) and of is volumeNode and isShown(node):
            setShown(node, False)


def isOverlaid(volumeNode) -> bool:
    """True if a slice view shows this volume as its foreground."""
    if volumeNode is None:
        return False
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return any(c.GetForegroundVolumeID() == volumeNode.GetID() for c in composites)
