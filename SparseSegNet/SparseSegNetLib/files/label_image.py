"""Reads a label file, and puts it on the image's grid where its format carries no position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..annotation.composition import MAX_SEGMENTS
from ..annotation.geometry import Geometry
from ..errors import InputError
from .images import Volume, by_index_note, geometry_of, put_on, read_file
from .other_formats import without_geometry

MANY = 32  # labels; more are rather grey values, where the image has fewer


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
    image = read_file(path, "the label file", MAX_SEGMENTS + 1, notes, labels=True)
    on_grid(image, path, geometry, notes, by_index)
    return image


def on_grid(
    image: sitk.Image, path: Path, geometry: Geometry, notes: list[str], by_index: bool
) -> None:
    """Puts a file's content on the image's grid if it has its size and either has no position.

    Args:
        image: The content, which is changed.
        path: The file.
        geometry: The image's grid.
        notes: Messages for the user are added here.
        by_index: The image has no position.
    """
    if (by_index or without_geometry(path)) and image.GetSize() == geometry.size:
        if (difference := geometry.difference(geometry_of(image))) is not None:
            notes.append(by_index_note(path, difference))
        put_on(image, geometry)


def check_order(volume: Volume, path: Path, segments: int) -> None:
    """Checks that image and labels were not given in the wrong order.

    Args:
        volume: The image.
        path: The label file, for the message.
        segments: Different labels in it.

    Raises:
        InputError: The labels look like an image, and the image like labels.
    """
    pixels = volume.image
    if segments <= MANY or len(pixels) > 1 or pixels.dtype.kind not in "iub":
        return
    values = len(np.unique(pixels))
    if values < segments:
        raise InputError(
            f"{path}, given last, holds {segments} different labels, and the image "
            f"{volume.paths[0]} {values} different values: were they exchanged? The images come "
            "first, the label file comes last."
        )
