"""What more slices are likely worth, from the rates of right and wrong voxels by distance."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AXES, AnnotatedSlice, array_axis
from ..stacking.out_of_fold import ENOUGH_SLICES
from .fold_rates import FoldRates, bins_of, occurrences

MORE = 2  # slices of one direction


def expected_gains(
    rates: FoldRates,
    shown: list[int],
    predicted: torch.Tensor,
    labels: torch.Tensor,
    distance: torch.Tensor,
    slices: list[AnnotatedSlice],
    spacing: tuple[float, ...],
) -> list[dict]:
    """Estimates how much MORE slices of each direction would raise the mean IoU.

    The new slices lie in the middles of the largest gaps. What is predicted then lies nearer to a
    slice, and is as often right as what was judged at that distance.

    Args:
        rates: Of the out-of-fold predictions.
        shown: For each class how many slices show it.
        predicted: uint8 (k, j, i).
        labels: uint8 (k, j, i), what is annotated.
        distance: float16 (k, j, i), log distances to the annotation.
        slices: The annotated slices.
        spacing: mm along k, j, i.

    Returns:
        Dictionaries with axis, slices and iou, for each direction in which there is room.
    """
    classes = [c for c in range(1, len(shown)) if shown[c] >= ENOUGH_SLICES]
    left = labels == UNLABELLED

    def mean(away: torch.Tensor, where: torch.Tensor) -> float:
        occurring = occurrences(predicted[where].cpu().numpy(), bins_of(away[where]), len(shown))
        found = [rates.overlap(c, occurring[c]) for c in classes]
        return float(np.mean([one[0] for one in found if one is not None] or [0.0]))

    inside = (predicted > 0) & left
    if not classes or not bool(inside.any()):
        return []
    now, gains = mean(distance, left), []
    for name in AXES:
        axis = array_axis(name)
        planes = inside.sum(dim=tuple(a for a in range(3) if a != axis)).nonzero().flatten()
        new = middles(
            [s.index for s in slices if s.axis == name], int(planes[0]), int(planes[-1]), MORE
        )
        if len(new) < MORE:
            continue
        at = torch.arange(labels.shape[axis], device=labels.device)
        form = [1, 1, 1]
        form[axis] = -1
        apart = torch.stack([(at - n).abs() for n in new]).min(dim=0).values
        nearer = torch.log1p(apart * (spacing[axis] / min(spacing))).view(form)
        where = left & (apart > 0).view(form)
        gain = mean(torch.minimum(distance.float(), nearer), where) - now
        gains.append({"axis": name, "slices": MORE, "iou": round(gain, 4)})
    return gains


def middles(taken: list[int], first: int, last: int, count: int) -> list[int]:
    """Places in the middles of the largest gaps between slices.

    Args:
        taken: Slices that are annotated.
        first: First slice of the object.
        last: Its last slice.
        count: Number of places.

    Returns:
        At most `count` indices, fewer where every slice of the object is taken.
    """
    taken, found = sorted(taken), []
    for _ in range(count):
        inside = [n for n in taken if first <= n <= last]
        # The ends of the object count half: nothing needs to be drawn there.
        edges = [2 * first - inside[0] if inside else first - (last - first), *inside]
        edges.append(2 * last - inside[-1] if inside else last + (last - first))
        gaps = list(pairwise(edges))
        low, high = max(gaps, key=lambda gap: (gap[1] - gap[0], -gap[0]))
        place = min(max(math.floor((low + high) / 2), first), last)
        if place in taken:
            break
        found.append(place)
        taken = sorted([*taken, place])
    return found
