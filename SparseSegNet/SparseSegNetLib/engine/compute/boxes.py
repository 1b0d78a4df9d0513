"""Sizes of boxes and grids, (k, j, i), that fit memory, time and a network's strides."""

from __future__ import annotations

import math

from ...annotation.geometry import Triple


def box_within(shape: Triple, spacing: tuple[float, ...], voxels: int) -> Triple:
    """A box of about `voxels` voxels, a cube in mm where the volume's shape allows."""
    low, high = 0.0, 2.0 * max(n * s for n, s in zip(shape, spacing, strict=True))
    for _ in range(50):
        edge = (low + high) / 2
        box = [min(n, max(1.0, edge / s)) for n, s in zip(shape, spacing, strict=True)]
        low, high = (edge, high) if math.prod(box) < voxels else (low, edge)
    return tuple(max(1, round(b)) for b in box)


def halved(box: Triple, divisor: Triple) -> Triple | None:
    """Half a box along its longest axis, still a multiple of the divisor; None if it cannot be."""
    axis = max(range(3), key=lambda a: box[a] // divisor[a])
    if box[axis] // divisor[axis] < 2:
        return None
    half = box[axis] // divisor[axis] // 2 * divisor[axis]
    return tuple(half if a == axis else n for a, n in enumerate(box))


def round_up(box: Triple, divisor: Triple) -> Triple:
    """The smallest box of at least this size whose sides are multiples of the divisor."""
    return tuple(-(-n // d) * d for n, d in zip(box, divisor, strict=True))


def working_shape(shape: Triple, spacing: tuple[float, ...], voxels: float) -> Triple:
    """Shape of at most about `voxels` voxels to which a volume is reduced, finest axes first.

    Axes are only reduced to the spacing of the thicker ones before all are reduced together, so
    a stack of thick slices keeps its slices.
    """
    if math.prod(shape) <= voxels:
        return shape
    low, high = min(spacing), max(spacing) * (math.prod(shape) / voxels) + max(spacing)
    for _ in range(60):
        mm = math.sqrt(low * high)
        count = math.prod(_reduced(shape, spacing, mm))
        low, high = (mm, high) if count > voxels else (low, mm)
    return _reduced(shape, spacing, high)


def _reduced(shape: Triple, spacing: tuple[float, ...], mm: float) -> Triple:
    return tuple(
        n if s >= mm else max(min(n, 16), round(n * s / mm))
        for n, s in zip(shape, spacing, strict=True)
    )
