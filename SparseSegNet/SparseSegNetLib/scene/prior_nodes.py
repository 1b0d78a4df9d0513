"""Another tool's result in the scene as a prior: a segmentation, or volumes of probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import slicer.util

from ..annotation.external_prior import Prior, PriorBuilder
from ..annotation.geometry import Geometry
from ..annotation.reference_geometry import PARAMETER, reference_geometry
from ..annotation.segments import Segment
from ..errors import InputError
from .segmentations import drawnSegments
from .volumes import volumeGeometry

REMEDY = "or give volumes of probabilities that are called as the segments are"


def priorOf(nodes, volumeNode, segments: Sequence[Segment]) -> Prior:
    """Reads a prior on a volume's grid; the nodes are not changed.

    Outside of what a node covers it says nothing: a volume covers its own grid, a segmentation that
    of the volume which it refers to, everything without one.

    Args:
        nodes: A node or several: segmentations, whose segments are matched by name; label maps,
            matched by label value (n for the n-th segment); scalar volumes of probabilities (0 to
            1, or whole numbers from 0 to 255), each called as its segment is.
        volumeNode: The volume.
        segments: The classes of the annotation.

    Returns:
        The prior.

    Raises:
        InputError: If a node cannot be used or does not overlap the volume, or none knows any of
            the segments.
    """
    builder = PriorBuilder(volumeGeometry(volumeNode), segments, REMEDY)
    for node in nodes if isinstance(nodes, (list, tuple)) else [nodes]:
        name = "nothing" if node is None else node.GetName() or ""
        if node is not None and node.IsA("vtkMRMLSegmentationNode"):
            drawn = drawnSegments(node, volumeNode)
            builder.notes += drawn.warnings
            builder.add_segments(name, drawn.drawings, drawn.segments, _segmentedGrid(node))
        elif node is None or not node.IsA("vtkMRMLScalarVolumeNode"):
            raise InputError(
                f"'{name}' cannot be a prior: choose a segmentation, a label map or volumes of "
                "probabilities."
            )
        else:
            geometry, values = volumeGeometry(node), slicer.util.arrayFromVolume(node)
            if node.IsA("vtkMRMLLabelMapVolumeNode"):
                builder.add_values(name, values, geometry)
            else:
                builder.add_probability(name, name, values, geometry)
    return builder.finish()


def _segmentedGrid(segmentationNode) -> Geometry | None:
    """The grid of the volume that a segmentation refers to; None without one."""
    return reference_geometry(segmentationNode.GetSegmentation().GetConversionParameter(PARAMETER))
