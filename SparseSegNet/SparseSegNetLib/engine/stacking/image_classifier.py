"""A shallow model that needs the image alone, for volumes without annotation.

The shallow model of stacking has priors among its features, which are made from the slices of its
own volume. This one has filter responses and the position alone, so it can be fitted on some
volumes and predict others. It predicts slab by slab: memory does not grow with the volume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from ...annotation.composition import UNLABELLED
from ..data.preprocessing import WorkingVolume, grid_positions
from . import filters
from .smoothing import smooth_probabilities, usual_differences
from .voxel_classifier import FEW_STEPS, ClassifierFitter, VoxelClassifier, fastest_threads
from .voxel_features import waves_of

HALVES = (1, 2)  # half waves of the position along each axis
SLAB = 4_000_000  # voxels at once
# Of large planes there must be some at once, since the filters look at others beside them.
LEAST_PLANES, LARGEST_SLAB = 48, 16_000_000
MOST_VOXELS = 12_000_000  # of one volume, whose features are computed to draw some of them
# Filters reach so far: the widest kernel and the differences after it, in the finest spacing.
MARGIN = math.ceil(filters.REACH * max(filters.SCALES)) + 4
MOST_ROWS = 90_000  # labelled voxels of a volume on which a model is fitted
MOST_STEPS = 1600
FEWEST_STEPS = 200
FOLDS = 5  # of volumes, at most
NOTHING: Callable[[], None] = lambda: None  # noqa: E731


def feature_count(channels: int) -> int:
    """Number of features for an image with so many channels."""
    return filters.count(channels) + 3 + 2 * 3 * len(HALVES)


def settings(channels: int) -> dict:
    """Everything that the features depend on, to be stored with a model and compared with it."""
    return {
        "scales": list(filters.SCALES),
        "around": [filters.AROUND.start, filters.AROUND.stop],
        "reach": filters.REACH,
        "halves": list(HALVES),
        "features": feature_count(channels),
    }


@torch.no_grad()
def image_features(
    volume: WorkingVolume, first: int, last: int, check: Callable[[], None] = NOTHING
) -> torch.Tensor:
    """Computes the features of the planes `first` to `last` - 1 along k.

    Args:
        volume: The working volume.
        first: First plane.
        last: Plane after the last one.
        check: Called now and then; it may raise to stop.

    Returns:
        float16 (f, planes, j, i).
    """
    spacing = tuple(volume.spacing.tolist())
    margin = math.ceil(MARGIN * min(spacing) / spacing[0])
    low, high = max(0, first - margin), min(volume.shape[0], last + margin)
    found = filters.responses(volume.image[:, low:high], spacing, torch.half, check)
    found = found[:, first - low : last - low]
    device = volume.image.device
    planes = torch.arange(first, last, device=device)
    at = grid_positions(
        [planes, *(torch.arange(n, device=device) for n in volume.shape[1:])], volume.shape
    )
    return torch.cat((found, at.half(), *waves_of(at, (HALVES,) * 3)))


def slabs(volume: WorkingVolume) -> list[tuple[int, int]]:
    """First plane and plane after the last one of each slab of a volume."""
    plane = math.prod(volume.shape[1:])
    planes = max(1, SLAB // plane, min(LEAST_PLANES, LARGEST_SLAB // plane))
    return [
        (first, min(first + planes, volume.shape[0])) for first in range(0, volume.shape[0], planes)
    ]


@dataclass
class LabelledRows:
    """Labelled voxels of a volume with their features.

    Attributes:
        features: float16 (voxels, f).
        labels: uint8 (voxels,).
        places: Flat indices into (k, j, i), in rising order.
        drawn: Boolean (voxels,), those that were drawn and not propagated.
    """

    features: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor
    drawn: torch.Tensor


@torch.no_grad()
def labelled_rows(
    volume: WorkingVolume,
    labels: torch.Tensor,
    seed: int,
    check: Callable[[], None] = NOTHING,
    most: int = MOST_ROWS,
) -> LabelledRows:
    """Draws labelled voxels: a third from the segments, from all, and from the drawn ones.

    Args:
        volume: The working volume with the drawn labels.
        labels: uint8 (k, j, i), 255 = unlabelled: drawn and propagated ones.
        seed: Random seed of the choice.
        check: Called now and then; it may raise to stop.
        most: Number of voxels, at most.
    """
    random = torch.Generator().manual_seed(seed)
    flat, drawn = labels.flatten().cpu(), volume.labels.flatten().cpu() != UNLABELLED
    plane, parts = math.prod(volume.shape[1:]), slabs(volume)
    if math.prod(volume.shape) > MOST_VOXELS:
        # Some slabs in which there are segments, evenly spread.
        shown = [(a, b) for a, b in parts if bool((flat[a * plane : b * plane] % UNLABELLED).any())]
        kept = max(1, MOST_VOXELS * len(parts) // math.prod(volume.shape))
        useful = shown or parts
        kept = min(kept, len(useful))
        parts = [useful[n * len(useful) // kept] for n in range(kept)]
        outside = torch.ones_like(drawn)
        for first, last in parts:
            outside[first * plane : last * plane] = False
        flat, drawn = flat.masked_fill(outside, UNLABELLED), drawn & ~outside
    known = torch.nonzero(flat != UNLABELLED)[:, 0]
    third = most // 3

    def some(of: torch.Tensor) -> torch.Tensor:
        return of[torch.randperm(len(of), generator=random)[:third]]

    chosen = known
    if len(known) > most:
        groups = (known[flat[known] > 0], known, torch.nonzero(drawn)[:, 0])
        chosen = torch.cat([some(group) for group in groups]).unique()
    rows = []
    for first, last in parts:
        inside = chosen[(chosen >= first * plane) & (chosen < last * plane)]
        if len(inside):
            features = image_features(volume, first, last, check)
            rows.append(features.flatten(1)[:, (inside - first * plane).to(features.device)].T)
    device = volume.image.device
    return LabelledRows(torch.cat(rows), flat[chosen].to(device), chosen, drawn[chosen])


class ImageClassifier:
    """A shallow model that predicts volumes without annotation.

    Args:
        model: Fitted on `image_features`.
        channels: Of the image that it was fitted on.
    """

    def __init__(self, model: VoxelClassifier, channels: int):
        self.model, self.channels = model, channels

    @torch.no_grad()
    def probabilities(
        self,
        volume: WorkingVolume,
        step: Callable[[float], None] = lambda share: None,
        planes: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """Predicts class probabilities float32 (classes, k, j, i), on the CPU.

        Args:
            volume: The working volume.
            step: Called with the share done; it may raise to stop.
            planes: First plane along k and the one after the last; None for all.
        """
        low, high = planes or (0, volume.shape[0])
        work = [(max(a, low), min(b, high)) for a, b in slabs(volume) if a < high and b > low]
        spacing, usual = tuple(volume.spacing.tolist()), usual_differences(volume.image)
        found = []
        for number, (first, last) in enumerate(work):

            def check(number: int = number) -> None:
                step(number / len(work))

            check()
            # Smoothing looks a few planes farther than what is asked for.
            wide = max(0, first - 2), min(volume.shape[0], last + 2)
            raw = self.model.probabilities(image_features(volume, *wide, check))
            image = volume.image[:, wide[0] : wide[1]]
            smooth = smooth_probabilities(raw, image, spacing, usual)
            found.append(smooth[:, first - wide[0] : last - wide[0]].cpu())
        return torch.cat(found, dim=1)


def fit_image_classifiers(
    rows: Sequence[LabelledRows],
    classes: int,
    unknown: Sequence[Sequence[int]],
    channels: int,
    seed: int,
    dtype: str = "float32",
    seconds: float | None = None,
    check: Callable[[], None] = NOTHING,
) -> tuple[ImageClassifier, list[ImageClassifier], list[int]]:
    """Fits a model on all volumes, and others that leave volumes out.

    Args:
        rows: Per volume.
        classes: Labels with background.
        unknown: Per volume, the classes that its annotation does not tell from the background.
        channels: Of the images.
        seed: Random seed.
        dtype: Of the matrix products.
        seconds: How long it may take, about; None for as long as it takes.
        check: Called now and then; it may raise to stop.

    Returns:
        The model of all volumes; models that each leave a fold of volumes out (none for a single
        volume); and for each volume the number of the model that has not seen it.
    """
    count = len(rows)
    fitter = ClassifierFitter(
        [row.features for row in rows],
        [row.labels for row in rows],
        classes,
        seed,
        dtype,
        check,
        unknown,
    )
    most, steps = min(FOLDS, count) if count > 1 else 0, MOST_STEPS
    folds = most
    with fastest_threads(fitter, most + 1) if seconds is not None else nullcontext(0.0) as pace:
        if seconds is not None:
            # Fewer models that leave more volumes out come before fewer steps.
            while folds > 2 and FEW_STEPS * pace * (folds + 1) / (most + 1) > seconds:
                folds -= 1
            pace *= (folds + 1) / (most + 1)
            steps = min(max(FEWEST_STEPS, int(seconds / max(pace, 1e-9))), MOST_STEPS)
        fold_of = [n % folds for n in range(count)] if folds else []
        used = [list(range(count))]
        used += [[n for n in range(count) if fold_of[n] != fold] for fold in range(folds)]
        every, *others = (ImageClassifier(model, channels) for model in fitter.fit(used, steps))
    return every, others, fold_of
