"""Drawn voxels of a large region, sparse and on disk: memory does not grow with the region.

starts.npy   int64 (blocks + 1,): where the voxels of each block begin in the other two
places.u4    uint32, little-endian: places of the drawn voxels in their block, in rising order
values.u1    uint8: their labels
about.json   shape, block and offset; written last
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Triple, triple
from ..engine.data.preprocessing import coarse_index
from ..errors import InputError
from ..runfolder.arrays import read_array
from ..runfolder.atomic import write_array, write_json
from ..runfolder.forms import read_json, record, rows, whole

FORM = record(
    {
        "shape": rows(whole(1), 3, 3),
        "block": rows(whole(1), 3, 3),
        "offset": rows(whole(0), 3, 3),
    }
)
AGAIN = "Delete the run folder and begin again."
PLACE = np.dtype("<u4")


@dataclass(frozen=True)
class Blocks:
    """The division of a region of a grid into the blocks of that grid.

    Attributes:
        shape: Voxels of the region, (k, j, i).
        block: Voxels of a block.
        offset: Voxels of the first block that lie before the region.
    """

    shape: Triple
    block: Triple
    offset: Triple = (0, 0, 0)

    @classmethod
    def of(cls, low: Triple, high: Triple, block: Triple) -> Blocks:
        """The division of the box [low, high) of a grid that has blocks of that size."""
        shape = triple(b - a for a, b in zip(low, high, strict=True))
        return cls(shape, block, triple(a % b for a, b in zip(low, block, strict=True)))

    @property
    def counts(self) -> Triple:
        """Blocks along k, j and i."""
        return triple(
            -(-(n + o) // b) for n, o, b in zip(self.shape, self.offset, self.block, strict=True)
        )

    def box(self, number: int) -> tuple[Triple, Triple]:
        """First voxel of a block in the region, and the one after the last."""
        place = np.unravel_index(number, self.counts)
        ends = [
            (max(0, int(p) * b - o), min(n, (int(p) + 1) * b - o))
            for p, b, o, n in zip(place, self.block, self.offset, self.shape, strict=True)
        ]
        return triple(a for a, _ in ends), triple(b for _, b in ends)

    def within(self, low: Sequence[int], high: Sequence[int]) -> Iterator[int]:
        """Numbers of the blocks that a box of the region touches, in rising order."""
        ranges = [
            range((a + o) // b, (z + o - 1) // b + 1)
            for a, z, o, b in zip(low, high, self.offset, self.block, strict=True)
        ]
        for place in product(*ranges):
            k, j, i = place
            yield (k * self.counts[1] + j) * self.counts[2] + i


class DrawnVoxels:
    """The labels of a region, of which boxes are read.

    Args:
        folder: That `write` has written.

    Attributes:
        blocks: How the region is divided.

    Raises:
        InputError: It is damaged.
    """

    def __init__(self, folder: Path):
        about = read_json(folder / "about.json", FORM, AGAIN)
        self.blocks = Blocks(*(triple(about[name]) for name in ("shape", "block", "offset")))
        count = math.prod(self.blocks.counts)
        self._starts = read_array(folder / "starts.npy", (count + 1,), AGAIN, "i")
        if self._starts[0] != 0 or (np.diff(self._starts) < 0).any():
            raise InputError(f"{folder / 'starts.npy'} is damaged. {AGAIN}")
        total = int(self._starts[-1])
        self._places = _mapped(folder / "places.u4", PLACE, total)
        self._values = _mapped(folder / "values.u1", np.dtype(np.uint8), total)

    @classmethod
    def write(
        cls, folder: Path, blocks: Blocks, read: Callable[[Triple, Triple], np.ndarray | None]
    ) -> DrawnVoxels:
        """Writes the labels of a region, block by block.

        Args:
            folder: A folder that does not exist, or is the rest of one that was not finished.
            blocks: How the region is divided.
            read: Gives the labels uint8 (k, j, i) of a box [low, high) of the region, 255 where
                nothing is drawn; None where nothing is in all of it.

        Raises:
            OSError: It cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        starts = [0]
        with (folder / "places.u4").open("wb") as places, (folder / "values.u1").open("wb") as file:
            for number in range(math.prod(blocks.counts)):
                labels = read(*blocks.box(number))
                at = np.zeros(0, np.int64)
                if labels is not None:
                    at = np.flatnonzero(labels != UNLABELLED)
                    places.write(at.astype(PLACE).data)
                    file.write(labels.reshape(-1)[at].data)
                starts.append(starts[-1] + len(at))
        write_array(folder / "starts.npy", np.array(starts, np.int64))
        about = {"shape": blocks.shape, "block": blocks.block, "offset": blocks.offset}
        write_json(folder / "about.json", {name: list(value) for name, value in about.items()})
        return cls(folder)

    @staticmethod
    def written(folder: Path) -> bool:
        """True if `write` has finished."""
        return (folder / "about.json").is_file()

    def check(self, shape: Triple, segments: int) -> None:
        """Raises InputError unless it is of a region of that shape with so many segments."""
        if self.blocks.shape != shape or int(self._values.max()) > segments:
            raise InputError(
                f"the drawn voxels in {self._values.filename} are not those of this run. {AGAIN}"
            )

    @property
    def count(self) -> int:
        """Number of drawn voxels."""
        return int(self._starts[-1])

    def drawn_blocks(self) -> list[int]:
        """Numbers of the blocks in which something is drawn."""
        return np.flatnonzero(np.diff(self._starts)).tolist()

    def within(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of a block's drawn voxels in the region (3, n), in rising order, and labels."""
        low, _ = self.blocks.box(number)
        places, values, size = self._of(number)
        return np.stack(np.unravel_index(places, size)) + np.array(low)[:, None], values

    def _of(self, number: int) -> tuple[np.ndarray, np.ndarray, Triple]:
        """Places in a block, flat, the labels there, and the shape of the block."""
        part = slice(int(self._starts[number]), int(self._starts[number + 1]))
        low, high = self.blocks.box(number)
        size = triple(b - a for a, b in zip(low, high, strict=True))
        places = np.array(self._places[part], np.int64)
        if len(places) and places.max() >= math.prod(size):
            raise InputError(f"the drawn voxels of {self._places.filename} are damaged. {AGAIN}")
        return places, np.array(self._values[part]), size

    def box(self, low: Triple, high: Triple) -> np.ndarray:
        """Labels uint8 (k, j, i) of the box [low, high), 255 where nothing is drawn."""
        found = np.full([b - a for a, b in zip(low, high, strict=True)], UNLABELLED, np.uint8)
        for number in self.blocks.within(low, high):
            if self._starts[number] == self._starts[number + 1]:
                continue
            begin, end = self.blocks.box(number)
            places, values, size = self._of(number)
            block = np.full(size, UNLABELLED, np.uint8)
            block.reshape(-1)[places] = values
            first, last = list(map(max, low, begin)), list(map(min, high, end))
            inside = (slice(a - o, b - o) for a, b, o in zip(first, last, begin, strict=True))
            there = (slice(a - o, b - o) for a, b, o in zip(first, last, low, strict=True))
            found[tuple(there)] = block[tuple(inside)]
        return found


def reduced(drawn: DrawnVoxels, shape: Triple, low: Triple, high: Triple) -> np.ndarray:
    """Drawn voxels on a coarser grid, as `reduce_labels` makes them of a whole array.

    Args:
        drawn: Of the region.
        shape: Of the coarser grid over all of the region, (k, j, i).
        low: First voxel on the coarser grid that is wanted.
        high: Voxel after the last.

    Returns:
        uint8 (k, j, i) of the box [low, high), 255 where nothing is drawn.
    """
    fine = drawn.blocks.shape
    first = triple(max(0, a * n // m - 1) for a, n, m in zip(low, fine, shape, strict=True))
    last = triple(min(n, -(-b * n // m) + 1) for b, n, m in zip(high, fine, shape, strict=True))
    size = [b - a for a, b in zip(low, high, strict=True)]
    votes: dict[int, np.ndarray] = {}
    for number in drawn.blocks.within(first, last):
        places, values = drawn.within(number)
        at = [
            coarse_index(p, n, m) - a for p, n, m, a in zip(places, fine, shape, low, strict=True)
        ]
        inside = np.all([(p >= 0) & (p < n) for p, n in zip(at, size, strict=True)], axis=0)
        if not inside.any():
            continue
        flat, values = np.ravel_multi_index([p[inside] for p in at], size), values[inside]
        for value in np.unique(values).tolist():
            count = votes.setdefault(value, np.zeros(math.prod(size), np.int32))
            np.add.at(count, flat[values == value], 1)
    found, best = (
        np.full(math.prod(size), UNLABELLED, np.uint8),
        np.zeros(math.prod(size), np.int32),
    )
    for value, count in sorted(votes.items()):
        wins = (count >= best) & (count > 0)
        found[wins], best[wins] = value, count[wins]
    return found.reshape(size)


def _mapped(path: Path, dtype: np.dtype, count: int) -> np.memmap:
    try:
        if count and path.stat().st_size == count * dtype.itemsize:
            return np.memmap(path, dtype, "r", shape=(count,))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}). {AGAIN}") from error
    raise InputError(f"{path} is damaged: {count} drawn voxels are expected. {AGAIN}")
