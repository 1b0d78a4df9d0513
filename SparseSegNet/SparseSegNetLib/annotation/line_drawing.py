"""Recognises strokes and outlines among what is drawn in a slice.

A stroke has the width of the brush along its whole length; the cross-section of a structure
rarely has one width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .slices import AnnotatedSlice, array_axis

LONG = 4.0  # length of a stroke, in its widths
STEADY = 0.35  # spread of a stroke's width, as a share of it; one voxel at least
MOSTLY = 0.8  # share of a segment's voxels
FEWEST = 12  # voxels from which a segment is judged


def line_shares(
    drawn: np.ndarray, slices: Iterable[AnnotatedSlice]
) -> dict[int, tuple[float, float]]:
    """Share of each segment's voxels that are drawn as lines.

    Args:
        drawn: uint8 (k, j, i), n where the n-th segment covers, 0 where none does.
        slices: The slices that were drawn in.

    Returns:
        For each segment number with `FEWEST` voxels in the slices: the share in strokes, and that
        in closed outlines.
    """
    totals: dict[int, np.ndarray] = {}
    for item in slices:
        plane = drawn[item.selector()]
        for number in np.unique(plane[plane > 0]).tolist():
            counts = totals.setdefault(number, np.zeros(3, np.int64))
            counts += _lines(plane == number)
    return {
        number: (strokes / total, outlines / total)
        for number, (total, strokes, outlines) in sorted(totals.items())
        if total >= FEWEST
    }


def drawn_as_strokes(shares: dict[int, tuple[float, float]]) -> bool:
    """Tells whether all segments are drawn as strokes, by `line_shares`."""
    return bool(shares) and all(strokes >= MOSTLY for strokes, _ in shares.values())


def drawn_as_outlines(shares: dict[int, tuple[float, float]]) -> list[int]:
    """Segments that are drawn as closed outlines, by `line_shares`."""
    return [number for number, (_, outlines) in shares.items() if outlines >= MOSTLY]


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
        depth = ndimage.distance_transform_edt(region)
        ridge = region & (depth >= ndimage.maximum_filter(depth, 3))
        low, width, high = np.quantile(2 * depth[ridge] - 1, (0.1, 0.5, 0.9))
        if area < LONG * width**2 or high - low > max(1.0, STEADY * width):
            continue
        hole = np.count_nonzero(ndimage.binary_fill_holes(region)) - area
        if hole > area / 2:
            outlines += area
        else:
            strokes += area
    return total, strokes, outlines
