"""Annotation that lies in one slice: what it cannot teach, and which slices to draw next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AXES, AnnotatedSlice


def only_slice(
    labels: np.ndarray, full_shape: Sequence[int] | None = None
) -> AnnotatedSlice | None:
    """Finds the one slice that holds all labelled voxels, whole or in part.

    Args:
        labels: uint8 (k, j, i), 255 = unlabelled.
        full_shape: Of the original grid; None if the labels are on it. On a finer grid all planes
            that one slice became count as that slice.

    Returns:
        The slice of the original grid, or of the labels' own where that is coarser. None where
        the labels extend along all axes, and along an axis of one voxel: there is nothing else.
    """
    known = labels != UNLABELLED
    full_shape = labels.shape if full_shape is None else full_shape
    for axis, (size, full) in enumerate(zip(labels.shape, full_shape, strict=True)):
        planes = np.flatnonzero(known.any(axis=tuple({0, 1, 2} - {axis})))
        if size > full:
            planes = planes * full // size  # as `preprocessing.labels_on` copies them
        if min(size, full) > 1 and planes.size and planes[0] == planes[-1]:
            return AnnotatedSlice(AXES[2 - axis], int(planes[0]))
    return None


def advice(labels: np.ndarray, item: AnnotatedSlice) -> str:
    """Advises to draw slices across the only one, through the middle of what is drawn in it.

    Args:
        labels: uint8 (k, j, i), 255 = unlabelled, some of a segment.
        item: The only slice.
    """
    drawn = np.nonzero((labels != UNLABELLED) & (labels > 0))
    across = [
        # A voxel of a segment lies there, though it may be in several pieces.
        str(AnnotatedSlice(AXES[2 - axis], int(np.sort(at)[len(at) // 2])))
        for axis, at in enumerate(drawn)
        if AXES[2 - axis] != item.axis and labels.shape[axis] > 1
    ]
    if not across:
        return "one annotated slice is very little: the volume has no other."
    number = {1: "one more", 2: "two more"}[len(across)]
    return (
        f"one annotated slice is very little: draw {number} across it "
        f"(for example {' and '.join(across)})."
    )
