"""The region of a large volume in which the engine learns from annotation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Geometry, Triple, triple
from ..engine.compute.allocation import free_memory
from ..engine.stacking.stacker import Stacker
from ..errors import InputError
from ..files.stored_volume import StoredVolume
from ..runfolder.presets import times
from ..runfolder.run_input import RunInput
from .model_view import finite
from .tile_list import Region

SHARE = 0.5  # of the free memory, for learning
MARGIN, LEAST = 0.25, 32  # of the annotation's extent, and voxels, around it


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

    def input(self, image: StoredVolume, replace_nonfinite: bool = False) -> RunInput:
        """The input of a run: the region's image on the level, without labels so far.

        Args:
            image: The volume.
            replace_nonfinite: Set NaN and infinite voxels to the lowest finite value.

        Raises:
            InputError: There are such voxels, and they are not to be replaced.
        """
        pixels = image.read(self.first, self.last, self.level)
        return RunInput(
            finite(pixels, replace_nonfinite, f"the region of {image.path}"),
            np.full(self.shape, UNLABELLED, np.uint8),
            self.geometry(image),
            channels=image.channels,
            name=image.path.name,
        )


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


@dataclass(frozen=True)
class Choice:
    """The region to learn in.

    Attributes:
        region: On the level on which priors and shallow model are made, in memory.
        fine: A finer level on which the network is trained on patches; None for no other.
        note: The choice and its reason.
    """

    region: DenseRegion
    fine: int | None
    note: str


def choose_region(
    image: StoredVolume,
    box: Region,
    classes: int,
    level: int | None = None,
    room: float = 0.0,
    patches: bool = True,
) -> Choice:
    """Chooses the levels of a run of the engine on a box.

    Args:
        image: The volume.
        box: The box on the finest grid.
        classes: Labels with background, at least about.
        level: The level that is wanted; None for the finest.
        room: Bytes that the run may take.
        patches: Whether a network can be trained on patches on a level that does not fit memory.

    Raises:
        InputError: There is no such level, or even the coarsest does not fit.
    """
    channels = len(image.channels)
    each = Stacker.bytes_per_voxel(channels, classes) + 12 * channels + 4 * classes + 8
    count = len(image.levels)
    if level is not None and not 0 <= level < count:
        raise InputError(f"--level {level}: {image.path} has the levels 0 to {count - 1}.")
    wanted = level or 0
    needed = 0.0
    for number in range(wanted, count):
        region = region_of(image, box, number)
        needed = float(np.prod(region.shape, dtype=np.float64)) * each
        if needed > room:
            continue
        size = f"level {number}, {times(region.shape)} voxels"
        fits = (
            f"its estimated memory, {needed / 1e9:.1f} GB, is within the {room / 1e9:.1f} GB that "
            "may be taken"
        )
        if number == wanted:
            how = " as given" if level is not None else ": the finest"
            return Choice(region, None, f"{size}{how}; {fits}.")
        if patches:
            note = (
                f"priors and shallow model on {size}: the finest of which {fits}; the network "
                f"learns on level {wanted}, from chunks as they are needed."
            )
            return Choice(region, wanted, note)
        if level is None:
            return Choice(region, None, f"{size}: the finest of which {fits}.")
        break
    region = region_of(image, box, wanted)
    if level is not None:
        return Choice(region, None, f"level {level} as given: {times(region.shape)} voxels.")
    coarsest = region_of(image, box, count - 1).shape
    raise InputError(
        f"the region of {times(coarsest)} voxels on the coarsest level of {image.path} would take "
        f"{needed / 1e9:.1f} GB, and {room / 1e9:.1f} GB may be taken: give a smaller --region, "
        "more --memory, or a store with coarser levels; --level N tries all the same."
    )


def room_for(memory: float | None) -> float:
    """Bytes that learning may take.

    Args:
        memory: As it was given; None for half of what is free.
    """
    return SHARE * free_memory(torch.device("cpu")) if memory is None else memory
