"""The values of a label image: checked, and numbered as segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..annotation.composition import MAX_SEGMENTS, UNLABELLED
from ..annotation.segments import Segment
from ..errors import InputError

HIGHEST = 2**32 - 1  # label value that all formats hold


def label_values(path: Path, image: sitk.Image, unlabelled: int) -> np.ndarray:
    """Reads the values of a label image.

    Args:
        path: The file, for messages.
        image: Its content.
        unlabelled: The value of unlabelled voxels, which may be negative.

    Returns:
        Integer (k, j, i).

    Raises:
        InputError: There are several components per voxel, or values that no label has.
    """
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"the label image {path} has {image.GetNumberOfComponentsPerPixel()} "
            "components per voxel: one is needed."
        )
    values = sitk.GetArrayFromImage(image)
    if not np.issubdtype(values.dtype, np.integer):
        if (
            np.iscomplexobj(values)
            or not np.isfinite(values).all()
            or (values != np.rint(values)).any()
        ):
            raise InputError(
                f"the label image {path} has values that are not whole numbers: "
                "it is no label image."
            )
        _check_highest(path, float(values.max()))
        values = values.astype(np.int64)
    _check_highest(path, int(values.max()))
    negative = values[(values < 0) & (values != unlabelled)]
    if negative.size:
        raise InputError(
            f"the label image {path} holds the value {int(negative.min())}: labels "
            "are 0 (background) and above. If it marks unlabelled voxels, say so "
            f"with --unlabelled {int(negative.min())}."
        )
    return values


def _check_highest(path: Path, value: float) -> None:
    if value > HIGHEST:
        raise InputError(
            f"the label image {path} holds the value {value:g}: labels are at most {HIGHEST}."
        )


def renumber(
    path: Path, values: np.ndarray, unlabelled: int, background: int | None = None
) -> tuple[np.ndarray, list[Segment]]:
    """Numbers label values 1..K in their order.

    Args:
        path: The file, for messages.
        values: Integer (k, j, i), the file's label values.
        unlabelled: The value of unlabelled voxels.
        background: The value of background; None for 0.

    Returns:
        uint8 (k, j, i), 0 for background, 255 for `unlabelled` (0 if that is 0);
        and the segments, which remember the file's values.

    Raises:
        InputError: There are more values than a label array can distinguish.
    """
    present = [int(v) for v in np.unique(values)]
    kinds = [v for v in present if v not in (0, unlabelled, background)]
    if len(kinds) > MAX_SEGMENTS:
        raise InputError(
            f"the label image {path} holds {len(kinds)} different labels, at most "
            f"{MAX_SEGMENTS} can be used: it may be an intensity image."
        )
    new = np.full(len(present), UNLABELLED, np.uint8)
    for n, value in enumerate(present):
        if value in kinds:
            new[n] = kinds.index(value) + 1
        elif value in (0, background):
            # Where 0 means that nothing was drawn, the caller composes background from slices.
            new[n] = 0
    labels = new[np.searchsorted(present, values)]
    return labels, [Segment.numbered(v, n) for n, v in enumerate(kinds)]
