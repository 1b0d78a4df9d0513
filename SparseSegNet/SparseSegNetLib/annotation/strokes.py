"""Detects the slices that a stroke was painted in, from the change of the drawn voxels."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from .cover import cover_slices, looks_solid
from .slices import AXES, AnnotatedSlice, array_axis

MOST_AT_ONCE = 3  # slices that may be painted between two checks


def painted_slices(
    changed: np.ndarray,
    offset: tuple[int, int, int] = (0, 0, 0),
    shown: Collection[AnnotatedSlice] = (),
    known: Collection[AnnotatedSlice] = (),
) -> list[AnnotatedSlice] | None:
    """Detects the slices that a change was painted in.

    A change one voxel thick along one axis lies in that axis' slice. A dot or a line is thin
    along several: then it is the slice that is annotated already or, failing that, the one that
    a view shows. A change that is thick along all axes is covered by up to `MOST_AT_ONCE` slices
    (one stroke after another), or comes from a 3D brush or an oblique view.

    Args:
        changed: Boolean (k, j, i), the voxels that changed, cropped so that there is a change at
            each of its six sides.
        offset: Position of the crop in the volume (k, j, i).
        shown: The voxel planes that the views show.
        known: The annotated slices.

    Returns:
        The slices; empty if a dot or a line lies in no annotated or shown slice; None if the
        change was not painted in slices.
    """
    thin = [
        AnnotatedSlice(AXES[2 - axis], offset[axis])
        for axis in range(3)
        if changed.shape[axis] == 1
    ]
    if len(thin) == 1:
        return thin
    if thin:
        for hints in (known, shown):
            matches = [item for item in thin if any(h.place == item.place for h in hints)]
            if matches:
                return matches[:1]
        return []
    cover = cover_slices(changed)
    if len(cover) > MOST_AT_ONCE or looks_solid(cover, run=2):
        return None
    return [AnnotatedSlice(s.axis, s.index + offset[array_axis(s.axis)]) for s in cover]


def box_of(changed: np.ndarray) -> tuple[slice, slice, slice] | None:
    """Smallest box (k, j, i) that holds all true voxels; None if there are none."""
    ranges: list[slice] = []
    part = changed
    for axis in range(3):
        others = tuple({0, 1, 2} - {axis})
        # Along the first axis planes lie in one piece: several times faster than any(axis=...).
        hit = np.flatnonzero(part.any(axis=others) if axis else [plane.any() for plane in part])
        if hit.size == 0:
            return None
        ranges.append(slice(int(hit[0]), int(hit[-1]) + 1))
        # What lies outside along this axis need not be looked at along the next.
        part = part[(slice(None),) * axis + (ranges[-1],)]
    k, j, i = ranges
    return k, j, i
