"""A stored volume as a model sees it: turned, with its channels in order, normalised, resampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..annotation.geometry import Triple
from ..annotation.orientation import Turn, orientation_of
from ..engine.data.windows import applied, boxed
from ..engine.prediction.model import Model, grid_of
from ..errors import InputError
from ..files.stored_volume import StoredVolume

if TYPE_CHECKING:
    from .whole_volume import WholeVolume

SLAB = 2**25  # voxels that are read at once where all are looked at


class ModelView:
    """A stored volume on the grid of a model.

    Args:
        image: The volume.
        model: The model.
        order: For each channel of the model the place of the image's.

    Attributes:
        turn: From the image's axes to the model's.
        shape: Of the turned image, (k, j, i).
        spacing: Its spacing, mm along k, j, i.
        grid: Shape of the model's grid.
    """

    def __init__(self, image: StoredVolume, model: Model, order: Sequence[int]):
        self.image, self.model, self.order = image, model, list(order)
        self.turn = Turn.between(orientation_of(image.geometry), model.description.orientation)
        self.shape = self.turn.shape(image.shape)
        self.spacing = self.turn.geometry(image.geometry).spacing_kji
        self.grid = grid_of(self.shape, self.spacing, model.spacing)

    @property
    def grid_spacing(self) -> tuple[float, ...]:
        """Spacing of the model's grid, mm along k, j, i."""
        return tuple(
            mm * n / m for mm, n, m in zip(self.spacing, self.shape, self.grid, strict=True)
        )

    @property
    def planes(self) -> int:
        """Planes along k that are read at once where all voxels are looked at."""
        return max(1, SLAB // (self.shape[1] * self.shape[2] * len(self.order)))

    def raw(self, low: Triple, high: Triple) -> np.ndarray:
        """Reads the box [low, high) of the turned image: (c, k, j, i) in its own type."""
        box = self.turn.inverse.box(low, high, self.shape)
        return self.turn.array(self.image.read(*box))[self.order]

    def box(self, low: Triple, high: Triple, whole: WholeVolume) -> torch.Tensor:
        """Reads the box [low, high) of the model's grid: normalised, float32 (c, k, j, i).

        Raises:
            InputError: There are voxels that are not finite, or a chunk is damaged.
        """
        first, last, weights = boxed(low, high, self.shape, self.grid)
        pixels = self.raw(first, last)
        place = ",".join(
            f"{a}:{b}" for a, b in zip(*self.turn.inverse.box(first, last, self.shape), strict=True)
        )
        where = f"the box {place} of {self.image.path}"
        # What normalisation clips to stands for the lowest value, which a part does not know.
        pixels = finite(pixels, whole.replace_nonfinite, where, whole.normalisation.low)
        pixels = whole.normalisation.apply(pixels)
        marks = [np.asarray(row) for row in whole.landmarks]
        pixels = self.model.intensities.matched(pixels, marks)
        return applied(torch.from_numpy(pixels), weights)


def finite(
    pixels: np.ndarray, replace: bool, what: str, lowest: Sequence[float] | None = None
) -> np.ndarray:
    """The pixels (c, k, j, i) without NaN and infinite ones.

    Args:
        pixels: Of any real type.
        replace: Give these the lowest value; False refuses them.
        what: Names where they are, for the message.
        lowest: Per channel that value; None for the lowest finite one of the pixels.

    Raises:
        InputError: There are such pixels, and they are not to be replaced, or there are no others.
    """
    if pixels.dtype.kind != "f" or (good := np.isfinite(pixels)).all():
        return pixels
    if not replace:
        raise InputError(
            f"{what} has {good.size - int(np.count_nonzero(good))} voxels that are not finite (NaN "
            "or infinite): repair them, or give --replace-nonfinite to set them to the lowest "
            "value."
        )
    found = pixels.copy()
    for n, (channel, known) in enumerate(zip(found, good, strict=True)):
        if lowest is None and not known.any():
            raise InputError(f"{what} has no finite voxel at all.")
        channel[~known] = channel[known].min() if lowest is None else lowest[n]
    return found
