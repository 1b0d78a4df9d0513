"""The shallow model without priors where the time does not suffice for folds.

Priors cost most of a short time, and folds need them several times. A model that sees image and
position alone needs none: it is fitted on all labels, in the seconds that are left.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ...annotation.composition import UNLABELLED
from ..compute.timing import seconds_for_planes
from .fold_models import MORE_STEPS_SHARE
from .voxel_classifier import FEWEST_STEPS, ClassifierFitter

TIME_SHARE = 0.9  # of the time for stacking
# Of the model beside the priors' mean, by measurement (docs/lab/blends.md): more is better on
# textures, less on smooth organs.
SHARE = 0.4


def probabilities_in_time(
    features: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    seed: int,
    dtype: str,
    end: float,
    check: Callable[[], None],
) -> torch.Tensor | None:
    """Fits a model on all labelled voxels and predicts the volume, if there is time for it.

    Args:
        features: Of image and position, float16 (f, k, j, i).
        labels: uint8 (k, j, i), 255 = unlabelled.
        classes: Labels with background.
        seed: Random seed.
        dtype: Of the matrix products, 'bfloat16' or 'float32'.
        end: time.monotonic() at which the prediction is to be there.
        check: Called now and then; it may raise to break off.

    Returns:
        Class probabilities float32 (classes, k, j, i); None where the time does not suffice for
        FEWEST_STEPS.
    """
    known = labels != UNLABELLED
    fitter = ClassifierFitter([features[:, known].T], [labels[known]], classes, seed, dtype, check)
    (tried,) = fitter.fit([[0]], 1)
    predicting = seconds_for_planes(
        lambda part: tried.probabilities(features[:, part]), len(labels), labels.device
    )
    pace = fitter.seconds_per_step(1)
    left = end - time.monotonic() - predicting
    steps = min(int(MORE_STEPS_SHARE * left / pace), fitter.steps)
    if steps < FEWEST_STEPS:
        return None
    (model,) = fitter.fit([[0]], steps)
    return model.probabilities(features)
