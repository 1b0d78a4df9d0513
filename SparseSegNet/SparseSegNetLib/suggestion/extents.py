"""Extents of segments along the axes of a volume, as predicted or, before that, as drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..annotation.slices import AXES, AnnotatedSlice, array_axis

# Of a segment's largest slice: less does not belong to its extent, which a few stray voxels of a
# prediction would stretch.
LEAST = 0.05
# Slices nearer than this share of a segment's extent, the median of all, show nearly the same.
CORRELATED = 1 / 16

Areas = dict[str, np.ndarray]


def drawn_areas(labels: np.ndarray, slices: Sequence[AnnotatedSlice], segments: int) -> Areas:
    """Drawn voxels of each segment along each axis, in the slices that run along it.

    Seen along an axis the slices across it show segments at their own place alone: there they
    count as little as still belongs to the extent.

    Args:
        labels: uint8 (k, j, i), 255 = unlabelled.
        slices: The annotated slices.
        segments: The number K.

    Returns:
        For i, j and k float64 (K, slices of that axis).
    """
    found = {axis: np.zeros((segments, labels.shape[array_axis(axis)])) for axis in AXES}
    places: list[tuple[AnnotatedSlice, np.ndarray]] = []
    for item in slices:
        plane = labels[item.selector()]
        present = np.unique(plane)
        present = present[(present > 0) & (present <= segments)]
        places.append((item, present))
        others = [a for a in range(3) if a != array_axis(item.axis)]
        begin = [0, 0] if item.box is None else [low for low, _ in item.box]
        for place, along in enumerate(others):
            first = begin[place]
            for value in present:
                counts = np.count_nonzero(plane == value, axis=1 - place)
                found[AXES[2 - along]][value - 1, first : first + len(counts)] += counts
    for item, present in places:
        rows = found[item.axis]
        for value in present:
            row = rows[value - 1]
            row[item.index] = max(row[item.index], LEAST * row.max(), 1.0)
    return found


def extent(row: np.ndarray) -> tuple[int, int] | None:
    """First and last slice of an extent; None where there is nothing.

    Args:
        row: Areas (slices,), or the sum of several segments' ones.
    """
    places = np.flatnonzero(row >= max(LEAST * float(row.max(initial=0.0)), 1e-9))
    return (int(places[0]), int(places[-1])) if len(places) else None


def correlation_length(areas: Areas, spacing: dict[str, float]) -> float:
    """Distance in mm within which a drawn slice shows what a slice beside it would show.

    A sixteenth of the extent of the segments: the median of all, the geometric mean over axes.

    Args:
        areas: Of each segment, (K, slices) for i, j and k.
        spacing: mm between slices of i, j and k.

    Returns:
        The distance; 0 where there is no segment.
    """
    sizes = []
    for segment in range(len(areas["k"])):
        ends = [extent(areas[axis][segment]) for axis in AXES]
        known = [
            (end[1] - end[0] + 1) * spacing[axis]
            for axis, end in zip(AXES, ends, strict=True)
            if end is not None
        ]
        if known:
            sizes.append(float(np.exp(np.mean(np.log(known)))))
    return CORRELATED * float(np.median(sizes)) if sizes else 0.0
