"""What is labelled in the scene: segments and annotated slices as the engine's label array."""

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

REMEDY = "name the slices that are completely annotated"


@dataclass
class NodeAnnotation:
    """labels: uint8 (k, j, i) on the volume's grid, 255 = unlabelled.  slices: the annotated
    ones.  warnings: what the user should know."""

    labels: np.ndarray
    segments: list[Segment]
    slices: list[AnnotatedSlice]
    warnings: list[str]


def annotationOf(
    segmentationNode, volumeNode, slices: list[AnnotatedSlice] | None
) -> NodeAnnotation:
    """What was drawn in a segmentation node. slices: None for those that are listed with
    the node or, where none ever were, for the smallest set that covers what was drawn (corrected
    voxels of a result apart, which are no slices).

    Raises InputError when nodes, slices or labels cannot be used.
    """
    drawn = drawnSegments(segmentationNode, volumeNode)
    if slices is None and (listed := listedSlices(segmentationNode)) is not None:
        slices = list(listed)
    found = label_array(
        drawn.labelmap,
        drawn.background,
        slices,
        segmentationNode.GetName(),
        REMEDY,
        correctedVoxels(segmentationNode, drawn.labelmap.shape),
    )
    check_trainable(found.labels, [s.name for s in drawn.segments])
    return NodeAnnotation(found.labels, drawn.segments, found.slices, found.warnings)
