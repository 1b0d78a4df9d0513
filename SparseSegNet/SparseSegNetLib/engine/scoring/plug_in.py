"""The overlap that calibrated probabilities expect, over the whole volume.

Where voxels are right or wrong independently of each other, the expected IoU of labels y with the
unknown truth is about sum(p y) / sum(p + y - p y) (Borges 2024, Soft Dice Confidence, for Dice).
"""

from __future__ import annotations

import torch

from .calibration import calibrated

PLANES = 8  # at a time
LEAST = 0.01  # calibrated probabilities below are none: of background there is too much


def expected_overlap(
    probabilities: torch.Tensor, exponent: torch.Tensor, judged: torch.Tensor
) -> list[tuple[float, float] | None]:
    """Computes the expected IoU and Dice of the likeliest classes.

    Args:
        probabilities: Class probabilities (classes, k, j, i).
        exponent: float32 (k, j, i), of their calibration.
        judged: Boolean (k, j, i), the voxels that count: those that nobody annotated.

    Returns:
        IoU and Dice per foreground class; None where it is neither predicted nor likely anywhere.
    """
    classes = len(probabilities)
    both, chance, chosen = torch.zeros((3, classes), dtype=torch.float64)
    for first in range(0, probabilities.shape[1], PLANES):
        part = slice(first, first + PLANES)
        counted = judged[part]
        found = calibrated(probabilities[:, part][:, counted], exponent[part][counted])
        found = torch.where(found < LEAST, 0.0, found).double()
        values, likeliest = found.max(dim=0)
        both += torch.bincount(likeliest, weights=values, minlength=classes).cpu()
        chosen += torch.bincount(likeliest, minlength=classes).cpu()
        chance += found.sum(dim=1).cpu()
    found = []
    for b, p, y in zip(both[1:].tolist(), chance[1:].tolist(), chosen[1:].tolist(), strict=True):
        found.append((b / (p + y - b), 2 * b / (p + y)) if p + y > 0 else None)
    return found
