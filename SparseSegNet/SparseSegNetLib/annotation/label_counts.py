"""Number of voxels of each label."""

from __future__ import annotations

import numpy as np

AT_ONCE = 1 << 18  # voxels; np.bincount lets no other thread run meanwhile


def label_counts(labels: np.ndarray) -> np.ndarray:
    """Counts labels.

    Args:
        labels: uint8, of any shape.

    Returns:
        int64 (256), the number of voxels of each label.
    """
    flat, counts = labels.reshape(-1), np.zeros(256, np.int64)
    for first in range(0, flat.size, AT_ONCE):
        counts += np.bincount(flat[first : first + AT_ONCE], minlength=256)
    return counts
