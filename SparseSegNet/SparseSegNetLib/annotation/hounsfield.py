"""Recognition of CT by its values, which are Hounsfield units: air near -1000, water at 0."""

from __future__ import annotations

import numpy as np

MOST_VOXELS = 1_000_000  # that are looked at, evenly spread
EMPTIEST, DENSEST = -1100.0, 4000.0  # HU of what can lie in a scanner
FAT, BLOOD = -50.0, 30.0
TISSUE = (-150.0, 250.0)  # HU of soft tissue with and without contrast agent


def looks_like_ct(image: np.ndarray) -> bool:
    """True if all channels of an image hold Hounsfield units, as far as values tell.

    There must be values of fat or air and of soft tissue, and none that no tissue has, apart from
    one that pads the image. Parts of a CT that show neither fat nor air are not recognised.

    Args:
        image: (c, k, j, i), any real dtype.
    """
    return all(_hounsfield(channel) for channel in image)


def _hounsfield(channel: np.ndarray) -> bool:
    values = channel.ravel()  # a step through the array would meet the same column again and again
    if values.size > MOST_VOXELS:
        places = np.random.default_rng(0).integers(0, values.size, MOST_VOXELS)
        values = values[places]
    padding = values.min()
    if padding < EMPTIEST:
        values = values[values != padding]
    if values.size == 0:
        return False
    low, high = np.percentile(values, (0.5, 99.5))
    tissue = np.mean((values >= TISSUE[0]) & (values <= TISSUE[1]))
    return bool(EMPTIEST <= low <= FAT and BLOOD <= high <= DENSEST and tissue >= 0.05)
