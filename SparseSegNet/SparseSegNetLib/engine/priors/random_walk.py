"""Class probabilities by random walks that avoid the image's edges.

Grady 2006: the probability that a walk from a voxel meets a seed of a class first is the solution
of a Laplace equation whose conductances fall with the difference in intensity. It is solved here
from coarse to fine on the device, by conjugate gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...annotation.composition import UNLABELLED
from ..data.preprocessing import coarse_index

EDGE = 13.0  # conductance = exp(-EDGE * difference^2), in standard deviations of the image
LEAST_CONDUCTANCE = 1e-4
SCALES = (8, 4, 2, 1)
STEPS = (100, 60, 40, 25)  # of the conjugate gradients at each scale
SMALLEST = 8  # voxels along an axis: a grid is not reduced below
ENOUGH = 1e-3  # of the residual at the start


class RandomWalk:
    """Random walks in one volume, whose conductances serve for any choice of labels.

    Args:
        image: float32 (c, k, j, i), normalised.
        spacing: mm along k, j, i.
        finest: The finest of SCALES that is solved at.
    """

    def __init__(self, image: torch.Tensor, spacing: tuple[float, float, float], finest: int = 1):
        self.shape = tuple(image.shape[1:])
        self._levels = []
        seen = set()
        for scale in SCALES:
            if scale < finest:
                break
            size = _reduced(self.shape, spacing, scale)
            if size in seen:
                continue
            seen.add(size)
            coarse = (
                image
                if size == self.shape
                else F.interpolate(image[None], size=size, mode="area")[0]
            )
            mm = [s * n / m for s, n, m in zip(spacing, self.shape, size, strict=True)]
            self._levels.append((size, _conductances(coarse, mm)))

    def probabilities(self, labels: torch.Tensor, classes: int) -> torch.Tensor:
        """Class probabilities float32 (classes, k, j, i) from labels uint8 (k, j, i)."""
        found = None
        for (size, conductances), steps in zip(
            self._levels, STEPS[-len(self._levels) :], strict=True
        ):
            seeds = _seeds(labels, classes, size)
            known = seeds.sum(dim=0) > 0
            if found is None:
                # Where no walk has ended yet: the frequencies of the classes.
                start = seeds[:, known].mean(dim=1) if known.any() else seeds.new_zeros(classes)
                found = start[:, None, None, None].expand(classes, *size)
            else:
                found = F.interpolate(
                    found[None], size=size, mode="trilinear", align_corners=False
                )[0]
            # The classes' probabilities sum to one, so the background's is not solved for.
            found = torch.where(known, seeds, found)
            found[1:] = _solve(found[1:].contiguous(), known, conductances, steps)
            found[0] = 1 - found[1:].sum(dim=0)
        if found.shape[1:] != self.shape:
            found = F.interpolate(
                found[None], size=self.shape, mode="trilinear", align_corners=False
            )[0]
        # What is left of the residual can lie outside 0 to 1.
        found = found.clamp_min(0)
        return found / found.sum(dim=0).clamp_min(1e-6)


def _reduced(shape, spacing, scale: int) -> tuple[int, int, int]:
    """The grid at a scale: axes become equally coarse before thick ones are reduced at all."""
    wanted = scale * min(spacing)
    return tuple(
        n if s >= wanted else max(min(n, SMALLEST), round(n * s / wanted))
        for n, s in zip(shape, spacing, strict=True)
    )


def _conductances(image: torch.Tensor, spacing) -> list[torch.Tensor]:
    """Between each voxel and the next one, along k, j and i."""
    unit = min(spacing)
    found = []
    for axis in range(3):
        n = image.shape[axis + 1]
        step = image.narrow(axis + 1, 1, n - 1) - image.narrow(axis + 1, 0, n - 1)
        value = torch.exp(-EDGE * (step**2).sum(dim=0)).clamp_min(LEAST_CONDUCTANCE)
        found.append(value * (unit / spacing[axis]) ** 2)
    return found


def _seeds(labels: torch.Tensor, classes: int, size) -> torch.Tensor:
    """Shares of the classes among a coarse voxel's labelled voxels, (classes, *size)."""
    at = torch.nonzero(labels != UNLABELLED)
    values = labels[tuple(at.T)].long()
    scale = [
        coarse_index(at[:, a], n, m)
        for a, (m, n) in enumerate(zip(size, labels.shape, strict=True))
    ]
    flat = (scale[0] * size[1] + scale[1]) * size[2] + scale[2]
    total = size[0] * size[1] * size[2]
    counts = torch.zeros(classes * total, device=labels.device)
    counts.index_add_(0, values * total + flat, torch.ones(len(flat), device=labels.device))
    counts = counts.view(classes, *size)
    return counts / counts.sum(dim=0).clamp_min(1e-12)


def _flow(x: torch.Tensor, conductances: list[torch.Tensor]) -> torch.Tensor:
    """The graph Laplacian applied to x (n, k, j, i)."""
    out = torch.zeros_like(x)
    for axis, value in enumerate(conductances):
        n = x.shape[axis + 1]
        step = (x.narrow(axis + 1, 1, n - 1) - x.narrow(axis + 1, 0, n - 1)).mul_(value)
        out.narrow(axis + 1, 1, n - 1).add_(step)
        out.narrow(axis + 1, 0, n - 1).sub_(step)
    return out


def _solve(
    x: torch.Tensor, known: torch.Tensor, conductances: list[torch.Tensor], steps: int
) -> torch.Tensor:
    """Conjugate gradients for L x = 0 off the seeds, with the diagonal as preconditioner."""
    free = (~known).float()
    diagonal = torch.zeros_like(free)
    for axis, value in enumerate(conductances):
        n = diagonal.shape[axis]
        diagonal.narrow(axis, 1, n - 1).add_(value)
        diagonal.narrow(axis, 0, n - 1).add_(value)
    inverse = free / diagonal.clamp_min(1e-12)
    residual = -_flow(x, conductances).mul_(free)
    direction = residual * inverse
    strength = _dot(residual, direction)
    first = strength.clone()
    for _ in range(steps):
        flow = _flow(direction, conductances).mul_(free)
        length = strength / _dot(direction, flow).clamp_min(1e-20)
        x = torch.addcmul(x, direction, length)
        residual = torch.addcmul(residual, flow, -length)
        prepared = residual * inverse
        following = _dot(residual, prepared)
        if bool((following <= ENOUGH**2 * first).all()):
            break
        direction = torch.addcmul(prepared, direction, following / strength.clamp_min(1e-20))
        strength = following
    return x


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)
