"""The region of a large volume in which the engine learns from annotation, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..annotation.composition import keep_drawn
from ..annotation.geometry import Geometry, Triple, triple
from ..engine.compute.allocation import free_memory
from ..engine.data.preprocessing import labels_on, slices_on
from ..engine.stacking.stacker import Stacker
from ..errors import InputError
from ..files.labels import Annotation
from ..files.ngff_labels import LabelStore
from ..files.stored_volume import StoredVolume
from ..runfolder.presets import times
from ..runfolder.run_input import RunInput
from .model_view import finite
from .segment_tile import unwritten, write_tile
from .tile_list import Region, Tile

SHARE = 0.5  # of the free memory, for the engine
MARGIN, LEAST = 0.25, 32  # of the annotation's extent, and voxels, around it
Step = Callable[[float], None]


@dataclass(frozen=True)
class DenseRegion:
    """A box of a volume, and the level at which it is worked on.

    Attributes:
        low: First voxel on the finest grid, (k, j, i).
        high: Voxel after the last.
        level: Number of the level.
        first: First voxel on that level.
        last: Voxel after the last.
    """

    low: Triple
    high: Triple
    level: int
    first: Triple
    last: Triple

    @property
    def shape(self) -> Triple:
        """Shape on the level, (k, j, i)."""
        return triple(b - a for a, b in zip(self.first, self.last, strict=True))

    def geometry(self, image: StoredVolume) -> Geometry:
        """Its grid on the level."""
        return image.levels[self.level].geometry.cropped(self.first, self.last)

    def input(
        self, image: StoredVolume, annotation: Annotation, replace_nonfinite: bool = False
    ) -> RunInput:
        """The input of a run: the region's image and annotation on the level.

        Args:
            image: The volume.
            annotation: Of the region, on the finest grid.
            replace_nonfinite: Set NaN and infinite voxels to the lowest finite value.

        Raises:
            InputError: There are such voxels, and they are not to be replaced.
        """
        pixels = image.read(self.first, self.last, self.level)
        return RunInput(
            finite(pixels, replace_nonfinite, f"the region of {image.path}"),
            labels_on(annotation.labels, self.shape),
            self.geometry(image),
            slices_on(annotation.slices, annotation.labels.shape, self.shape),
            image.channels,
            name=image.path.name,
        )

    def part(self, tile: Tile, result: np.ndarray) -> np.ndarray:
        """The result (k, j, i, on the level) in a tile within the region, on the finest grid.

        Each voxel gets the label of the coarser one that it lies in.
        """
        places = [
            (np.arange(a, b) - low) * m // (high - low)
            for a, b, low, high, m in zip(
                tile.low, tile.high, self.low, self.high, self.shape, strict=True
            )
        ]
        return result[np.ix_(*places)]


def around(box: Region, shape: Triple) -> Region:
    """A box with a margin, within a volume of that shape (k, j, i)."""
    margins = [max(LEAST, round(MARGIN * (b - a))) for a, b in zip(*box, strict=True)]
    return (
        triple(max(0, a - m) for a, m in zip(box[0], margins, strict=True)),
        triple(min(n, b + m) for b, m, n in zip(box[1], margins, shape, strict=True)),
    )


def region_of(image: StoredVolume, box: Region, level: int) -> DenseRegion:
    """A box of the finest grid, enlarged to whole voxels of a level."""
    fine, coarse = image.shape, image.levels[level].shape
    first = triple(a * m // n for a, n, m in zip(box[0], fine, coarse, strict=True))
    last = triple(
        min(m, max(a + 1, -(-b * m // n)))
        for b, n, m, a in zip(box[1], fine, coarse, first, strict=True)
    )
    low = triple(a * n // m for a, n, m in zip(first, fine, coarse, strict=True))
    high = triple(b * n // m for b, n, m in zip(last, fine, coarse, strict=True))
    return DenseRegion(low, high, level, first, last)


def choose_region(
    image: StoredVolume, box: Region, classes: int, level: int | None = None
) -> tuple[DenseRegion, str]:
    """Chooses the finest level on which a run of the engine on a box fits memory.

    Args:
        image: The volume.
        box: The box on the finest grid.
        classes: Labels with background, at least about.
        level: The level, if it is given.

    Returns:
        The region, and a message with the choice and its reason.

    Raises:
        InputError: There is no such level, or even the coarsest does not fit.
    """
    channels = len(image.channels)
    each = Stacker.bytes_per_voxel(channels, classes) + 12 * channels + 4 * classes + 8
    free = free_memory(torch.device("cpu"))
    if level is not None:
        if not 0 <= level < len(image.levels):
            raise InputError(
                f"--level {level}: {image.path} has the levels 0 to {len(image.levels) - 1}."
            )
        region = region_of(image, box, level)
        return region, f"level {level} as given: {times(region.shape)} voxels."
    for number in range(len(image.levels)):
        region = region_of(image, box, number)
        voxels = float(np.prod(region.shape, dtype=np.float64))
        if voxels * each <= SHARE * free:
            return region, (
                f"level {number}, {times(region.shape)} voxels: the finest whose estimated memory, "
                f"{voxels * each / 1e9:.1f} GB, is within half of what is free ({free / 1e9:.1f} "
                "GB)."
            )
    raise InputError(
        f"the region of {times(region.shape)} voxels on the coarsest level of {image.path} would "
        f"take {voxels * each / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free: give a smaller "
        "--region, or a store with coarser levels; --level N tries all the same."
    )


def write_dense(
    store: LabelStore,
    tiles: list[Tile],
    region: DenseRegion,
    result: np.ndarray,
    drawn: np.ndarray,
    outside: Callable[[Tile], np.ndarray] | None,
    step: Step,
) -> None:
    """Writes the result of a region tile by tile, and the coarser levels.

    Args:
        store: The output.
        tiles: All tiles, of the region or of the whole volume.
        region: The region.
        result: uint8 (k, j, i), on the region's level.
        drawn: uint8 (k, j, i), on the region's finest grid, 255 where nothing is drawn; what is
            drawn wins, voxel by voxel.
        outside: Gives the labels of tiles that reach beyond the region; None where there are none.
        step: Called with the share done; it may raise to stop.

    Raises:
        EngineError: 'disk-full' or 'files'.
    """
    for number, tile in enumerate(tiles):
        step(0.9 * number / len(tiles))
        write_tile(store, tile, _labels(tile, region, result, drawn, outside))
    low = triple(min(tile.low[axis] for tile in tiles) for axis in range(3))
    high = triple(max(tile.high[axis] for tile in tiles) for axis in range(3))
    try:
        for share in store.pyramid(low, high):
            step(0.9 + 0.1 * share)
    except OSError as error:
        raise unwritten(error, store.path) from error


def _labels(
    tile: Tile,
    region: DenseRegion,
    result: np.ndarray,
    drawn: np.ndarray,
    outside: Callable[[Tile], np.ndarray] | None,
) -> np.ndarray:
    """The labels of a tile."""
    low = triple(map(max, tile.low, region.low))
    high = triple(map(min, tile.high, region.high))
    inside = Tile(tile.number, low, high)
    within = all(a < b for a, b in zip(low, high, strict=True))
    if (low, high) != (tile.low, tile.high):
        assert outside is not None
        labels = outside(tile)
    else:
        labels = np.empty([b - a for a, b in zip(low, high, strict=True)], np.uint8)
    if within:
        own = region.part(inside, result)
        keep_drawn(own, drawn[_box(inside, region.low)])
        labels[_box(inside, tile.low)] = own
    return labels


def _box(tile: Tile, origin: Triple) -> tuple[slice, ...]:
    return tuple(slice(a - o, b - o) for a, b, o in zip(tile.low, tile.high, origin, strict=True))
