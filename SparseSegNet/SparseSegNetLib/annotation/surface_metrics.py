"""Agreement of the surfaces of two masks: surface Dice and 95 % Hausdorff distance.

The surface of a mask is the set of its border voxels: those that an erosion by the six face
neighbours removes, with background beyond the array, as in MONAI. Distances are from the centre of
a border voxel to that of the nearest border voxel of the other mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PERCENTILE = 95
ROUNDING = 1e-6  # share of the tolerance: distances of just that size are within it


@dataclass(frozen=True)
class SurfaceAgreement:
    """Agreement of two surfaces.

    Attributes:
        surface_dice: Share of the border voxels of both masks that lie within the tolerance of the
            other's (Nikolov 2018, with voxels instead of areas); None if there are none.
        hausdorff95: The larger of the two 95th percentiles of the distances from one surface to
            the other, mm; None if one of the masks is empty.
    """

    surface_dice: float | None
    hausdorff95: float | None


def surface_agreement(
    prediction: np.ndarray,
    truth: np.ndarray,
    steps: np.ndarray,
    tolerance: float,
    counted: np.ndarray | None = None,
) -> SurfaceAgreement:
    """Compares the surfaces of two masks.

    Args:
        prediction: Boolean (k, j, i).
        truth: Boolean (k, j, i).
        steps: 3x3, mm; column a is the step for one voxel along array axis a.
        tolerance: mm.
        counted: Boolean (k, j, i), the voxels that count; None for all. Where it ends there is no
            surface, and the nearest border voxel may lie outside of it.
    """
    borders = [np.argwhere(border(mask)) for mask in (prediction, truth)]
    chosen = [b if counted is None else b[counted[tuple(b.T)]] for b in borders]
    total = sum(len(points) for points in chosen)
    if total == 0:
        return SurfaceAgreement(None, None)
    if not all(len(points) for points in borders):
        return SurfaceAgreement(0.0, None)
    distances = [
        _distances(points, others, steps)
        for points, others in zip(chosen, reversed(borders), strict=True)
    ]
    near = sum(int((d <= tolerance * (1 + ROUNDING)).sum()) for d in distances)
    farthest = max(float(np.percentile(d, PERCENTILE)) for d in distances if len(d))
    return SurfaceAgreement(near / total, farthest)


def border(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask with a face neighbour outside of it; beyond the array all is outside.

    Args:
        mask: Boolean, of any number of dimensions.
    """
    inside = mask.copy()
    for axis in range(mask.ndim):
        part, whole = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        part[1:] &= whole[:-1]
        part[:-1] &= whole[1:]
        part[0] = part[-1] = False
    return mask & ~inside


def _distances(points: np.ndarray, others: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Distance in mm from each point, (n, 3) voxel indices, to the nearest of the others."""
    from scipy.spatial import cKDTree

    # Surfaces are few voxels of a volume: a tree needs less time and memory than distance maps.
    tree = cKDTree(others @ steps.T, compact_nodes=False, balanced_tree=False)
    nearest = tree.query(points @ steps.T, workers=-1)[1]
    # From index differences: those of positions in mm are off by their last digits.
    return np.linalg.norm((points - others[nearest]) @ steps.T, axis=1)
