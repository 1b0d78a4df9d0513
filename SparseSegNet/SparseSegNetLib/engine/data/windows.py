"""Boxes of a resampled volume, made from boxes of the original one.

Resampling works along one axis after the other, so a box of the result is a product of three small
matrices with a box of the source. They hold the weights that `preprocessing.resampled` and
`inference.finish` apply to whole volumes; sums are rounded in another order.
"""

from __future__ import annotations

import torch

from ...annotation.geometry import Triple, triple


def resampling(
    first: int, last: int, size: int, wanted: int
) -> tuple[int, int, torch.Tensor | None]:
    """Weights by which an axis is brought to another number of voxels.

    An axis that becomes shorter is averaged, one that becomes longer is interpolated.

    Args:
        first: First voxel of the result that is needed.
        last: Voxel after the last one.
        size: Voxels of the source.
        wanted: Voxels of the whole result.

    Returns:
        First voxel of the source that is needed, the one after the last, and the weights float32
        (result, source); None where the axis stays as it is.
    """
    if size == wanted:
        return first, last, None
    if wanted > size:
        return interpolation(first, last, size, wanted)
    begin = [n * size // wanted for n in range(first, last)]
    end = [-(-(n + 1) * size // wanted) for n in range(first, last)]
    weights = torch.zeros((last - first, end[-1] - begin[0]))
    for row, a, b in zip(weights, begin, end, strict=True):
        row[a - begin[0] : b - begin[0]] = 1 / (b - a)
    return begin[0], end[-1], weights


def interpolation(
    first: int, last: int, size: int, wanted: int
) -> tuple[int, int, torch.Tensor | None]:
    """Weights by which an axis is interpolated linearly, whether it becomes longer or shorter.

    Arguments and result are those of `resampling`.
    """
    if size == wanted:
        return first, last, None
    at = (torch.arange(first, last, dtype=torch.float32) + 0.5) * size / wanted - 0.5
    below = at.floor().clamp(0, size - 1).long()
    above = (below + 1).clamp_max(size - 1)
    share = (at - below).clamp(0, 1)
    begin, end = int(below[0]), int(above[-1]) + 1
    weights = torch.zeros((last - first, end - begin))
    rows = torch.arange(last - first)
    weights[rows, below - begin] += 1 - share
    weights[rows, above - begin] += share
    return begin, end, weights


def applied(values: torch.Tensor, weights: list[torch.Tensor | None]) -> torch.Tensor:
    """Resamples values (c, k, j, i) along k, j and i; the axes with most to lose first."""

    def kept(axis: int) -> float:
        matrix = weights[axis]
        return 1.0 if matrix is None else matrix.shape[0] / matrix.shape[1]

    for axis in sorted(range(3), key=kept):
        matrix = weights[axis]
        if matrix is not None:
            values = torch.tensordot(values, matrix.to(values.device), ([axis + 1], [1]))
            values = values.movedim(-1, axis + 1)
    return values.contiguous()


def boxed(
    low: Triple, high: Triple, size: Triple, wanted: Triple, by=resampling
) -> tuple[Triple, Triple, list[torch.Tensor | None]]:
    """Source box and weights along k, j and i for the box [low, high) of a result.

    Args:
        low: First voxel of the result that is needed.
        high: Voxel after the last.
        size: Shape of the source.
        wanted: Shape of the whole result.
        by: `resampling` or `interpolation`.
    """
    axes = [by(*axis) for axis in zip(low, high, size, wanted, strict=True)]
    return triple(a for a, _, _ in axes), triple(b for _, b, _ in axes), [w for _, _, w in axes]
