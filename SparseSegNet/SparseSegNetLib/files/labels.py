"""Reads annotation: a label image with a value for unlabelled voxels, or a .seg.nrrd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..annotation.composition import UNLABELLED, restrict_to_slices
from ..annotation.cover import cover_slices
from ..annotation.drawn import label_array
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice, check_slices
from ..errors import InputError
from .images import geometry_of, reoriented
from .label_image import read_label_file
from .label_values import label_values, renumber
from .segmentation_file import Content, is_segmentation, read_segments

REMEDY = "name the slices that are completely annotated with --slices"


@dataclass
class Annotation:
    """The annotation of one volume.

    Attributes:
        labels: uint8 (k, j, i), 0 background, 1..K segments, 255 unlabelled.
        segments: The classes 1..K.
        slices: The annotated slices, given or detected.
        warnings: Messages for the user.
    """

    labels: np.ndarray
    segments: list[Segment]
    slices: list[AnnotatedSlice]
    warnings: list[str] = field(default_factory=list)


def read_annotation(
    path: Path | str,
    geometry: Geometry,
    unlabelled: int = UNLABELLED,
    slices: Sequence[AnnotatedSlice] = (),
) -> Annotation:
    """Reads annotation on the grid of the image.

    A `.seg.nrrd` has segments and nothing else: its annotated slices are `slices`, or the
    smallest set of planes that covers the drawn voxels. In a label image 0 is background, unless
    `unlabelled` is 0: then 0 means that nothing was drawn and the image is read like a
    segmentation.

    Args:
        path: The file.
        geometry: The image's grid.
        unlabelled: The value of unlabelled voxels in a label image (255, or that of other
            programs: -1, -100, 65535).
        slices: The annotated slices, outside of which a label image does not count; empty if
            they are to be detected.

    Raises:
        InputError: The file is unreadable or on another grid, or slices or label values are bad.
    """
    path = Path(path)
    notes: list[str] = []
    image = read_label_file(path, geometry, notes)
    segmentation = is_segmentation(image)
    if segmentation:
        content = read_segments(path, image, geometry)
    else:
        image = reoriented(image, geometry)
        if (difference := geometry.difference(geometry_of(image))) is not None:
            raise InputError(
                f"the labels {path} do not lie on the image's grid: {difference} "
                "(image against labels). Resample the labels to the image."
            )
        values = label_values(path, image, unlabelled, notes)
        content = Content(*renumber(path, values, unlabelled))
    drawn, segments = content.drawn, content.segments
    check_slices(slices, geometry.shape)
    if segmentation or unlabelled == 0:
        found = label_array(drawn, content.background, list(slices) or None, path.name, REMEDY)
        if content.unnamed is not None:
            found.labels[content.unnamed] = UNLABELLED
        return Annotation(
            found.labels, segments, found.slices, [*notes, *content.warnings, *found.warnings]
        )
    if not slices and not (drawn == UNLABELLED).any():
        raise InputError(
            f"every voxel of {path} is labelled, so there is nothing to densify: say which "
            "value means unlabelled (--unlabelled V; 0 where nothing was drawn), or which "
            "slices are annotated (--slices k:10,20)."
        )
    labels = restrict_to_slices(drawn, slices) if slices else drawn
    return Annotation(labels, segments, list(slices) or cover_slices(labels != UNLABELLED), notes)
