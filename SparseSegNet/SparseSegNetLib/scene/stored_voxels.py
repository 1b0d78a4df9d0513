"""Voxels of a volume as text, for attributes of nodes, which are saved with the scene."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence

import numpy as np

# Raised by `unpacked` for text that `packed` has not written.
DAMAGED = (ValueError, binascii.Error, zlib.error)


def packed(voxels: np.ndarray) -> str:
    """Writes flat indices as text.

    Args:
        voxels: Flat indices into an array (k, j, i), ascending.
    """
    steps = np.diff(voxels, prepend=np.int64(0)).astype("<i8")
    return base64.b64encode(zlib.compress(steps.tobytes())).decode("ascii")


def unpacked(text: str, shape: Sequence[int]) -> np.ndarray:
    """Reads flat indices that `packed` has written.

    Args:
        text: The text.
        shape: Shape (k, j, i) of the array that they are indices of.

    Returns:
        The indices, int64 and ascending.

    Raises:
        ValueError, binascii.Error, zlib.error: If the text is damaged (see `DAMAGED`).
    """
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8")
    voxels = np.cumsum(steps)
    if voxels.size and not 0 <= voxels.min() <= voxels.max() < np.prod(shape, dtype=np.int64):
        raise ValueError("a voxel lies outside the volume")
    return voxels
