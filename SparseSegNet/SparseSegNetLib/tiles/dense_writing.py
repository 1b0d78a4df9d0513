"""The result of a region written tile by tile; what is interrupted goes on with the tiles left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..annotation.composition import keep_drawn
from ..annotation.geometry import Triple, triple
from ..annotation.segments import Segment
from ..errors import InputError
from ..files.ngff_labels import LabelStore, open_label_store
from ..files.ngff_volume import NgffVolume
from ..files.stored_volume import StoredVolume
from .done_file import DoneFile
from .drawn_voxels import DrawnVoxels
from .region_labels import RegionLabels
from .segment_tile import finish_store, unwritten, write_tile
from .tile_list import Region, Tile, tiles_of

Outside = Callable[[Tile], np.ndarray]
Step = Callable[[float], None]


@dataclass
class DenseWriting:
    """The tiles of a result that is being written.

    Attributes:
        store: The output.
        tiles: All tiles.
        done: Says which are written.
        region: First voxel of the learnt region and the one after the last, on the finest grid.
        inside: Gives the labels in the region.
        drawn: The drawn voxels of the region; they win, voxel by voxel.
        outside: Gives the labels of tiles that reach beyond the region; None where none do.
    """

    store: LabelStore
    tiles: list[Tile]
    done: DoneFile
    region: Region
    inside: RegionLabels
    drawn: DrawnVoxels
    outside: Outside | None = None

    @property
    def waiting(self) -> list[Tile]:
        """The tiles that are not written."""
        return [tile for tile in self.tiles if tile.number not in self.done.done]

    def write(self, tile: Tile) -> None:
        """Writes a tile, and notes it.

        Raises:
            InputError: A chunk of the image cannot be read.
            EngineError: 'disk-full' or 'files'.
        """
        write_tile(self.store, tile, self.labels(tile))
        try:
            self.done.add(tile.number)
        except OSError as error:
            raise unwritten(error, self.store.path) from error

    def labels(self, tile: Tile) -> np.ndarray:
        """The labels of a tile, uint8 (k, j, i)."""
        begin = self.region[0]
        low = triple(map(max, tile.low, begin))
        high = triple(map(min, tile.high, self.region[1]))
        if (low, high) != (tile.low, tile.high):
            assert self.outside is not None
            labels = self.outside(tile)
        else:
            labels = np.empty([b - a for a, b in zip(low, high, strict=True)], np.uint8)
        if all(a < b for a, b in zip(low, high, strict=True)):
            first, last = (
                triple(a - o for a, o in zip(end, begin, strict=True)) for end in (low, high)
            )
            own = keep_drawn(self.inside.labels(first, last), self.drawn.box(first, last))
            inside = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, tile.low, strict=True))
            labels[inside] = own
        return labels

    def complete(self, step: Step = lambda share: None) -> None:
        """Makes the coarser levels of the output.

        Args:
            step: Called with the share done; it may raise to stop.

        Raises:
            EngineError: 'disk-full' or 'files'.
        """
        low = triple(min(tile.low[axis] for tile in self.tiles) for axis in range(3))
        high = triple(max(tile.high[axis] for tile in self.tiles) for axis in range(3))
        finish_store(self.store, self.done, low, high, step)


def begin_writing(
    output: Path,
    image: StoredVolume,
    segments: list[Segment],
    size: Triple,
    region: Region,
    inside: RegionLabels,
    drawn: DrawnVoxels,
    outside: Outside | None,
    run: Path,
) -> DenseWriting:
    """Makes the output, or goes on with one that this run has begun.

    Args:
        output: The store.
        image: The volume.
        segments: The classes 1..K.
        size: Voxels of a tile, (k, j, i); of an output that was begun its own is taken.
        region: See `DenseWriting`.
        inside: See `DenseWriting`.
        drawn: See `DenseWriting`.
        outside: See `DenseWriting`.
        run: The run folder.

    Raises:
        InputError: The output is in the way.
        EngineError: 'disk-full' or 'files'.
    """
    task = {
        "run": str(run.absolute()),
        "image": str(image.path.absolute()),
        "shape": list(image.shape),
        "everywhere": outside is not None,
    }
    done = DoneFile.open(output)
    if done is None and output.exists():
        raise InputError(f"the output {output} exists already: name another, or delete it.")
    try:
        if done is None:
            done = DoneFile.create(output, {**task, "tile": list(size)})
        else:
            done.check(task)
        if output.exists():
            store = open_label_store(output)
        else:
            version = image.version if isinstance(image, NgffVolume) else "0.5"
            store = LabelStore.create(output, image.geometry, segments, version)
            if done.done:  # of a store that is gone
                done = DoneFile.create(output, done.task)
    except OSError as error:
        raise unwritten(error, output) from error
    tiles = tiles_of(image.shape, triple(done.task["tile"]), None if outside else region)
    return DenseWriting(store, tiles, done, region, inside, drawn, outside)


def begun_by(output: Path, run: Path) -> bool:
    """True if an output was begun by this run, or does not exist."""
    done = DoneFile.open(output)
    if done is None:
        return not output.exists()
    return done.task.get("run") == str(run.absolute())
