"""Volumes that stay in their files: boxes of them are read as they are needed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..annotation.geometry import Geometry, Triple, triple
from ..errors import InputError


@dataclass(frozen=True)
class Level:
    """One resolution of a volume.

    Attributes:
        geometry: Its voxel grid.
        chunk: Voxels (k, j, i) that are stored as one piece.
    """

    geometry: Geometry
    chunk: Triple

    @property
    def shape(self) -> Triple:
        """Array shape (k, j, i)."""
        return self.geometry.shape

    @property
    def voxels(self) -> int:
        """Number of voxels of one channel."""
        return math.prod(self.shape)


@dataclass
class StoredVolume(ABC):
    """A volume of which boxes can be read. It can be pickled: other processes open it again.

    Attributes:
        path: The file or folder.
        dtype: Of the voxels, a real number type.
        levels: Resolutions, the finest first.
        channels: The name of each channel.
        notes: Messages for the user.
    """

    path: Path
    dtype: np.dtype
    levels: list[Level]
    channels: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def geometry(self) -> Geometry:
        """The voxel grid of the finest level."""
        return self.levels[0].geometry

    @property
    def shape(self) -> Triple:
        """Array shape (k, j, i) of the finest level."""
        return self.levels[0].shape

    def read(self, low: Sequence[int], high: Sequence[int], level: int = 0) -> np.ndarray:
        """Reads the box [low, high).

        Args:
            low: First voxel, (k, j, i).
            high: Voxel after the last, (k, j, i).
            level: Number of the resolution, 0 for the finest.

        Returns:
            (c, k, j, i) in the store's own type, a copy.

        Raises:
            InputError: A chunk is damaged, or cannot be read.
            ValueError: The box does not lie within the volume.
        """
        shape = self.levels[level].shape
        if not all(0 <= a < b <= n for a, b, n in zip(low, high, shape, strict=True)):
            raise ValueError(f"the box {tuple(low)} to {tuple(high)} is not within {shape}")
        return self._read(triple(low), triple(high), level)

    def missing_note(self) -> str | None:
        """A message about chunks of the finest level that are not stored; None if all are."""
        return None

    @abstractmethod
    def _read(self, low: Triple, high: Triple, level: int) -> np.ndarray:
        """`read`, of a box that lies within the volume."""

    def present(self, level: int = 0) -> list[Triple]:
        """First voxels (k, j, i) of the chunks that are stored, in rising order.

        The others hold the fill value. A volume that is one piece is divided as if it were not.
        """
        grid = self.levels[level]
        counts = [-(-n // c) for n, c in zip(grid.shape, grid.chunk, strict=True)]
        return [
            triple(n * c for n, c in zip(place, grid.chunk, strict=True))
            for place in np.ndindex(*counts)
        ]


def check_type(dtype: np.dtype, path: Path) -> None:
    """Raises InputError unless voxels of a type can be used: whole or real numbers."""
    if dtype.kind in "iuf" and dtype.itemsize <= 8:
        return
    kind = {"c": "complex", "b": "boolean", "V": "structured"}.get(dtype.kind, "no")
    raise InputError(
        f"the image {path} has {kind} voxels ({dtype}): whole or real numbers of up to 64 bits are "
        "needed, such as uint16 or float32."
    )
