"""Share of a segmentation of which a model is uncertain, to tell which one to look at first."""

from __future__ import annotations

import numpy as np

HALF = 128  # of 255, where a model is undecided between the two likeliest classes


def uncertain_share(labels: np.ndarray, uncertainty: np.ndarray) -> float | None:
    """Uncertain voxels, inside the segments or beside them, against the voxels of the segments.

    Args:
        labels: uint8, 0 background, 1..K the segments.
        uncertainty: uint8 of the same shape, 0 certain, 255 undecided.

    Returns:
        The share, 0 to 1; None where there are neither segments nor uncertain voxels.
    """
    unsure = uncertainty >= HALF
    count = int(np.count_nonzero(unsure))
    every = int(np.count_nonzero((labels > 0) | unsure))
    return count / every if every else None
