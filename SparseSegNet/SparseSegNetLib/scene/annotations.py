"""The annotation in the scene, segments and annotated slices, as a label array for training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..annotation.composition import check_trainable
from ..annotation.drawn import label_array
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice
from .corrected_voxels import correctedVoxels
from .segmentations import drawnSegments
from .slice_list import listedSlices
from .volumes import volumeGeometry

REMEDY = "name the slices that are completely annotated"


@dataclass
class NodeAnnotation:
    """The annotation of a segmentation node.

    Attributes:
        labels: uint8 (k, j, i) on the volume's grid: 0 background, 1..K segments, 255 unlabelled.
        segments: The segments, without Background.
        slices: The annotated slices.
        warnings: Warnings for the user.
    """

    labels: np.ndarray
    segments: list[Segment]
    slices: list[AnnotatedSlice]
    warnings: list[str]


def annotationOf(
    segmentationNode, volumeNode, slices: list[AnnotatedSlice] | None
) -> NodeAnnotation:
    """The annotation drawn in a segmentation node, as labels for training.

    Args:
        segmentationNode: The segmentation.
        volumeNode: The volume whose grid is used.
        slices: The annotated slices. None for those listed with the node or, without a list, for
            the smallest set that covers what was drawn (corrected voxels of a result do not count:
            they do not make their slices complete).

    Returns:
        Labels, segments, slices and warnings.

    Raises:
        InputError: If nodes, slices or labels cannot be used.
    """
    drawn = drawnSegments(segmentationNode, volumeNode)
    grid, warnings = volumeGeometry(volumeNode), []
    if slices is None and (listed := listedSlices(segmentationNode, grid)) is not None:
        slices, warnings = list(listed.slices), [listed.warning]
    corrected = correctedVoxels(segmentationNode, grid)
    if slices is None:
        warnings = [corrected.warning]
    found = label_array(
        drawn.labelmap,
        drawn.background,
        slices,
        segmentationNode.GetName(),
        REMEDY,
        corrected.voxels,
    )
    warnings = [*filter(None, warnings), *found.warnings]
    check_trainable(found.labels, [s.name for s in drawn.segments])
    return NodeAnnotation(found.labels, drawn.segments, found.slices, warnings)
