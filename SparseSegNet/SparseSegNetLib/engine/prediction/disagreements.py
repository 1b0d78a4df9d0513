"""Regions in which the prediction differs from the annotation."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ...annotation.composition import UNLABELLED

SMALLEST = 4  # voxels; along every contour single voxels differ, which is no mistake
MOST = 100


def disagreements(predicted: np.ndarray, drawn: np.ndarray) -> list[dict]:
    """Finds connected regions of annotated voxels that were predicted otherwise.

    A region that is thick inside is rather a mistake or a structure that was not learnt than a
    contour drawn a voxel too wide, so regions are ordered by their voxels off the rim, then by
    size.

    Args:
        predicted: uint8 (k, j, i).
        drawn: Annotation, uint8 (k, j, i), 255 = unlabelled.

    Returns:
        At most `MOST` regions of at least `SMALLEST` voxels: voxels, drawn and model (the
        commonest label of each), voxel (k, j, i), the one deepest inside.
    """
    differs = (drawn != UNLABELLED) & (predicted != drawn) & (predicted != UNLABELLED)
    if not differs.any():
        return []
    regions, _ = ndimage.label(differs, np.ones((3, 3, 3)))
    found = []
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        region = regions[box] == number
        count = int(np.count_nonzero(region))
        if count < SMALLEST:
            continue
        depth, inside = _depth(region)
        voxel = np.unravel_index(int(depth.argmax()), depth.shape)
        found.append(
            {
                "voxels": count,
                "inside": inside,
                "drawn": int(np.bincount(drawn[box][region]).argmax()),
                "model": int(np.bincount(predicted[box][region]).argmax()),
                "voxel": [int(v) + s.start for v, s in zip(voxel, box, strict=True)],
            }
        )
    found.sort(key=lambda r: (-r["inside"], -r["voxels"], r["voxel"]))
    return found[:MOST]


def _depth(region: np.ndarray) -> tuple[np.ndarray, int]:
    """Distance to the rim within the planes that a region lies in, and the voxels off the rim.

    Regions lie in slices one voxel thick, so distances are measured in each plane of the axis
    along which the region is thinnest.
    """
    axis = int(np.argmin(region.shape))
    planes = np.moveaxis(region, axis, 0)
    depth = np.stack([ndimage.distance_transform_edt(np.pad(p, 1))[1:-1, 1:-1] for p in planes])
    return np.moveaxis(depth, 0, axis), int(np.count_nonzero(depth > 1.5))
