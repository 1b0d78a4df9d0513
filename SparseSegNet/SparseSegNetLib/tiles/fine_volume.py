"""A region of a store as a network sees it at a finer resolution than its priors were made at.

The image is read through a bounded cache, drawn labels from their sparse form, and the class
probabilities of priors and shallow model are interpolated linearly from the coarser grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Triple, triple
from ..engine.data.lazy_volume import LazyVolume
from ..engine.data.preprocessing import Normalisation, coarse_index
from ..engine.data.windows import applied, boxed, interpolation
from ..files.chunk_cache import ChunkCache
from ..runfolder.prior_outputs import FoldPriors
from .drawn_voxels import DrawnVoxels
from .model_view import finite


@dataclass
class FineImage:
    """The image of a region on a level of its store.

    Attributes:
        cache: Reads the level.
        first: First voxel of the region on the level, (k, j, i).
        shape: Voxels of the region on the level.
        spacing: mm along k, j, i.
        normalisation: Of the intensities.
        replace_nonfinite: NaN and infinite voxels count as the lowest value.
    """

    cache: ChunkCache
    first: Triple
    shape: Triple
    spacing: tuple[float, float, float]
    normalisation: Normalisation
    replace_nonfinite: bool = False

    def read(self, low: Triple, high: Triple) -> np.ndarray:
        """The box [low, high) of the region, normalised, float32 (c, k, j, i).

        Raises:
            InputError: A chunk cannot be read, or has voxels that are not finite.
        """
        begin, end = (
            triple(a + b for a, b in zip(ends, self.first, strict=True)) for ends in (low, high)
        )
        pixels = self.cache.read(begin, end)
        place = ",".join(f"{a}:{b}" for a, b in zip(begin, end, strict=True))
        where = f"the box {place} of level {self.cache.level} of {self.cache.image.path}"
        pixels = finite(pixels, self.replace_nonfinite, where, self.normalisation.low)
        return self.normalisation.apply(pixels)


class FoldTable:
    """Numbers of drawn voxels per fold, class and block, counted once.

    Args:
        drawn: Of the region, on the fine grid.
        folds: Of the coarser grid.
        classes: Labels with background.

    Attributes:
        counts: int64 (folds, classes, blocks).
    """

    def __init__(self, drawn: DrawnVoxels, folds: FoldPriors, classes: int):
        self.drawn, self.fold_of, self.classes = drawn, folds.fold_of, classes
        count = int(np.prod(drawn.blocks.counts))
        self.counts = np.zeros((len(folds.priors), classes, count), np.int64)
        for block in drawn.drawn_blocks():
            _, values, fold = self.within(block)
            inside = (fold < len(folds.priors)) & (values < classes)
            np.add.at(self.counts[:, :, block], (fold[inside], values[inside]), 1)

    def within(self, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places (3, n) of a block's drawn voxels, labels (n,), and the folds (n,) or 255."""
        places, values = self.drawn.within(block)
        at = tuple(
            coarse_index(p, n, m)
            for p, n, m in zip(places, self.drawn.blocks.shape, self.fold_of.shape, strict=True)
        )
        return places, values, self.fold_of[at]


class FineVolume(LazyVolume):
    """A region with a prior, and the labels of one fold.

    Args:
        image: Of the region.
        prior: Probabilities (classes - 1, k, j, i) on the coarser grid, which may be mapped.
        table: The drawn voxels; None for a volume that is only predicted.
        fold: Whose labels it has; None for none.
        device: Of the boxes.
    """

    def __init__(
        self,
        image: FineImage,
        prior: np.ndarray,
        table: FoldTable | None = None,
        fold: int | None = None,
        device: torch.device | None = None,
    ):
        super().__init__(
            image.shape,
            torch.tensor(image.spacing, dtype=torch.float32),
            len(image.cache.image.channels) + len(prior),
            device or torch.device("cpu"),
        )
        self.image, self.prior, self.table, self.fold = image, prior, table, fold

    def image_in(self, low: Triple, high: Triple) -> torch.Tensor:
        """See LazyVolume."""
        pixels = torch.from_numpy(self.image.read(low, high))
        return torch.cat((pixels, enlarged(self.prior, self.shape, low, high))).to(self.device)

    def labels_in(self, low: Triple, high: Triple) -> torch.Tensor:
        """See LazyVolume."""
        assert self.table is not None
        labels = self.table.drawn.box(low, high)
        if (labels != UNLABELLED).any():
            fold_of = self.table.fold_of
            places = [
                coarse_index(np.arange(a, b), n, m)
                for a, b, n, m in zip(low, high, self.shape, fold_of.shape, strict=True)
            ]
            labels[fold_of[np.ix_(*places)] != self.fold] = UNLABELLED
        return torch.from_numpy(labels).to(self.device)

    @property
    def blocks(self) -> Sequence[Sequence[int]]:
        """See LazyVolume."""
        assert self.table is not None
        return [np.flatnonzero(row).tolist() for row in self.table.counts[self.fold]]

    def labelled(self, block: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See LazyVolume."""
        assert self.table is not None
        places, values, fold = self.table.within(block)
        inside = fold == self.fold
        flat = np.ravel_multi_index(tuple(places[:, inside]), self.shape)
        return torch.from_numpy(flat), torch.from_numpy(values[inside])


def enlarged(values: np.ndarray, shape: Triple, low: Triple, high: Triple) -> torch.Tensor:
    """Values of a coarser grid, interpolated linearly in a box of a finer one.

    Args:
        values: (n, k, j, i) on the coarser grid; what is not needed is not read.
        shape: Of the finer grid over the same extent, (k, j, i).
        low: First voxel on the finer grid.
        high: Voxel after the last.

    Returns:
        float32 (n, k, j, i) of the box.
    """
    first, last, weights = boxed(low, high, triple(values.shape[1:]), shape, interpolation)
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    return applied(torch.from_numpy(np.array(values[(slice(None), *box)], np.float32)), weights)
