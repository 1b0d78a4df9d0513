"""Arrays that are gone over piece by piece, in steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..steps import Steps

PIECE = 1 << 22  # bytes that one step goes over: some milliseconds


def memory(shape: Sequence[int], dtype: np.dtype) -> Steps[np.ndarray]:
    """An array of zeros to copy into, in steps.

    A thread writes to it first: the operating system hands memory out at the first write to each
    page of it, which takes several times longer than copying.
    """
    return (yield lambda: np.full(shape, 0, dtype))


def pieces(array: np.ndarray) -> list[slice]:
    """Parts of an array along its first axis, of PIECE bytes or one index at least."""
    count = len(array)
    each = max(1, PIECE // max(1, array.nbytes // max(1, count)))
    return [slice(first, min(count, first + each)) for first in range(0, count, each)]
