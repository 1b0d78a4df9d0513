"""What the comparison scores: IoU, Dice, surface Dice at one voxel, 95 % Hausdorff distance."""

from __future__ import annotations

import numpy as np

from cases import Case
from SparseSegNetLib.annotation.composition import UNLABELLED, keep_drawn
from SparseSegNetLib.annotation.grid_map import affine
from SparseSegNetLib.annotation.surface_metrics import surface_agreement
from SparseSegNetLib.engine.compute import metrics


def scores(case: Case, result: np.ndarray) -> dict:
    """Means over the segments, and each segment's figures.

    IoU and Dice on the voxels that were not annotated. Surfaces are those of the whole result,
    in which every drawn voxel is as drawn, so that what was annotated adds no distance.
    """
    rows = case.scores(result)
    full = keep_drawn(result.copy(), case.sparse)
    steps = affine(case.geometry)[0]
    tolerance = max(case.geometry.spacing_kji)
    for value, row in enumerate(rows, start=1):
        row.update(vars(surface_agreement(full == value, case.truth == value, steps, tolerance)))
    means = {
        name: metrics.mean(row[name] for row in rows)
        for name in ("iou", "dice", "surface_dice", "hausdorff95")
    }
    return {**means, "classes": rows, "tested": int((case.sparse == UNLABELLED).sum())}
