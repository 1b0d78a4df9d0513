"""Geodesic distances from the labels, along paths on which the image changes least.

The distance of a voxel to a class is the sum of the intensity differences along the best path to a
voxel of that class, which is what GrowCut's shortest paths minimise (Vezhnevets 2005, Zhu 2014).
It is computed for all classes at once, plane after plane in six directions (Criminisi 2009).
"""

from __future__ import annotations

from itertools import product

import torch

ROUNDS = 1  # of six sweeps; a second one changes nothing that matters
LENGTH = 0.01  # cost of one finest voxel's length, in standard deviations of the image
SOFT = 0.04  # difference in distance, in standard deviations, that makes a class e times likelier
FAR = 1e4


def probabilities(
    image: torch.Tensor, spacing: tuple[float, float, float], labels: torch.Tensor, classes: int
) -> torch.Tensor:
    """Class probabilities from geodesic distances.

    Args:
        image: float32 (c, k, j, i), normalised.
        spacing: mm along k, j, i.
        labels: uint8 (k, j, i), 255 = unlabelled.
        classes: Labels with background.

    Returns:
        float32 (classes, k, j, i).
    """
    near = distances(image, spacing, labels, classes)
    return torch.softmax(-near / SOFT, dim=0)


def distances(
    image: torch.Tensor, spacing: tuple[float, float, float], labels: torch.Tensor, classes: int
) -> torch.Tensor:
    """Geodesic distance float32 (classes, k, j, i) to each class's labelled voxels."""
    kinds = torch.arange(classes, device=labels.device, dtype=labels.dtype)
    known = labels == kinds[:, None, None, None]
    near = torch.where(known, 0.0, FAR)
    units = [s / min(spacing) for s in spacing]
    for _ in range(ROUNDS):
        for axis in range(3):
            order = (axis, *(a for a in range(3) if a != axis))
            turned = near.movedim(axis + 1, 0).contiguous()
            pixels = image.movedim(axis + 1, 0).contiguous()
            mm = [units[a] for a in order]
            _sweep(turned, pixels, mm, range(1, len(turned)), -1)
            _sweep(turned, pixels, mm, range(len(turned) - 2, -1, -1), 1)
            near = turned.movedim(0, axis + 1)
    return near


def _sweep(
    near: torch.Tensor, pixels: torch.Tensor, mm: list[float], planes: range, before: int
) -> None:
    """Shorten distances (plane, classes, h, w) from each plane to the next, in place."""
    neighbours = []
    for down, right in product((-1, 0, 1), repeat=2):
        a, b = _overlap(near.shape[2], down), _overlap(near.shape[3], right)
        length = LENGTH * (mm[0] ** 2 + (down * mm[1]) ** 2 + (right * mm[2]) ** 2) ** 0.5
        neighbours.append(((slice(None), a[0], b[0]), (slice(None), a[1], b[1]), length))
    for plane in planes:
        mine, other = near[plane], near[plane + before]
        here, there = pixels[plane], pixels[plane + before]
        for to, of, length in neighbours:
            cost = (here[to] - there[of]).abs().sum(dim=0).add_(length)
            target = mine[to]
            torch.minimum(target, other[of] + cost, out=target)


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Overlap of a row and the same row moved by `shift` voxels: (in the one, in the other)."""
    return slice(max(0, -shift), size - max(0, shift)), slice(max(0, shift), size - max(0, -shift))
