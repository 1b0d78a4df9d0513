"""What the comparison scores: IoU, Dice, surface Dice at one voxel, 95 % Hausdorff distance."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cases import Case
from SparseSegNetLib.annotation.composition import UNLABELLED, keep_drawn
from SparseSegNetLib.engine.compute import metrics


def scores(case: Case, result: np.ndarray) -> dict:
    """Means over the segments, and each segment's figures.

    IoU and Dice on the voxels that were not annotated. Surfaces are those of the whole result,
    in which every drawn voxel is as drawn, so that what was annotated adds no distance.
    """
    rows = case.scores(result)
    full = keep_drawn(result.copy(), case.sparse)
    tolerance = max(case.geometry.spacing_kji)
    for value, row in enumerate(rows, start=1):
        row.update(
            surface(full == value, case.truth == value, case.geometry.spacing_kji, tolerance)
        )
    means = {
        name: metrics.mean(row[name] for row in rows)
        for name in ("iou", "dice", "surface_dice", "hausdorff95")
    }
    return {**means, "classes": rows, "tested": int((case.sparse == UNLABELLED).sum())}


def surface(
    found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], tolerance: float
) -> dict:
    """Surface Dice: the share of both surfaces' voxels within `tolerance` mm of the other one.
    95 % Hausdorff: the larger of the two 95th percentiles of the distances, in mm; None where
    one of them is empty."""
    if not truth.any() and not found.any():
        return {"surface_dice": None, "hausdorff95": None}
    if not truth.any() or not found.any():
        return {"surface_dice": 0.0, "hausdorff95": None}
    box = _box(found | truth)
    rims = [
        mask[box] & ~ndimage.binary_erosion(mask[box], border_value=1) for mask in (found, truth)
    ]
    if not all(rim.any() for rim in rims):
        return {"surface_dice": None, "hausdorff95": None}
    there = ndimage.distance_transform_edt(~rims[1], spacing)[rims[0]]
    back = ndimage.distance_transform_edt(~rims[0], spacing)[rims[1]]
    near = (there <= tolerance).sum() + (back <= tolerance).sum()
    return {
        "surface_dice": float(near / (len(there) + len(back))),
        "hausdorff95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
    }


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The bounding box with a margin of two voxels."""
    edges = []
    for axis in range(3):
        hit = np.nonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))[0]
        edges.append(slice(max(0, hit[0] - 2), hit[-1] + 3))
    return tuple(edges)
