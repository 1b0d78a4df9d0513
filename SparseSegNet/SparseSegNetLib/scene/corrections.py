"""Transfer of a result's corrections into the annotation."""

from __future__ import annotations

import numpy as np
import slicer.util

from ..errors import InputError
from .corrected_voxels import addCorrectedVoxels
from .paint_observer import ownWrites
from .segmentations import isBackground, mergedSegments

GREY = (0.5, 0.5, 0.5)


def takeCorrections(
    resultNode, delivered: np.ndarray, segmentIds: list[str], drawnNode, volumeNode
) -> int:
    """Copies voxels that the user changed in a result into the annotation.

    Corrections are single voxels: the slices that they lie in do not become complete. They are
    stored with the annotation, and its observers do not report these writes as painting. Erased
    voxels become Background, in a segment of that name that is added if it is missing, since a
    voxel without a segment would count as unlabelled.

    Args:
        resultNode: The result that the user corrected.
        delivered: uint8 (k, j, i), the result as the engine returned it, n = the n-th of
            `segmentIds`.
        segmentIds: Segment IDs of the result.
        drawnNode: The segmentation with the annotation.
        volumeNode: The volume whose grid is used.

    Returns:
        The number of corrected voxels.

    Raises:
        InputError: If a segment of the result is missing.
    """
    segmentation = resultNode.GetSegmentation()
    missing = [i for i in segmentIds if segmentation.GetSegment(i) is None]
    if missing:
        raise InputError(
            f"the segment '{missing[0]}' of the result '{resultNode.GetName()}' was "
            "removed: its corrections cannot be determined."
        )
    now = mergedSegments(segmentation, segmentIds, volumeNode)
    changed = now != delivered
    if not changed.any():
        return 0
    with ownWrites(drawnNode):
        addCorrectedVoxels(drawnNode, changed)
        _draw(drawnNode, volumeNode, segmentIds, changed, now)
    return int(np.count_nonzero(changed))


def _draw(
    drawnNode, volumeNode, segmentIds: list[str], changed: np.ndarray, now: np.ndarray
) -> None:
    """Sets the changed voxels of the annotation to their labels in `now` (uint8 (k, j, i))."""
    drawn = drawnNode.GetSegmentation()
    erased = changed & (now == 0)
    background = backgroundSegment(drawnNode, make=bool(erased.any()))
    for segmentId in drawn.GetSegmentIDs():
        new = np.zeros_like(changed)
        if segmentId == background:
            new = erased
        elif segmentId in segmentIds:
            new = changed & (now == segmentIds.index(segmentId) + 1)
        before = slicer.util.arrayFromSegmentBinaryLabelmap(drawnNode, segmentId, volumeNode)
        before = np.zeros(changed.shape, bool) if before is None else before > 0
        after = (before & ~changed) | new
        if (after != before).any():
            slicer.util.updateSegmentBinaryLabelmapFromArray(
                after.astype(np.uint8), drawnNode, segmentId, volumeNode
            )


def backgroundSegment(segmentationNode, make: bool = False) -> str | None:
    """The ID of the Background segment, None without one.

    Args:
        segmentationNode: The segmentation.
        make: True adds the segment if it is missing.
    """
    segmentation = segmentationNode.GetSegmentation()
    for segmentId in segmentation.GetSegmentIDs():
        if isBackground(segmentation, segmentId):
            return segmentId
    return segmentation.AddEmptySegment("Background", "Background", GREY) if make else None
