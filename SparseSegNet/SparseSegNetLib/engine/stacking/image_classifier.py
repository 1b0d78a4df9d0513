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
from ...annotation.geometry import Triple, triple
from ..data.preprocessing import WorkingVolume, grid_positions
from . import filters
from .smoothing import ROUNDS, smooth_probabilities, usual_differences
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
    volume: WorkingVolume,
    low: Sequence[int],
    high: Sequence[int],
    check: Callable[[], None] = NOTHING,
) -> torch.Tensor:
    """Computes the features of the box [low, high).

    Args:
        volume: The working volume, or a part of it that holds `surroundings` of the box.
        low: First voxel, (k, j, i).
        high: Voxel after the last, (k, j, i).
        check: Called now and then; it may raise to stop.

    Returns:
        float16 (f, k, j, i).
    """
    spacing = tuple(volume.spacing.tolist())
    first, last = surroundings(volume.shape, spacing, low, high, 0)
    found = filters.responses(_box(volume, first, last), spacing, torch.half, check)
    inside = [slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True)]
    found = found[(slice(None), *inside)]
    device = volume.image.device
    indices = [torch.arange(a, b, device=device) for a, b in zip(low, high, strict=True)]
    at = grid_positions(indices, volume.shape)
    return torch.cat((found, at.half(), *waves_of(at, (HALVES,) * 3)))


def surroundings(
    shape: Triple,
    spacing: Sequence[float],
    low: Sequence[int],
    high: Sequence[int],
    more: int = ROUNDS,
) -> tuple[Triple, Triple]:
    """The box of a grid that the prediction of the box [low, high) looks at.

    Args:
        shape: Of the grid, (k, j, i).
        spacing: mm along k, j, i.
        low: First voxel, (k, j, i).
        high: Voxel after the last, (k, j, i).
        more: Further voxels on each side; those of the smoothing by default.
    """
    margins = [more + math.ceil(MARGIN * min(spacing) / mm) for mm in spacing]
    return (
        triple(max(0, a - m) for a, m in zip(low, margins, strict=True)),
        triple(min(n, b + m) for n, b, m in zip(shape, high, margins, strict=True)),
    )


def _box(volume: WorkingVolume, low: Sequence[int], high: Sequence[int]) -> torch.Tensor:
    """The image (c, k, j, i) of the box [low, high) of the working grid."""
    inside = [slice(a - f, b - f) for a, b, f in zip(low, high, volume.first, strict=True)]
    return volume.image[(slice(None), *inside)]


def slabs(low: Sequence[int], high: Sequence[int]) -> list[tuple[int, int]]:
    """First plane along k and plane after the last one of each slab of the box [low, high)."""
    plane = (high[1] - low[1]) * (high[2] - low[2])
    planes = max(1, SLAB // plane, min(LEAST_PLANES, LARGEST_SLAB // plane))
    return [(first, min(first + planes, high[0])) for first in range(low[0], high[0], planes)]


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
    plane, parts = math.prod(volume.shape[1:]), slabs((0, 0, 0), volume.shape)
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
            planes = (first, 0, 0), (last, *volume.shape[1:])
            features = image_features(volume, *planes, check)
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
        low: Sequence[int] = (0, 0, 0),
        high: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Predicts class probabilities float32 (classes, k, j, i) of a box, on the CPU.

        Args:
            volume: The working volume, or a part of it that holds `surroundings` of the box.
            step: Called with the share done; it may raise to stop.
            low: First voxel, (k, j, i).
            high: Voxel after the last, (k, j, i); None for the end of the volume.
        """
        high = volume.shape if high is None else high
        work = slabs(low, high)
        spacing = tuple(volume.spacing.tolist())
        usual = (
            usual_differences(volume.image)
            if volume.part is None
            else [mean.to(volume.image.device) for mean in volume.part.usual]
        )
        found = []
        for number, (first, last) in enumerate(work):

            def check(number: int = number) -> None:
                step(number / len(work))

            check()
            # Smoothing looks a few voxels farther than what is asked for.
            begin, end = (first, *low[1:]), (last, *high[1:])
            wide = (
                [max(0, a - ROUNDS) for a in begin],
                [min(n, b + ROUNDS) for n, b in zip(volume.shape, end, strict=True)],
            )
            raw = self.model.probabilities(image_features(volume, *wide, check))
            smooth = smooth_probabilities(raw, _box(volume, *wide), spacing, usual)
            inside = [slice(a - w, b - w) for a, b, w in zip(begin, end, wide[0], strict=True)]
            found.append(smooth[(slice(None), *inside)].cpu())
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
