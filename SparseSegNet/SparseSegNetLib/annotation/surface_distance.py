"""Distances between the surfaces of two masks: surface Dice and 95 % Hausdorff distance.

A surface is the set of a mask's voxels with a neighbour outside of it across one of their six
faces; beyond the border of the image the mask goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MARGIN = 2  # voxels around the masks: what is farther away changes nothing


@dataclass(frozen=True)
class SurfaceScore:
    """Agreement of two surfaces.

    Attributes:
        surface_dice: Share of the voxels of both surfaces that lie within the tolerance of the
            other one (Nikolov 2018, with voxels instead of areas); None where both masks are empty
            or fill the image.
        hausdorff95: The larger of the two 95th percentiles of the distances from one surface to
            the other, mm; None where a surface is missing.
    """

    surface_dice: float | None
    hausdorff95: float | None


def surface_score(
    found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], tolerance: float
) -> SurfaceScore:
    """Compares the surfaces of two masks.

    Args:
        found: Boolean (k, j, i).
        truth: Boolean (k, j, i).
        spacing: mm along k, j, i.
        tolerance: mm.
    """
    from scipy import ndimage

    if not truth.any() and not found.any():
        return SurfaceScore(None, None)
    if not truth.any() or not found.any():
        return SurfaceScore(0.0, None)
    box = _box(found | truth)
    rims = [
        mask[box] & ~ndimage.binary_erosion(mask[box], border_value=1) for mask in (found, truth)
    ]
    if not all(rim.any() for rim in rims):
        return SurfaceScore(None, None)
    there = ndimage.distance_transform_edt(~rims[1], spacing)[rims[0]]
    back = ndimage.distance_transform_edt(~rims[0], spacing)[rims[1]]
    near = np.count_nonzero(there <= tolerance) + np.count_nonzero(back <= tolerance)
    return SurfaceScore(
        float(near / (len(there) + len(back))),
        float(max(np.percentile(there, 95), np.percentile(back, 95))),
    )


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The bounding box with a margin."""
    edges = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        edges.append(slice(max(0, int(hit[0]) - MARGIN), int(hit[-1]) + 1 + MARGIN))
    return tuple(edges)
