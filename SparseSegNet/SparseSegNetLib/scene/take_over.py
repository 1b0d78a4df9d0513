"""Takes a prediction over into one slice of the annotation, as a start to correct, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.slices import AnnotatedSlice, check_slices, in_slices
from ..errors import InputError
from .annotations import annotationOf
from .paint_observer import ownWrites
from .prediction_start import startedFromPrediction
from .segmentation_backup import allOrNothing
from .segmentations import mergedSegments, orderedSegments
from .slice_list import listedSlices, listSlices
from .taken_over import ATTRIBUTE, TakenOver, store, unconfirmed
from .volumes import volumeGeometry
from .voxel_edit import VoxelEdit


def takeOver(
    segmentationNode,
    volumeNode,
    item: AnnotatedSlice,
    predicted: np.ndarray,
    segmentIds: Sequence[str],
) -> int:
    """Draws the prediction of one slice where nothing is drawn or known to be background.

    Nothing that was drawn changes, and the slice is not listed: what was taken over does not count
    as annotation before the user confirms it (see `scene.taken_over`). Observers of the annotation
    do not report it as painting.

    Args:
        segmentationNode: The segmentation that is annotated; it may lie on another grid.
        volumeNode: The volume whose grid is used.
        item: The slice; its box does not matter.
        predicted: uint8 (two axes of the slice, in array order): n where the n-th of `segmentIds`
            is predicted, 0 background, 255 not predicted.
        segmentIds: Segment IDs in the segmentation of the predicted classes; empty for a class that
            it does not have.

    Returns:
        The number of voxels taken over.

    Raises:
        InputError: If the slice lies outside the volume or is listed as annotated, a predicted
            class has no segment, or the nodes cannot be used.
    """
    grid = volumeGeometry(volumeNode)
    name = segmentationNode.GetName()
    check_slices([item], grid.shape)
    item = AnnotatedSlice(item.axis, item.index)
    if startedFromPrediction(segmentationNode):
        raise InputError(
            f"'{name}' holds a prediction already: correct it in the slices that you choose."
        )
    listed = listedSlices(segmentationNode, grid)
    if any(s.place == item.place for s in (listed.slices if listed else ())):
        raise InputError(
            f"slice {item} is listed as annotated: remove it from the list first ('Not complete')."
        )
    annotation = annotationOf(segmentationNode, volumeNode, None, trainable=False)
    open_ = annotation.labels[item.selector()] == UNLABELLED
    if predicted.shape != open_.shape:
        raise ValueError(
            f"a prediction of {predicted.shape} voxels for slice {item} of {grid.shape}"
        )
    wanted = np.where(open_ & (predicted != UNLABELLED), predicted, 0)
    segmentation = segmentationNode.GetSegmentation()
    for n in np.unique(wanted[wanted > 0]):
        if segmentation.GetSegment(segmentIds[n - 1]) is None:
            raise InputError(
                f"slice {item} was predicted with a segment that '{name}' does not have "
                f"({segmentIds[n - 1] or f'class {n}'}): restore it there (undo), or train again."
            )
    if listed is None:  # later strokes are told from it by what is listed now
        listSlices(segmentationNode, dict.fromkeys(annotation.slices, False), grid)
    with ownWrites(segmentationNode), allOrNothing(segmentationNode, [ATTRIBUTE]):
        edit = VoxelEdit(segmentationNode, volumeNode)
        numbers = np.zeros(grid.shape, np.uint16)
        table = edit.numbersOf([None, *segmentIds])
        numbers[item.selector()] = table[wanted]
        filled = edit.fill(numbers)
        voxels = {
            segmentId: found
            for segmentId, number in zip(segmentIds, table[1:], strict=True)
            if number and (found := np.flatnonzero(filled == number)).size
        }
        if voxels:
            store(segmentationNode, TakenOver((item,), voxels, grid))
    return sum(found.size for found in voxels.values())


def undoTakeOver(segmentationNode, volumeNode, item: AnnotatedSlice) -> int:
    """Removes from a slice what was taken over from a prediction and is not confirmed.

    What was drawn there stays; so do voxels that lie in a complete slice across, of whose
    annotation they are part now, and all that was taken over once the slice is listed.

    Args:
        segmentationNode: The segmentation that is annotated.
        volumeNode: The volume whose grid is used.
        item: The slice; its box does not matter.

    Returns:
        The number of voxels removed.

    Raises:
        InputError: If the nodes cannot be used.
    """
    grid = volumeGeometry(volumeNode)
    annotation = annotationOf(segmentationNode, volumeNode, None, trainable=False)
    segmentation = segmentationNode.GetSegmentation()
    ids = orderedSegments(segmentation)
    labels = mergedSegments(segmentation, ids, volumeNode)
    numbers = np.zeros(grid.shape, np.uint16)
    with ownWrites(segmentationNode), allOrNothing(segmentationNode, [ATTRIBUTE]):
        edit = VoxelEdit(segmentationNode, volumeNode)
        for entry in unconfirmed(segmentationNode, grid):
            held = entry.held(labels, ids)
            gone = in_slices(held, [AnnotatedSlice(item.axis, item.index)], grid.shape)
            held = held[gone & ~in_slices(held, annotation.complete, grid.shape)]
            numbers.ravel()[held] = edit.numbersOf(ids)[labels.ravel()[held] - 1]
        edit.clear(numbers)
    return int(np.count_nonzero(numbers))
