"""Volumes in OME-Zarr stores on a local disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..annotation.geometry import Geometry, Triple, triple
from ..errors import InputError
from .images import MOST_CHANNELS
from .ngff import SPACE, Fault, Multiscale, read_multiscale
from .stored_volume import Level, StoredVolume, check_type
from .zarr_library import zarr_library

REMEDY = "Write it again with the program that made it, or give another."
DIRECTIONS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass
class NgffVolume(StoredVolume):
    """An image, or a label image, of an OME-Zarr store.

    Attributes:
        version: Of NGFF.
        axes: The name of each axis of the arrays.
        arrays: The path of each level's array in the store.
        attributes: Of the group.
    """

    version: str = ""
    axes: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._open: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    @classmethod
    def open(cls, path: Path | str, what: str = "the image") -> NgffVolume:
        """Opens a store, or a group in it; no voxel is read.

        Args:
            path: The folder.
            what: Its role, for messages.

        Raises:
            InputError: It is no OME-Zarr, of another version, or of a form that cannot be used.
        """
        path = Path(path)
        attributes = _group_attributes(path, what)
        try:
            scales = read_multiscale(attributes)
            arrays = [_array(path, dataset.path, scales) for dataset in scales.datasets]
            levels = [_level(array, scales, n) for n, array in enumerate(arrays)]
        except Fault as error:
            raise InputError(f"{what} {path} cannot be used: {error}. {REMEDY}") from error
        first = arrays[0]
        check_type(first.dtype, path)
        count = first.shape[scales.axes.index("c")] if "c" in scales.axes else 1
        names = [*scales.channels[:count], *[""] * max(0, count - len(scales.channels))]
        channels = (
            [name or f"{path.name}[{n}]" for n, name in enumerate(names)]
            if count > 1
            else [path.name]
        )
        return cls(
            path,
            first.dtype,
            levels,
            channels,
            [f"{path.name}: {note}" for note in scales.notes],
            scales.version,
            scales.axes,
            tuple(dataset.path for dataset in scales.datasets),
            dict(attributes),
        )

    def missing_note(self) -> str | None:
        """See StoredVolume. All files of the level are listed, which takes seconds for many."""
        counts = [-(-n // c) for n, c in zip(self._array(0).shape, self._pieces(0), strict=True)]
        whole, there = int(np.prod(counts)), len(self._stored(0))
        if there >= whole:
            return None
        return (
            f"{self.path.name}: {whole - there} of {whole} chunks are not stored; their voxels "
            f"have the fill value, {self.fill}."
        )

    @property
    def fill(self) -> int | float:
        """The value of voxels in chunks that are not stored."""
        value = self._array(0).fill_value
        return 0 if value is None else value.item()

    def present(self, level: int = 0) -> list[Triple]:
        """See StoredVolume."""
        at = [self.axes.index(name) for name in SPACE]
        piece = self._pieces(level)
        found = {triple(place[a] * piece[a] for a in at) for place in self._stored(level)}
        return sorted(found)

    def _array(self, level: int) -> Any:
        if level not in self._open:
            zarr = zarr_library()
            group = zarr.open_group(str(self.path), mode="r")
            self._open[level] = group[self.arrays[level]]
        return self._open[level]

    def _pieces(self, level: int) -> tuple[int, ...]:
        """Shape of what is one file: a chunk, or a shard of several."""
        array = self._array(level)
        return tuple(array.shards or array.chunks)

    def _stored(self, level: int) -> set[tuple[int, ...]]:
        """Places in the grid of chunks (or shards) of those that are there as a file."""
        return stored_chunks(self.path / self.arrays[level], len(self.axes))

    def _read(self, low: Triple, high: Triple, level: int) -> np.ndarray:
        box: list[slice | int] = [slice(None)] * len(self.axes)
        for name, a, b in zip(SPACE, low, high, strict=True):
            box[self.axes.index(name)] = slice(a, b)
        kept = [name for name in self.axes if name != "t"]
        if "t" in self.axes:
            box[self.axes.index("t")] = 0
        order = [kept.index(name) for name in ("c", *SPACE) if name in kept]
        array = self._array(level)
        try:
            found = np.asarray(array[tuple(box)])
        except MemoryError:
            raise
        except Exception as error:  # each codec has errors of its own
            raise self._damaged(array, box, level, error) from error
        found = found.transpose(order)
        native = found.dtype.newbyteorder("=")
        return np.ascontiguousarray(found if "c" in kept else found[None], dtype=native)

    def _damaged(
        self, array: Any, box: Sequence[slice | int], level: int, error: Exception
    ) -> InputError:
        """The error that names the first chunk in a box that cannot be read."""
        ranges = []
        for part, n, size in zip(box, array.shape, self._pieces(level), strict=True):
            first, last, _ = part.indices(n) if isinstance(part, slice) else (part, part + 1, 1)
            ranges.append(range(first // size, (last - 1) // size + 1))
        for place in product(*ranges):
            corner = tuple(
                slice(p * size, min(p * size + size, n))
                for p, size, n in zip(place, self._pieces(level), array.shape, strict=True)
            )
            try:
                array[corner]
            except Exception as cause:
                key = array.metadata.encode_chunk_key(place)
                file = self.path / self.arrays[level] / key
                says = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
                return InputError(
                    f"the chunk {file} of {self.path} cannot be read ({says}): copy it again from "
                    "where the store came from, or delete it, so that its voxels count as not "
                    "stored."
                )
        return InputError(f"{self.path} cannot be read ({error}). {REMEDY}")


def stored_chunks(folder: Path, axes: int) -> set[tuple[int, ...]]:
    """Places in the grid of chunks of those that an array's folder holds, of either format.

    Args:
        folder: The folder of the array.
        axes: Number of its axes.
    """
    found = set()
    for root, _, files in os.walk(folder):
        above = Path(root).relative_to(folder).parts
        for name in files:
            words = [w for part in (*above, name) for w in part.split(".") if w != "c"]
            if len(words) == axes and all(word.isdecimal() for word in words):
                found.add(tuple(map(int, words)))
    return found


def _group_attributes(path: Path, what: str) -> dict[str, Any]:
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{what} {path} {state}: an OME-Zarr store, a folder, is expected.")
    zarr = zarr_library()
    try:
        group = zarr.open(str(path), mode="r")
        attributes = dict(group.attrs)
    except PermissionError as error:
        raise InputError(
            f"{what} {path} cannot be read ({error.strerror}): ask for the right to read it."
        ) from error
    except Exception as error:  # whatever its metadata hold
        says = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{what} {path} is no zarr store that can be read ({says}): a folder with zarr.json "
            "or .zgroup and .zattrs is expected."
        ) from error
    if not hasattr(group, "members"):
        raise InputError(
            f"{what} {path} is a single zarr array, which does not say how large its voxels are: "
            "give the OME-Zarr group that it lies in."
        )
    return attributes


def _array(path: Path, name: str, scales: Multiscale) -> Any:
    zarr = zarr_library()
    try:
        array = zarr.open_group(str(path), mode="r")[name]
    except KeyError as error:
        raise Fault(f"its metadata name the array '{name}', which is not there") from error
    except Exception as error:
        says = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Fault(f"its array '{name}' cannot be opened ({says})") from error
    if not hasattr(array, "chunks"):
        raise Fault(f"its metadata name '{name}' as an array, and it is a group")
    if array.ndim != len(scales.axes):
        raise Fault(
            f"its array '{name}' has {array.ndim} dimensions, and its metadata name "
            f"{len(scales.axes)} axes"
        )
    if "t" in scales.axes and (times := array.shape[scales.axes.index("t")]) != 1:
        raise Fault(
            f"it has {times} points in time: write the one that is to be segmented as a store of "
            "its own"
        )
    if "c" in scales.axes and (count := array.shape[scales.axes.index("c")]) > MOST_CHANNELS:
        raise Fault(f"it has {count} channels: up to {MOST_CHANNELS} can be used")
    return array


def _level(array: Any, scales: Multiscale, number: int) -> Level:
    at = [scales.axes.index(name) for name in SPACE]
    dataset = scales.datasets[number]
    k, j, i = dataset.spacing
    z, y, x = dataset.origin
    size = cast(Triple, tuple(int(array.shape[a]) for a in reversed(at)))
    geometry = Geometry(size, (i, j, k), (x, y, z), DIRECTIONS)
    if (fault := geometry.fault()) is not None:
        raise Fault(f"of its array '{dataset.path}': {fault}")
    pieces = array.shards or array.chunks
    return Level(geometry, triple(int(min(pieces[a], array.shape[a])) for a in at))
