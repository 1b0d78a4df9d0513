"""Labels of a region's tiles: from class probabilities, made finer, and by a network there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..annotation.geometry import Triple, triple
from ..engine.data.windows import applied, boxed, interpolation
from ..engine.prediction.inference import Predictor
from ..engine.stacking.ensemble import likeliest_class
from ..engine.stacking.prior_inputs import with_background
from .fine_training import FineNetwork
from .fine_volume import FineVolume, enlarged

COPIES = 4  # float32 copies of probabilities that exist at once
SHARE = 0.25  # of what may be taken, for them


@dataclass
class RegionLabels:
    """Sources of a region's labels.

    Attributes:
        shape: Voxels of the region on the finest grid, (k, j, i).
        result: uint8 (k, j, i) on that grid, where the region was worked on at that resolution.
        probabilities: Class probabilities (classes, k, j, i) on a coarser grid; may be mapped.
        volume: The region on the level that the network works on, and the network.
    """

    shape: Triple
    result: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    volume: FineVolume | None = None
    fine: FineNetwork | None = None

    def labels(self, low: Triple, high: Triple) -> np.ndarray:
        """Labels uint8 (k, j, i) of the box [low, high) of the region, on the finest grid.

        Raises:
            InputError: A chunk of the image cannot be read.
        """
        if self.result is not None:
            return self.result[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].copy()
        assert self.probabilities is not None
        if self.fine is None or self.volume is None or self.fine.share == 0:
            found = enlarged(self.probabilities, self.shape, low, high)
        else:
            first, last, weights = boxed(low, high, self.volume.shape, self.shape, interpolation)
            found = applied(self._by_network(first, last), weights)
        return likeliest_class(found).numpy()

    def tile(self, chunk: Triple, room: float) -> Triple:
        """Voxels (k, j, i) of a tile, whole chunks: the larger, the less a network computes twice.

        Args:
            chunk: Of the output.
            room: Bytes that may be taken.
        """
        size = list(chunk)
        if self.probabilities is None:
            return chunk
        most = SHARE * room / (COPIES * 4 * len(self.probabilities))
        while able := [a for a in range(3) if size[a] < self.shape[a]]:
            axis = min(able, key=lambda a: size[a])
            larger = [n + chunk[a] if a == axis else n for a, n in enumerate(size)]
            if math.prod(larger) > most:
                break
            size = larger
        return triple(size)

    def _by_network(self, low: Triple, high: Triple) -> torch.Tensor:
        """Class probabilities float32 (classes, k, j, i) of a box of the network's grid."""
        assert self.volume is not None and self.fine is not None
        assert self.probabilities is not None
        volume, fine = self.volume, self.fine
        predictor = Predictor(fine.network, len(self.probabilities), fine.plan)
        part = volume.box(*predictor.reach(volume.shape, low, high), labels=False)
        found = predictor.within_whole(part, low, high)
        prior = with_background(enlarged(self.probabilities[1:], volume.shape, low, high))
        return torch.lerp(prior, found, fine.share)
