"""Statistics of a whole volume, which a model needs before it predicts a tile of it.

Up to `EXACT` voxels it is measured on all of them, as it is in memory; of a larger volume on chunks
that are spread evenly over those that are stored. It is the same for all tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..annotation.geometry import Triple, triple
from ..annotation.turned_content import EDGE
from ..engine.data.intensity_standard import landmarks_of
from ..engine.data.preprocessing import SAMPLE, Normalisation
from ..engine.prediction.model import Model
from ..files.stored_volume import StoredVolume
from .model_view import ModelView, finite

EXACT = 2**28  # voxels
BLOCKS = 128  # that are read of a larger volume
BLOCK = 64  # voxels along each axis of them
OVERVIEW = 2**24  # voxels of a level that is coarse enough to be read at once
Check = Callable[[float], None]


@dataclass(frozen=True)
class WholeVolume:
    """Statistics of a volume, for one model.

    Attributes:
        order: For each channel of the model the place of the image's.
        replace_nonfinite: Voxels that are NaN or infinite count as the lowest of the channel.
        normalisation: Of the intensities.
        landmarks: Per channel the percentiles of the normalised image; empty if not needed.
        usual: Per channel the mean squared difference between neighbours along k, j and i, on the
            model's grid; empty if not needed.
        exact: False if they were measured on a sample.
    """

    order: tuple[int, ...]
    replace_nonfinite: bool
    normalisation: Normalisation
    landmarks: tuple[tuple[float, ...], ...] = ()
    usual: tuple[tuple[float, ...], ...] = ()
    exact: bool = True


def overview(image: StoredVolume) -> np.ndarray:
    """A coarse image (c, k, j, i), to tell by its content if a model fits.

    A level that is coarse enough, else single voxels that are spread evenly.
    """
    for number, level in enumerate(image.levels):
        if level.voxels <= OVERVIEW:
            return image.read((0, 0, 0), level.shape, number)
    counts = [min(n, EDGE) for n in image.shape]
    found = np.zeros((len(image.channels), *counts), image.dtype)
    for place in np.ndindex(*counts):
        at = triple(
            (2 * p + 1) * n // (2 * c) for p, n, c in zip(place, image.shape, counts, strict=True)
        )
        found[(slice(None), *place)] = image.read(at, [a + 1 for a in at])[:, 0, 0, 0]
    return found


def measure(
    image: StoredVolume,
    model: Model,
    order: tuple[int, ...],
    replace_nonfinite: bool = False,
    check: Check = lambda share: None,
) -> WholeVolume:
    """Measures a volume for a model.

    Args:
        image: The volume.
        model: The model.
        order: For each channel of the model the place of the image's.
        replace_nonfinite: Count NaN and infinite voxels as the lowest of the channel instead of
            refusing them.
        check: Called with the share done; it may raise to stop.

    Raises:
        InputError: The image has voxels that are not finite, or cannot be read.
    """
    view = ModelView(image, model, order)
    exact = image.levels[0].voxels <= EXACT
    whole = WholeVolume(order, replace_nonfinite, model.intensities.normalisation, exact=exact)
    fixed = model.intensities.modality == "ct" and not model.intensities.landmarks
    if not fixed:
        sample = _sample(view, check) if exact else _blocks(view, check)
        sample = finite(sample, replace_nonfinite, f"the image {image.path}")
        normalisation = model.intensities.normalisation_of(sample)
        landmarks = (
            tuple(tuple(map(float, row)) for row in landmarks_of(normalisation.apply(sample)))
            if model.intensities.landmarks
            else ()
        )
        whole = WholeVolume(order, replace_nonfinite, normalisation, landmarks, exact=exact)
    if model.shallow is None:
        return whole
    return WholeVolume(
        order,
        replace_nonfinite,
        whole.normalisation,
        whole.landmarks,
        _usual(view, whole, check),
        exact,
    )


def _sample(view: ModelView, check: Check) -> np.ndarray:
    """Every n-th voxel (c, k, j, i), as `Normalisation.measure` takes them, read once."""
    shape = view.shape
    step = max(1, round((np.prod(shape, dtype=np.int64) / SAMPLE) ** (1 / 3)))
    planes = view.planes
    found = []
    for first in range(0, shape[0], planes):
        check(0.5 * first / shape[0])
        last = min(first + planes, shape[0])
        begin = -first % step
        if begin < last - first:
            slab = view.raw((first, 0, 0), (last, *shape[1:]))
            found.append(slab[:, begin::step, ::step, ::step].copy())
    return np.concatenate(found, axis=1)


def _chosen(view: ModelView) -> Iterator[tuple[Triple, Triple]]:
    """Boxes of the turned image, evenly spread over the chunks that are stored."""
    image = view.image
    chunk = image.levels[0].chunk
    corners = image.present() or [
        triple((n // c // 2) * c for n, c in zip(image.shape, chunk, strict=True))
    ]
    count = min(BLOCKS, len(corners))
    for n in range(count):
        low = corners[(2 * n + 1) * len(corners) // (2 * count)]
        high = triple(
            min(a + min(c, BLOCK), size) for a, c, size in zip(low, chunk, image.shape, strict=True)
        )
        yield view.turn.box(low, high, image.shape)


def _blocks(view: ModelView, check: Check) -> np.ndarray:
    """The voxels (c, 1, 1, n) of the chosen boxes."""
    found = []
    for n, box in enumerate(_chosen(view)):
        check(0.5 * n / BLOCKS)
        found.append(view.raw(*box).reshape(len(view.order), 1, 1, -1))
    return np.concatenate(found, axis=3)


def _usual(view: ModelView, whole: WholeVolume, check: Check) -> tuple[tuple[float, ...], ...]:
    """The `usual_differences` of the image on the model's grid."""
    channels = len(view.order)
    total, count = np.zeros((3, channels)), np.zeros(3)
    for n, (low, high, own) in enumerate(_parts(view, whole.exact)):
        check(0.5 + 0.5 * min(1.0, n / BLOCKS))
        part = view.box(low, high, whole)
        for axis in range(3):
            # The plane after a part belongs to it along k, where it is the first of the next.
            inside = part if axis == 0 else part[:, :own]
            apart = inside.diff(dim=axis + 1)
            total[axis] += apart.double().square_().sum(dim=(1, 2, 3)).cpu().numpy()
            count[axis] += apart[0].numel()
    mean = total / np.maximum(count, 1)[:, None]
    return tuple(tuple(float(max(v, 1e-12)) for v in row) for row in mean)


def _parts(view: ModelView, exact: bool) -> Iterator[tuple[Triple, Triple, int]]:
    """Boxes of the model's grid, and the planes of each that are not the next one's."""
    grid = view.grid
    if exact:
        for first in range(0, grid[0], view.planes):
            last = min(first + view.planes, grid[0])
            yield (first, 0, 0), (min(last + 1, grid[0]), *grid[1:]), last - first
        return
    for low, high in _chosen(view):
        ends = [
            (a * m // n, max(a * m // n + 1, min(m, -(-b * m // n))))
            for a, b, n, m in zip(low, high, view.shape, grid, strict=True)
        ]
        yield triple(a for a, _ in ends), triple(b for _, b in ends), ends[0][1] - ends[0][0]


def usual_tensors(whole: WholeVolume) -> tuple[torch.Tensor, ...]:
    """`WholeVolume.usual` as the engine takes it: float32 (c, 1, 1, 1) along k, j and i."""
    return tuple(torch.tensor(row, dtype=torch.float32)[:, None, None, None] for row in whole.usual)
