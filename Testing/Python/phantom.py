"""A bright shell around a dark core: what the tests segment, and how well they did."""

import numpy as np


def nested(shape, seed=0):
    """A bright shell (1) around a dark core (2): image int16 and dense truth uint8, (k, j, i)."""
    radius = np.sqrt(
        sum(
            ((x - (n - 1) / 2) / (0.42 * n)) ** 2
            for x, n in zip(np.indices(shape), shape, strict=True)
        )
    )
    truth = np.where(radius < 0.5, 2, np.where(radius < 1, 1, 0)).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(0, 12, shape)
    return (np.array([60.0, 160.0, 100.0])[truth] + noise).astype(np.int16), truth


def iou(found, truth, known=None):
    """Mean IoU of shell and core, on voxels that were not drawn (known: boolean, those drawn)."""
    rest = np.ones(truth.shape, bool) if known is None else ~known
    return np.mean(
        [
            ((found == c) & (truth == c) & rest).sum()
            / (((found == c) | (truth == c)) & rest).sum()
            for c in (1, 2)
        ]
    )
