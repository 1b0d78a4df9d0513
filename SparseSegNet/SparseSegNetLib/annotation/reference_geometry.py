"""The grid that a Slicer segmentation refers to: that of the volume it was made on.

Slicer stores of a segmentation no more than what is drawn, or less than the volume; what the
segmentation covers is told by this grid alone.
"""

from __future__ import annotations

import math

import numpy as np

from .geometry import Geometry

PARAMETER = "Reference image geometry"  # its name among a segmentation's conversion parameters


def reference_geometry(text: str) -> Geometry | None:
    """Reads the grid as `vtkSegmentationConverter.SerializeImageGeometry` writes it.

    Args:
        text: 16 numbers of the matrix from voxel indices to RAS positions, row by row, and 6 of the
            extent, first and last index along i, j and k, separated by semicolons.

    Returns:
        The grid in LPS from the first voxel of the extent; None if the text is none, or of a grid
        without voxels.
    """
    try:
        numbers = [float(part) for part in text.strip().strip(";").split(";")]
    except ValueError:
        return None
    if len(numbers) != 22 or not all(map(math.isfinite, numbers)):
        return None
    matrix = np.array(numbers[:16]).reshape(4, 4)
    matrix[:2] *= -1  # RAS to LPS
    low, high = np.array(numbers[16::2]), np.array(numbers[17::2])
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (spacing > 0).all():
        return None
    origin = matrix[:3] @ [*low, 1]
    first, second, third = (int(n) for n in high - low + 1)
    a, b, c = (float(mm) for mm in spacing)
    x, y, z = (float(mm) for mm in origin)
    directions = (matrix[:3, :3] / spacing).ravel()
    grid = Geometry((first, second, third), (a, b, c), (x, y, z), tuple(map(float, directions)))
    return None if grid.fault() is not None else grid
