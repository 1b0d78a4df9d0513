"""Bounding boxes of labels."""

from __future__ import annotations

import numpy as np

Box = tuple[slice, slice, slice]


def label_boxes(labels: np.ndarray, count: int) -> dict[int, Box]:
    """The box around the voxels of each label that has any, in one pass.

    Args:
        labels: Unsigned (k, j, i).
        count: The labels 1..count are looked for.
    """
    from scipy import ndimage

    found = ndimage.find_objects(labels, count)
    return {number: box for number, box in enumerate(found, start=1) if box is not None}
