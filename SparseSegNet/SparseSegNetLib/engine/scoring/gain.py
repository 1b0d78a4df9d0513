"""Worth of more slices: the learning curve of a volume (as in Cicek 2016, Table 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AXES, AnnotatedSlice, array_axis
from ...suggestion.gaps import evenly_added
from .interval_table import DECAY

MORE = 2  # slices of one direction
# How much the benchmark's learning curve counts beside the volume's own one.
BENCHMARK = 1.0


def decay(history: Sequence[dict]) -> float:
    """Exponent with which 1 - IoU falls with the number of slices.

    That of the benchmark, moved to that of the volume's own scores where these cover several
    numbers of slices.

    Args:
        history: Dictionaries with slices and iou (per segment; None where there is none).
    """
    first, *others = history or [{"slices": 0, "iou": []}]
    top, bottom = BENCHMARK * DECAY, BENCHMARK
    for one in others:
        pairs = [
            (1 - a, 1 - b)
            for a, b in zip(first["iou"], one["iou"], strict=True)
            if a is not None and b is not None
        ]
        if not pairs or min(first["slices"], one["slices"]) < 1:
            continue
        before, now = (max(1e-3, sum(side) / len(pairs)) for side in zip(*pairs, strict=True))
        more = math.log(one["slices"] / first["slices"])
        top += more * math.log(before / now)
        bottom += more * more
    return max(0.0, top / bottom)


def expected_gains(
    predicted: torch.Tensor,
    labels: torch.Tensor,
    slices: list[AnnotatedSlice],
    spacing: tuple[float, ...],
    history: Sequence[dict],
) -> list[dict]:
    """Estimates how much MORE slices of each direction would raise the mean IoU.

    The direction whose slices come nearest to what is predicted gets the whole of what the
    learning curve promises, the others their share of it.

    Args:
        predicted: uint8 (k, j, i).
        labels: uint8 (k, j, i), what is annotated.
        slices: The annotated slices.
        spacing: mm along k, j, i.
        history: The volume's scores, see `decay`; the last one is that of the prediction.

    Returns:
        Dictionaries with axis, slices and iou, for each direction in which there is room.
    """
    known = [v for v in history[-1]["iou"] if v is not None] if history else []
    inside = (predicted > 0) & (labels == UNLABELLED)
    if not known or not bool(inside.any()):
        return []
    count = history[-1]["slices"]
    share = 1 - (count / (count + MORE)) ** decay(history)
    gain = (1 - sum(known) / len(known)) * share
    nearer = {}
    for name in AXES:
        axis = array_axis(name)
        row = inside.sum(dim=tuple(a for a in range(3) if a != axis))
        planes = row.nonzero().flatten()
        taken = [s.index for s in slices if s.axis == name]
        new = evenly_added(taken, int(planes[0]), int(planes[-1]), MORE)
        if len(new) < MORE:
            continue
        at = torch.arange(len(row))
        before = _log_distance(at, taken, spacing[axis] / min(spacing))
        after = _log_distance(at, [*taken, *new], spacing[axis] / min(spacing))
        nearer[name] = float(((before - after) * row).sum() / row.sum())
    most = max(nearer.values(), default=0.0)
    return [
        {"axis": name, "slices": MORE, "iou": round(gain * value / most, 4)}
        for name, value in nearer.items()
        if most > 0
    ]


def _log_distance(at: torch.Tensor, taken: list[int], step: float) -> torch.Tensor:
    """Logarithm of the distance of places along an axis to the nearest slice of that axis."""
    if not taken:
        return torch.log1p(torch.full(at.shape, float(len(at))) * step)
    return torch.log1p(torch.stack([(at - n).abs() for n in taken]).min(dim=0).values * step)
