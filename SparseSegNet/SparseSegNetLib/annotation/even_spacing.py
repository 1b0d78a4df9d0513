"""Evenly spaced slices, as in the experiments of the 3D U-Net paper (Cicek 2016, Table 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .slices import AXES, AnnotatedSlice, array_axis


def spread_slices(
    counts: Sequence[int],
    shape: Sequence[int],
    inside: np.ndarray | None = None,
    shift: float = 0.0,
) -> list[AnnotatedSlice]:
    """Slices spaced as evenly as possible along each axis.

    n slices lie at the middles of n equal parts, so the distance between two is twice that
    from the last to the end.

    Args:
        counts: Numbers of slices of constant i, j and k, in the paper's order (yz, xz, xy).
        shape: The volume's (k, j, i).
        inside: Boolean (k, j, i); the slices then spread over its bounding box, as a user would
            place them over the structure.
        shift: Offset of the slices from the middles, as a fraction of a part, from -0.5 to
            below 0.5.

    Raises:
        InputError: An axis has fewer voxels than slices.
    """
    slices: list[AnnotatedSlice] = []
    for axis, count in zip(AXES, counts, strict=True):
        along = array_axis(axis)
        lo, hi = 0, shape[along]
        if inside is not None and inside.any():
            hit = np.nonzero(inside.any(axis=tuple(a for a in range(3) if a != along)))[0]
            lo, hi = int(hit[0]), int(hit[-1]) + 1
        if count > hi - lo:
            raise InputError(f"{count} slices along {axis} do not fit into {hi - lo} voxels.")
        slices += [
            AnnotatedSlice(axis, lo + int((2 * n + 1 + 2 * shift) * (hi - lo) / (2 * count)))
            for n in range(count)
        ]
    return sorted(slices)
