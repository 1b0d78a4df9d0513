"""What is labelled in the scene: segments and annotated slices as the engine's label array."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..annotation.composition import check_trainable, compose_labels
from ..annotation.cover import cover_slices, looks_solid
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice
from .segmentations import drawnSegments
from .slice_list import listedSlices


@dataclass
class NodeAnnotation:
    """labels: uint8 (k, j, i) on the volume's grid, 255 = unlabelled.  slices: the annotated
    ones.  warnings: what the user should know."""

    labels: np.ndarray
    segments: list[Segment]
    slices: list[AnnotatedSlice]
    warnings: list[str] = field(default_factory=list)


def annotationOf(segmentationNode, volumeNode, slices: list[AnnotatedSlice] | None
                 ) -> NodeAnnotation:
    """What was drawn in a segmentation node. slices: None for those that are listed with
    the node or, where none ever were, for the smallest set that covers what was drawn.

    Raises InputError when nodes, slices or labels cannot be used.
    """
    drawn = drawnSegments(segmentationNode, volumeNode)
    warnings = []
    if slices is None and (listed := listedSlices(segmentationNode)) is not None:
        slices = list(listed)
    if slices is None:
        slices = cover_slices(drawn.labelmap > 0)
        if looks_solid(slices):
            warnings.append(
                f"the segments of '{segmentationNode.GetName()}' are solid: it takes "
                f"{len(slices)} slices to cover them, several side by side. If they were painted "
                "with a 3D brush, name the slices that are completely annotated.")
    labels = compose_labels(drawn.labelmap, slices, drawn.background)
    check_trainable(labels, [s.name for s in drawn.segments])
    return NodeAnnotation(labels, drawn.segments, slices, warnings)
