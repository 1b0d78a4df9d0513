"""The values of a label image: checked, and numbered as segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..annotation.composition import MAX_SEGMENTS, UNLABELLED
from ..annotation.segments import Segment
from ..errors import InputError
from .label_channels import labels_of_channels

HIGHEST = 2**32 - 1  # label value that all formats hold
NEARLY = 1e-3  # so far from a whole number a value may be, by rounding in single precision
TABLE = 1 << 16  # label values, up to which a table is faster than a search
LAST = "the images come first, the label file comes last"


def label_values(
    path: Path, image: sitk.Image, unlabelled: int, notes: list[str] | None = None
) -> np.ndarray:
    """Reads the values of a label image.

    Args:
        path: The file, for messages.
        image: Its content.
        unlabelled: The value of unlabelled voxels, which may be negative.
        notes: Messages for the user are added here.

    Returns:
        Integer (k, j, i).

    Raises:
        InputError: There are values that no label has, or components that are no classes.
    """
    notes = [] if notes is None else notes
    if path.name.lower().endswith((".jpg", ".jpeg")):
        raise InputError(
            f"the label image {path} is a JPEG file, which changes values: give labels in "
            "another format, such as .nrrd, .nii.gz or .tif."
        )
    values = sitk.GetArrayFromImage(image)
    if np.iscomplexobj(values):
        raise InputError(f"the label image {path} has complex values: it is no label image.")
    if not np.issubdtype(values.dtype, np.integer):
        values = _whole(path, values, notes)
    if values.ndim == 4:
        values = labels_of_channels(path, values, unlabelled, notes)
    _check_highest(path, int(values.max()))
    negative = values[(values < 0) & (values != unlabelled)]
    if negative.size:
        raise InputError(
            f"the label image {path} holds the value {int(negative.min())}: labels "
            "are 0 (background) and above. If it marks unlabelled voxels, say so "
            f"with --unlabelled {int(negative.min())}; if it is an intensity image: {LAST}."
        )
    return values


def _whole(path: Path, values: np.ndarray, notes: list[str]) -> np.ndarray:
    """Values that are nearly whole numbers, rounded."""
    rounded = np.rint(values)
    with np.errstate(invalid="ignore"):
        off = np.abs(values - rounded)
        bad = ~(off <= NEARLY)  # NaN and infinities among them
    if (count := int(np.count_nonzero(bad))) > 0:
        k, j, i, *_ = np.argwhere(bad)[0]
        raise InputError(
            f"the label image {path} has values that are not whole numbers: {count} voxels, the "
            f"first with {values[bad][0]:.9g} at i={i}, j={j}, k={k}. Labels are carried "
            "to another grid by nearest neighbour, not by interpolation; if it is an intensity "
            f"image: {LAST}."
        )
    _check_highest(path, float(rounded.max()))
    if (count := int(np.count_nonzero(off))) > 0:
        notes.append(
            f"{path.name}: {count} values that are almost whole numbers (off by up to "
            f"{off.max():.1g}) are rounded."
        )
    return rounded.astype(np.int64)


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
            f"{MAX_SEGMENTS} can be used: it may be an intensity image; {LAST}."
        )
    new = np.full(len(present), UNLABELLED, np.uint8)
    for n, value in enumerate(present):
        if value in kinds:
            new[n] = kinds.index(value) + 1
        elif value in (0, background):
            # Where 0 means that nothing was drawn, the caller composes background from slices.
            new[n] = 0
    labels = looked_up(values, present, new)
    return labels, [Segment.numbered(v, n) for n, v in enumerate(kinds)]


def looked_up(values: np.ndarray, present: Sequence[int], new: np.ndarray) -> np.ndarray:
    """Other values for those of an array.

    Args:
        values: Integer, of any shape.
        present: The values in it, in ascending order.
        new: The new value of each.

    Returns:
        Array of the type of `new`.
    """
    if present[0] >= 0 and present[-1] < TABLE:
        table = np.zeros(present[-1] + 1, new.dtype)
        table[list(present)] = new
        return table[values]
    return new[np.searchsorted(present, values)]
