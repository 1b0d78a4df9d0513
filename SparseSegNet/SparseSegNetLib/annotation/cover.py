"""Detects annotated slices: the smallest set of planes that covers the labelled voxels."""

from __future__ import annotations

import numpy as np

from .slices import AXES, AnnotatedSlice

# A voxel without a labelled neighbour on either side along an axis was probably drawn in a slice
# of that axis, so it counts for that plane this many times more than in the planes that cross it.
# Without this the tips of a structure, a few voxels in each slice, are covered by one
# perpendicular plane through several of them.
THIN_BONUS = 2


def cover_slices(labelled: np.ndarray) -> list[AnnotatedSlice]:
    """Greedy set cover of labelled voxels by planes of the voxel grid.

    The plane with the most uncovered labelled voxels comes first, voxels that are one voxel
    thick along the plane's axis counting three times. Planes that later ones make superfluous
    are dropped.

    Greedy cover is within a factor of ln(n) of the smallest set in general (Chvatal 1979); for
    volumes drawn slice by slice it finds these slices, except one whose labelled voxels all lie
    in other annotated planes. A slice in which nothing was drawn cannot be detected.

    Args:
        labelled: Boolean (k, j, i).

    Returns:
        Slices sorted by axis and index.
    """
    inside = np.nonzero(labelled)
    if inside[0].size == 0:
        return []
    # Work inside the bounding box: sparse annotations often fill a small part of the volume.
    low = [int(axis.min()) for axis in inside]
    mask = labelled[
        tuple(slice(lo, int(axis.max()) + 1) for lo, axis in zip(low, inside, strict=True))
    ]
    weight = [_weights(mask, axis) for axis in range(3)]
    score = [w.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.int64) for axis, w in enumerate(weight)]
    chosen: list[tuple[int, int]] = []
    while max(int(s.max()) for s in score) > 0:
        axis = max(range(3), key=lambda a: int(score[a].max()))
        index = int(score[axis].argmax())
        chosen.append((axis, index))
        plane = _at(axis, index)
        for other in {0, 1, 2} - {axis}:
            across = 1 - (other - (other > axis))  # the plane's axis that is not `other`
            score[other] -= weight[other][plane].sum(axis=across, dtype=np.int64)
            weight[other][plane] = 0
        weight[axis][plane] = 0
        score[axis][index] = 0
    return sorted(
        AnnotatedSlice(AXES[2 - axis], index + low[axis])
        for axis, index in _without_superfluous(mask, chosen)
    )


def looks_solid(slices: list[AnnotatedSlice], run: int = 4) -> bool:
    """Tells whether a cover holds `run` or more neighbouring planes, the sign of a 3D brush.

    A solid object can always be covered by planes, but then these were not drawn as complete
    slices and the voxels beside the object in them are not known to be background.
    """
    planes = {s.place for s in slices}
    return any(all((axis, index + n) in planes for n in range(run)) for axis, index in planes)


def _weights(mask: np.ndarray, axis: int) -> np.ndarray:
    """Weight of each labelled voxel for planes across `axis`, int8."""
    beside = np.zeros_like(mask)
    ahead, behind = _at(axis, slice(1, None)), _at(axis, slice(None, -1))
    beside[ahead] |= mask[behind]
    beside[behind] |= mask[ahead]
    return mask * np.where(beside, 1, 1 + THIN_BONUS).astype(np.int8)


def _at(axis: int, index: int | slice) -> tuple[int | slice, ...]:
    """Index expression for an array with `index` along `axis`."""
    return (slice(None),) * axis + (index,)


def _without_superfluous(mask: np.ndarray, chosen: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Drop planes, latest (smallest) first, all of whose voxels other chosen planes hold too."""
    times = np.zeros(mask.shape, np.uint8)  # three planes at most pass through a voxel
    for axis, index in chosen:
        times[_at(axis, index)] += 1
    kept = []
    for axis, index in reversed(chosen):
        plane = _at(axis, index)
        if (times[plane][mask[plane]] > 1).all():
            times[plane] -= 1
        else:
            kept.append((axis, index))
    return kept
