"""Smooth random deformations: displacements at control points, cubic B-splines in between."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from ...annotation.geometry import Triple


def control_cells(patch: Triple, spacing: float) -> Triple:
    """Number of cells of a control grid that cover a patch, (k, j, i).

    Args:
        patch: Voxels, (k, j, i).
        spacing: Voxels between control points; 0 is one cell over the whole patch, which has 2x2x2
            control points at its corners (Milletari 2016).
    """
    return tuple(1 if n < 2 or not spacing else math.ceil((n - 1) / spacing) for n in patch)


def random_controls(cells: Triple, kind: str, generator: torch.Generator) -> torch.Tensor:
    """Draws displacements at the control points of a patch, of unit size.

    A cubic B-spline over n cells has n + 3 control points, one before and one after the n + 1
    corners of the cells.

    Args:
        cells: Of the control grid, (k, j, i).
        kind: 'normal' with standard deviation 1, or 'uniform' from -1 to 1.
        generator: Of random numbers, on the CPU, so that a seed gives the same on every device.

    Returns:
        float32 (3, ck + 3, cj + 3, ci + 3).
    """
    shape = (3, *(n + 3 for n in cells))
    if kind == "normal":
        return torch.randn(shape, generator=generator)
    if kind == "uniform":
        return 2 * torch.rand(shape, generator=generator) - 1
    raise ValueError(f"displacements '{kind}': expected 'normal' or 'uniform'")


def bspline_fields(controls: torch.Tensor, patch: Triple, spacing: float) -> torch.Tensor:
    """Evaluates displacements (n, 3, *patch) in voxels (k, j, i), on the device of the controls.

    Args:
        controls: (n, 3, ck + 3, cj + 3, ci + 3), in voxels; the control points are the spline's
            coefficients, as in SimpleITK's BSplineTransform.
        patch: Voxels, (k, j, i).
        spacing: As in `control_cells`; the grid's middle is the patch's.
    """
    fields = controls
    for axis, n in enumerate(patch, start=2):
        weights = _weights(n, fields.shape[axis] - 3, spacing, str(controls.device))
        fields = torch.tensordot(fields, weights, ([axis], [0])).movedim(-1, axis)
    return fields


@lru_cache(maxsize=64)
def _weights(samples: int, cells: int, spacing: float, device: str) -> torch.Tensor:
    """Weights (cells + 3, samples) of the uniform cubic B-spline at a patch's voxels."""
    step = spacing or max(1, samples - 1)
    u = (torch.arange(samples, dtype=torch.float64) - (samples - 1) / 2) / step + cells / 2
    cell = u.floor().clamp(0, cells - 1).long()
    t = u - cell
    basis = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = torch.zeros(cells + 3, samples, dtype=torch.float64)
    for n, value in enumerate(basis):
        weights[cell + n, torch.arange(samples)] += value / 6
    return weights.float().to(device)
