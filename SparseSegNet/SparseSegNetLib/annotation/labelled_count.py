"""Number of labelled voxels, counted without an array of the volume's size."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .slices import AnnotatedSlice, clear_crossing


def count_labelled(
    drawn: np.ndarray, slices: Iterable[AnnotatedSlice], known: int | None = None
) -> int:
    """Counts the voxels that are drawn or lie in an annotated slice.

    Each slice is counted without the lines in which it crosses the ones before it.

    Args:
        drawn: (k, j, i), not zero where something is drawn.
        slices: The annotated slices, each once.
        known: Number of drawn voxels; they are counted without it.
    """
    count = int(np.count_nonzero(drawn)) if known is None else known
    before: list[AnnotatedSlice] = []
    for item in slices:
        free = drawn[item.selector()] == 0
        for other in before:
            clear_crossing(free, item, other)
        count += int(np.count_nonzero(free))
        before.append(item)
    return count
