"""Reads another tool's result, of any of the kinds that labels are read from, as a prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..annotation.composition import UNLABELLED
from ..annotation.external_prior import Prior, PriorBuilder
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..errors import InputError
from .images import geometry_of, read_file
from .label_image import on_grid, read_label_file
from .label_values import label_values
from .segmentation_file import is_segmentation, read_segments, segmented_grid

REMEDY = "or name what a file shows: --prior NAME=FILE"


def prior_files(texts: Sequence[str]) -> list[tuple[str | None, Path]]:
    """The files of a prior and, where it is given as NAME=FILE, the name of its class."""
    found: list[tuple[str | None, Path]] = []
    for text in texts:
        name, equals, file = text.partition("=")
        named = equals and name.strip() and not Path(text).exists()
        found.append((name.strip(), Path(file)) if named else (None, Path(text)))
    return found


def read_prior(
    files: Sequence[tuple[str | None, Path]],
    geometry: Geometry,
    segments: Sequence[Segment],
    by_index: bool = False,
) -> Prior:
    """Reads a prior on the grid of the image.

    A segmentation is dense here: no annotated slices are looked for in it. Outside of what a file
    covers it says nothing.

    Args:
        files: The files. With the name of a class, its probability; without one, a segmentation
            (matched by the names of its segments) or a label image (by its label values).
        geometry: The image's grid.
        segments: The classes of the annotation.
        by_index: The image has no position, so that files of its size belong to it voxel by voxel.

    Raises:
        InputError: A file is unreadable, does not overlap the image or holds no labels or
            probabilities, or none of them knows any of the segments.
    """
    builder = PriorBuilder(geometry, segments, REMEDY)
    for name, path in files:
        if name is not None:
            image = read_file(path, "the prior", 1, builder.notes)
            on_grid(image, path, geometry, builder.notes, by_index)
            builder.add_probability(
                str(path), name, sitk.GetArrayFromImage(image), geometry_of(image)
            )
            continue
        image = read_label_file(path, geometry, builder.notes, by_index)
        if is_segmentation(image):
            content = read_segments(path, image)
            builder.notes += content.warnings
            # One that was put on the image's grid names another in its header.
            here = geometry.difference(geometry_of(image)) is None
            looked_at = geometry if here else segmented_grid(image)
            builder.add_segments(str(path), content.drawings, content.segments, looked_at)
            continue
        _refuse_probability(path, image)
        values = label_values(path, image, UNLABELLED, builder.notes)
        builder.add_values(str(path), values, geometry_of(image))
    return builder.finish()


def _refuse_probability(path: Path, image: sitk.Image) -> None:
    """Refuses a probability whose class is not named."""
    values = sitk.GetArrayViewFromImage(image)
    if values.dtype.kind == "f" and ((values > 0) & (values < 1)).any():
        raise InputError(
            f"the prior {path} holds probabilities, but it is not said of which segment: give "
            f"--prior NAME={path.name}."
        )
    if np.iscomplexobj(values):
        raise InputError(f"the prior {path} has complex values: it is no label image.")
