"""Recognises strokes and outlines among what is drawn in a slice.

A stroke has the width of the brush along its whole length; the cross-section of a structure
rarely has one width. In the labels of our 20 development volumes, in slices of all axes, less
than 0.6 of the voxels look like strokes, but for the spinal cord along its length (up to all).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .slices import AnnotatedSlice, array_axis

LONG = 3.0  # least length of a stroke, in its widths
STEADY = 0.35  # spread of a stroke's width, as a share of it; one voxel at least
MOSTLY, EACH = 0.8, 0.5  # share of all drawn voxels, and of each segment's
FILLED = 0.5  # share of a slice; where more is drawn these are no strokes
FEWEST = 12  # voxels from which a segment is judged


def count_lines(
    drawn: np.ndarray, slices: Iterable[AnnotatedSlice]
) -> dict[int, tuple[int, int, int]]:
    """Counts each segment's voxels that are drawn as lines.

    Args:
        drawn: uint8 (k, j, i), n where the n-th segment covers, 0 where none does.
        slices: The slices that were drawn in.

    Returns:
        For each segment number with `FEWEST` voxels in the slices: its voxels there, those in
        strokes, and those in closed outlines.
    """
    totals: dict[int, np.ndarray] = {}
    for item in slices:
        plane = drawn[item.selector()]
        filled = np.count_nonzero(plane) > FILLED * plane.size
        for number in np.unique(plane[plane > 0]).tolist():
            counts = totals.setdefault(number, np.zeros(3, np.int64))
            mask = plane == number
            counts += (np.count_nonzero(mask), 0, 0) if filled else _lines(mask)
    return {
        number: (int(counts[0]), int(counts[1]), int(counts[2]))
        for number, counts in sorted(totals.items())
        if counts[0] >= FEWEST
    }


def drawn_as_strokes(lines: dict[int, tuple[int, int, int]]) -> bool:
    """Tells whether all segments are drawn as strokes, by `count_lines`."""
    total = sum(voxels for voxels, _, _ in lines.values())
    strokes = sum(found for _, found, _ in lines.values())
    return (
        total > 0
        and strokes >= MOSTLY * total
        and all(found >= EACH * voxels for voxels, found, _ in lines.values())
    )


def drawn_as_outlines(lines: dict[int, tuple[int, int, int]]) -> list[int]:
    """Segments that are drawn as closed outlines, by `count_lines`."""
    return [n for n, (voxels, _, outlines) in lines.items() if outlines >= MOSTLY * voxels]


def with_background_strokes(
    slices: Iterable[AnnotatedSlice], background: np.ndarray
) -> list[AnnotatedSlice]:
    """The slices in which background was drawn.

    Background that is thick across a slice was not drawn in that slice: it comes from a slice that
    crosses it, or from a 3D brush.

    Args:
        slices: The slices.
        background: Boolean (k, j, i), voxels drawn as background.
    """
    found = []
    for item in slices:
        axis = array_axis(item.axis)
        own = background[item.selector()]
        for beside in (item.index - 1, item.index + 1):
            if 0 <= beside < background.shape[axis]:
                neighbour = AnnotatedSlice(item.axis, beside, item.box)
                own = own & ~background[neighbour.selector()]
        if own.any():
            found.append(item)
    return found


def _lines(mask: np.ndarray) -> Sequence[int]:
    """Voxels of a plane's regions: all, those in strokes, those in closed outlines."""
    from scipy import ndimage

    regions, _ = ndimage.label(mask, np.ones((3, 3)))
    total = strokes = outlines = 0
    for n, place in enumerate(ndimage.find_objects(regions), start=1):
        region = np.pad(regions[place] == n, 1)
        area = int(np.count_nonzero(region))
        total += area
        # Twice as fine: there the depth in the middle is the width, for odd and even widths alike.
        fine = region.repeat(2, 0).repeat(2, 1)
        depth = ndimage.distance_transform_edt(fine)
        ridge = fine & (depth >= ndimage.maximum_filter(depth, 3))
        low, width, high = np.quantile(depth[ridge], (0.1, 0.5, 0.9))
        if area < LONG * width**2 or high - low > max(1.0, STEADY * width):
            continue
        hole = np.count_nonzero(ndimage.binary_fill_holes(region)) - area
        if hole > area / 2:
            outlines += area
        else:
            strokes += area
    return total, strokes, outlines
