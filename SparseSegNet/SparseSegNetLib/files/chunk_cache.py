"""A bounded cache of the pieces of a stored volume, for reading many small boxes of it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import product

import numpy as np

from ..annotation.geometry import Triple, triple
from .stored_volume import StoredVolume

FEWEST = 16  # pieces that fit the cache, at least; larger ones are divided
PIECE = 64  # voxels along each side of a piece: smaller chunks are joined, too large ones divided


class ChunkCache:
    """Reads boxes of one level of a volume; the pieces that were used last stay in memory.

    A piece is a chunk of the store, some chunks if they are small, or a part of one if it is too
    large for the cache.

    Args:
        image: The volume.
        level: Number of the resolution.
        most: Bytes that the cache may hold.

    Attributes:
        block: Voxels (k, j, i) of a piece.
        found: Pieces that were in memory when they were needed.
        read_in: Pieces that were read from the store.
        held: Bytes that are held now.
    """

    def __init__(self, image: StoredVolume, level: int, most: float):
        self.image, self.level, self.most = image, level, most
        self.shape = image.levels[level].shape
        self.block = block_of(image, level, most)
        each = len(image.channels) * image.dtype.itemsize
        self.block_bytes = math.prod(self.block) * each
        self._pieces: OrderedDict[Triple, np.ndarray] = OrderedDict()
        self.found = self.read_in = self.held = 0

    @property
    def hit_rate(self) -> float:
        """Share of the pieces that were in memory when they were needed."""
        return self.found / max(1, self.found + self.read_in)

    def read(self, low: Sequence[int], high: Sequence[int]) -> np.ndarray:
        """Reads the box [low, high), as `StoredVolume.read`: (c, k, j, i), a copy.

        Raises:
            InputError: A chunk is damaged, or cannot be read.
        """
        size = [b - a for a, b in zip(low, high, strict=True)]
        out = np.empty((len(self.image.channels), *size), self.image.dtype)
        ranges = [
            range(a // n, (b - 1) // n + 1) for a, b, n in zip(low, high, self.block, strict=True)
        ]
        for place in product(*ranges):
            piece = self._piece(triple(place))
            inside, there = [], []
            for p, n, a, b in zip(place, self.block, low, high, strict=True):
                first, last = max(p * n, a), min(p * n + n, b)
                inside.append(slice(first - p * n, last - p * n))
                there.append(slice(first - a, last - a))
            out[(slice(None), *there)] = piece[(slice(None), *inside)]
        return out

    def _piece(self, place: Triple) -> np.ndarray:
        if place in self._pieces:
            self.found += 1
            self._pieces.move_to_end(place)
            return self._pieces[place]
        low = triple(p * n for p, n in zip(place, self.block, strict=True))
        high = triple(
            min(a + n, size) for a, n, size in zip(low, self.block, self.shape, strict=True)
        )
        # Before the new one is read, so that no more than `most` is ever held.
        while self._pieces and self.held + self.block_bytes > self.most:
            _, old = self._pieces.popitem(last=False)
            self.held -= old.nbytes
        piece = self.image.read(low, high, self.level)
        self.read_in += 1
        self._pieces[place] = piece
        self.held += piece.nbytes
        return piece


def block_of(image: StoredVolume, level: int, most: float) -> Triple:
    """Voxels (k, j, i) of what is read at once for a cache of that size.

    Args:
        image: The volume.
        level: Number of the resolution.
        most: Bytes that the cache may hold.
    """
    chunk, shape = image.levels[level].chunk, image.levels[level].shape
    each = len(image.channels) * image.dtype.itemsize
    if math.prod(chunk) * each * FEWEST > most:
        return triple(min(n, PIECE) for n in chunk)
    return triple(min(n, c * max(1, PIECE // c)) for n, c in zip(shape, chunk, strict=True))
