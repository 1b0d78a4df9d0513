"""An estimate of the time that shallow models take, before there are features to fit them on."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from ..compute.timing import TIMED_SHARE, seconds_for_planes, seconds_taken
from ..data.preprocessing import WorkingVolume
from ..priors.maker import PRIOR_NAMES
from .voxel_classifier import BATCH, FEWEST_STEPS, ClassifierFitter
from .voxel_features import feature_count, voxel_features

FEWEST_PLANES = 8  # on which the features are timed


def seconds_for_shallow_models(
    volume: WorkingVolume,
    spacing: tuple[float, float, float],
    classes: int,
    dtype: str,
    fitted: int,
    predicting: int,
) -> float:
    """Estimates the seconds of features, the fewest steps and the prediction of the volume.

    Args:
        volume: The working volume, of which some planes are worked on.
        spacing: mm along k, j, i.
        classes: Labels with background.
        dtype: Of the matrix products, 'bfloat16' or 'float32'.
        fitted: Models that are fitted at once.
        predicting: How many of them predict the volume.
    """
    device, shape = volume.image.device, volume.shape

    def compute(part: slice) -> None:
        some = replace(volume, image=volume.image[:, part], labels=volume.labels[part])
        voxel_features(some, spacing, position=False)

    taken = seconds_for_planes(compute, shape[0], device, fewest=FEWEST_PLANES)
    features = feature_count(volume.image.shape[0]) + len(PRIOR_NAMES) * (classes - 1)
    rows = torch.zeros(BATCH, features, device=device)
    labels = (torch.arange(BATCH, device=device) % classes).to(torch.uint8)
    fitter = ClassifierFitter([rows], [labels], classes, dtype=dtype)
    fitting = FEWEST_STEPS * fitter.seconds_per_step(fitted)
    (model,) = fitter.fit([[0]], 1)
    planes = math.ceil(shape[0] / TIMED_SHARE)
    some = torch.zeros((features, planes, *shape[1:]), dtype=torch.half, device=device)
    one = seconds_taken(lambda: model.probabilities(some), device) * shape[0] / planes
    return taken + fitting + predicting * one
