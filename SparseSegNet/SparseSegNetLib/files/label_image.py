"""Reads a label file, and puts it on the image's grid where its format carries no position."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from ..annotation.composition import MAX_SEGMENTS
from ..annotation.geometry import Geometry
from .images import by_index_note, geometry_of, put_on, read_file
from .other_formats import without_geometry


def read_label_file(
    path: Path, geometry: Geometry, notes: list[str], by_index: bool = False
) -> sitk.Image:
    """Reads a label image or segmentation.

    Args:
        path: The file.
        geometry: The image's grid.
        notes: Messages for the user are added here.
        by_index: The image has no position, so that labels of its size belong to it voxel by
            voxel whatever their header says.

    Returns:
        The file's content; on the image's grid if it has its size and either carries no position.

    Raises:
        InputError: It is missing or unreadable, or its geometry cannot be used.
    """
    image = read_file(path, "the label file", MAX_SEGMENTS + 1, notes)
    if (by_index or without_geometry(path)) and image.GetSize() == geometry.size:
        if (difference := geometry.difference(geometry_of(image))) is not None:
            notes.append(by_index_note(path, difference))
        put_on(image, geometry)
    return image
