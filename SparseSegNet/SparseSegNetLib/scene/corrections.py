"""Transfer of a result's corrections into the annotation."""

from __future__ import annotations

import numpy as np

from ..annotation.geometry import Geometry
from ..errors import InputError
from .corrected_voxels import ATTRIBUTE, addCorrectedVoxels
from .paint_observer import ownWrites
from .segmentation_backup import allOrNothing
from .segmentations import isBackground, mergedSegments
from .volumes import refuseTransformed, volumeGeometry
from .voxel_edit import VoxelEdit

GREY = (0.5, 0.5, 0.5)


def takeCorrections(
    resultNode,
    delivered: np.ndarray,
    segmentIds: list[str],
    drawnNode,
    volumeNode,
    grid: Geometry,
) -> int:
    """Copies voxels that the user changed in a result into the annotation.

    Corrections are single voxels: the slices that they lie in do not become complete. They are
    stored with the annotation, and its observers do not report these writes as painting. Erased
    voxels become Background, in a segment of that name that is added if it is missing, since a
    voxel without a segment would count as unlabelled.

    Nothing else changes: each segment stays on its own grid, also outside the volume. On a finer
    grid than the volume's those voxels change whose centres lie in a corrected one; a layer that is
    too coarse for that, or turned against the volume, is resampled. If that is not possible,
    nothing changes at all.

    Args:
        resultNode: The result that the user corrected.
        delivered: uint8 (k, j, i), the result as the engine returned it, n = the n-th of
            `segmentIds`.
        segmentIds: Segment IDs of the result.
        drawnNode: The segmentation with the annotation.
        volumeNode: The volume whose grid is used.
        grid: The volume's grid when the run began.

    Returns:
        The number of corrected voxels.

    Raises:
        InputError: If a segment of the result is missing there or in the annotation, or nodes
            cannot be used together.
    """
    present = volumeGeometry(volumeNode)
    if (difference := grid.difference(present)) is not None:
        raise InputError(
            f"the volume '{volumeNode.GetName()}' is not on the grid of the result "
            f"'{resultNode.GetName()}': {difference} (then against now). Choose the volume that "
            "the run began with."
        )
    for node in (resultNode, drawnNode):
        refuseTransformed(node, "segmentation")
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
    _refuseUnknown(np.unique(now[changed]), segmentIds, resultNode, drawnNode)
    with ownWrites(drawnNode), allOrNothing(drawnNode, [ATTRIBUTE]):
        addCorrectedVoxels(drawnNode, changed, present)
        _draw(drawnNode, volumeNode, segmentIds, changed, now)
    return int(np.count_nonzero(changed))


def _refuseUnknown(labels: np.ndarray, segmentIds: list[str], resultNode, drawnNode) -> None:
    for n in labels[labels > 0]:
        if drawnNode.GetSegmentation().GetSegment(segmentIds[n - 1]) is None:
            name = resultNode.GetSegmentation().GetSegment(segmentIds[n - 1]).GetName()
            raise InputError(
                f"the result was corrected with the segment '{name}', which was removed from the "
                f"annotation '{drawnNode.GetName()}': restore it there (undo), or begin a new run."
            )


def _draw(
    drawnNode, volumeNode, segmentIds: list[str], changed: np.ndarray, now: np.ndarray
) -> None:
    """Sets the changed voxels of the annotation to their labels in `now` (uint8 (k, j, i))."""
    edit = VoxelEdit(drawnNode, volumeNode)
    background = backgroundSegment(drawnNode, make=bool((changed & (now == 0)).any()))
    # Voxels of no segment become Background.
    table = edit.numbersOf([background, *segmentIds])
    edit.draw(np.where(changed, table[now], np.uint16(0)))


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
    if not make:
        return None
    # The segment may be renamed that once had the ID.
    free = segmentation.GenerateUniqueSegmentID("Background")
    return segmentation.AddEmptySegment(free, "Background", GREY)
