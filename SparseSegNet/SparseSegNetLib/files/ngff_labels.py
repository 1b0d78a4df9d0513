"""Label images written as OME-Zarr, box by box, with a pyramid of coarser levels."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..annotation.geometry import Geometry, Triple, triple
from ..annotation.segments import Segment
from ..errors import InputError
from ..runfolder.atomic import PREFIX
from ..runfolder.file_retries import remove_tree, rename
from .ngff import SPACE
from .writing import output_values
from .zarr_library import zarr_library

NAME = "segmentation"
FOLDER = f"labels/{NAME}"
CHUNK = 128  # voxels along each axis
SMALLEST = 256  # voxels along the longest axis at which no coarser level is made
KEY = "sparsesegnet"  # of the attribute that holds the segments with their terminology
UNIT = "millimeter"


@dataclass
class LabelStore:
    """A label image in an OME-Zarr store, under ``labels/segmentation``.

    It can be pickled: other processes open the store again.

    Attributes:
        path: The store.
        version: Of NGFF, '0.4' or '0.5'.
        levels: The grid of each level, the finest first.
        values: The value of background and of each segment 1..K in the store.
        chunk: Voxels (k, j, i) of a chunk.
    """

    path: Path
    version: str
    levels: list[Geometry]
    values: list[int]
    chunk: Triple
    _open: dict[int, Any] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    @classmethod
    def create(
        cls, path: Path, geometry: Geometry, segments: Sequence[Segment], version: str = "0.5"
    ) -> LabelStore:
        """Creates a store in which every voxel is background.

        Args:
            path: The store, which must not exist.
            geometry: The grid of the finest level.
            segments: The classes 1..K.
            version: Of NGFF.

        Raises:
            OSError: It cannot be written.
        """
        zarr = zarr_library()
        levels = coarser_levels(geometry)
        values = [0, *output_values(segments)]
        chunk = chunk_of(geometry.shape)
        store = cls(path, version, levels, values, chunk)
        temporary = Path(tempfile.mkdtemp(prefix=PREFIX, dir=path.parent))
        try:
            old = version == "0.4"
            root = zarr.open_group(str(temporary), mode="w", zarr_format=2 if old else 3)
            labels = root.create_group("labels")
            group = labels.create_group(NAME)
            for number, level in enumerate(levels):
                more: dict[str, Any] = (
                    {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
                    if old
                    else {"dimension_names": list(SPACE)}
                )
                group.create_array(
                    str(number),
                    shape=level.shape,
                    chunks=chunk_of(level.shape),
                    dtype=np.min_scalar_type(max(values)),
                    fill_value=0,
                    **more,
                )
            store._describe(root, f"{FOLDER}/", {})
            _attach(labels, version, {"labels": [NAME]}, {})
            store._describe(group, "", {"image-label": _image_label(segments, values, version)})
            group.attrs[KEY] = {"segments": [segment.to_json() for segment in segments]}
            os.chmod(temporary, 0o777 & ~_umask())
            rename(temporary, path)
        except BaseException:
            remove_tree(temporary, ignore_errors=True)
            raise
        return store

    def _describe(self, group: Any, prefix: str, more: dict[str, Any]) -> None:
        """Write the metadata of the image into a group."""
        datasets = [
            {
                "path": f"{prefix}{number}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": list(level.spacing_kji)},
                    {"type": "translation", "translation": list(reversed(level.origin))},
                ],
            }
            for number, level in enumerate(self.levels)
        ]
        axes = [{"name": name, "type": "space", "unit": UNIT} for name in SPACE]
        scales: dict[str, Any] = {"name": NAME, "axes": axes, "datasets": datasets}
        if self.version == "0.4":
            scales["version"] = self.version
        _attach(group, self.version, {"multiscales": [scales]}, more)

    def array(self, level: int = 0) -> Any:
        """The zarr array of a level."""
        if level not in self._open:
            group = zarr_library().open_group(str(self.path), mode="r+")
            self._open[level] = group[f"{FOLDER}/{level}"]
        return self._open[level]

    def write(self, low: Sequence[int], labels: np.ndarray) -> None:
        """Writes a box of the finest level.

        Args:
            low: Its first voxel, (k, j, i).
            labels: uint8 (k, j, i), 0 background, 1..K.

        Raises:
            OSError: It cannot be written.
        """
        array = self.array()
        table = np.array(self.values, array.dtype)
        array[_box(low, [a + n for a, n in zip(low, labels.shape, strict=True)])] = table[labels]

    def pyramid(self, low: Triple, high: Triple) -> Iterator[float]:
        """Fills the coarser levels below the box [low, high) of the finest one.

        A coarse voxel gets the most frequent value of those that it covers.

        Args:
            low: First voxel, (k, j, i).
            high: Voxel after the last.

        Yields:
            The share done, after each chunk.
        """
        work = list(self._coarse_chunks(low, high))
        for number, (level, first, last) in enumerate(work, start=1):
            above, shape = self.array(level - 1), self.levels[level - 1].shape
            factors = factors_between(self.levels[level - 1], self.levels[level])
            begin = [a * f for a, f in zip(first, factors, strict=True)]
            end = [min(n, b * f) for n, b, f in zip(shape, last, factors, strict=True)]
            self.array(level)[_box(first, last)] = majority(above[_box(begin, end)], factors)
            yield number / len(work)

    def _coarse_chunks(self, low: Triple, high: Triple) -> Iterator[tuple[int, Triple, Triple]]:
        """Level, first voxel and the one after the last of the chunks below a box."""
        begin, end = low, high
        for level in range(1, len(self.levels)):
            factors = factors_between(self.levels[level - 1], self.levels[level])
            shape = self.levels[level].shape
            begin = triple(a // f for a, f in zip(begin, factors, strict=True))
            end = triple(-(-b // f) for b, f in zip(end, factors, strict=True))
            sizes = chunk_of(shape)
            ranges = [range(a // c, -(-b // c)) for a, b, c in zip(begin, end, sizes, strict=True)]
            for place in product(*ranges):
                first = triple(p * c for p, c in zip(place, sizes, strict=True))
                last = triple(min(a + c, n) for a, c, n in zip(first, sizes, shape, strict=True))
                yield level, first, last


def open_label_store(path: Path | str) -> LabelStore:
    """Opens a store that `LabelStore.create` has made, to go on writing.

    Raises:
        InputError: It is none.
    """
    from .ngff_volume import NgffVolume

    path = Path(path)
    volume = NgffVolume.open(path / FOLDER, "the output")
    segments = segments_of(volume.attributes)
    if segments is None:
        raise InputError(f"the output {path} was not written by SparseSegNet: name another.")
    levels = [level.geometry for level in volume.levels]
    chunk = chunk_of(volume.shape)
    return LabelStore(path, volume.version, levels, [0, *output_values(segments)], chunk)


def segments_of(attributes: dict[str, Any]) -> list[Segment] | None:
    """The segments that a group of labels names; None if it names none.

    Args:
        attributes: Of the group.
    """
    own = attributes.get(KEY)
    if isinstance(own, dict) and isinstance(own.get("segments"), list):
        try:
            return [Segment.from_json(row) for row in own["segments"]]
        except (KeyError, TypeError, ValueError):
            pass
    return None


def chunk_of(shape: Triple) -> Triple:
    """The chunk (k, j, i) of an array of that shape."""
    return triple(min(CHUNK, n) for n in shape)


def coarser_levels(geometry: Geometry) -> list[Geometry]:
    """The grids of a pyramid, the finest first.

    Axes are halved until the longest has `SMALLEST` voxels; thick slices only once the other axes
    have become as coarse.
    """
    levels = [geometry]
    while max((grid := levels[-1]).size) > SMALLEST:
        finest = min(mm for mm, n in zip(grid.spacing, grid.size, strict=True) if n > 1)
        factors = [
            2 if n > 1 and mm < 2 * finest else 1
            for mm, n in zip(grid.spacing, grid.size, strict=True)
        ]
        i, j, k = (-(-n // f) for n, f in zip(grid.size, factors, strict=True))
        a, b, c = (mm * f for mm, f in zip(grid.spacing, factors, strict=True))
        middle = ((f - 1) / 2 for f in factors)
        levels.append(
            replace(grid, size=(i, j, k), spacing=(a, b, c), origin=grid.position(*middle))
        )
    return levels


def factors_between(fine: Geometry, coarse: Geometry) -> Triple:
    """Voxels of a level that one of the next covers, along k, j, i."""
    return triple(round(b / a) for a, b in zip(fine.spacing_kji, coarse.spacing_kji, strict=True))


def majority(values: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """The most frequent value of each block; the highest of several that are equally frequent.

    Args:
        values: Integer (k, j, i); at the end of an axis a block may be cut off.
        factors: Voxels of a block along k, j, i.
    """
    ends = [(0, -n % f) for n, f in zip(values.shape, factors, strict=True)]
    if any(more for _, more in ends):
        values = np.pad(values, ends, mode="edge")
    shape = [n for size, f in zip(values.shape, factors, strict=True) for n in (size // f, f)]
    blocks = values.reshape(shape)
    present = np.unique(values)
    if len(present) == 1:
        return values[tuple(slice(None, None, f) for f in factors)].copy()
    best = np.zeros(shape[::2], np.uint8)
    out = np.zeros(shape[::2], values.dtype)
    for value in present:  # in rising order
        votes = (blocks == value).sum(axis=(1, 3, 5), dtype=np.uint8)
        wins = (votes >= best) & (votes > 0)
        out[wins], best[wins] = value, votes[wins]
    return out


def _attach(group: Any, version: str, content: dict[str, Any], more: dict[str, Any]) -> None:
    """Write metadata into a group where its version has them."""
    if version == "0.4":
        group.attrs.update({**content, **more})
    else:
        group.attrs["ome"] = {"version": version, **content, **more}


def _image_label(
    segments: Sequence[Segment], values: Sequence[int], version: str
) -> dict[str, Any]:
    colors = [
        {"label-value": value, "rgba": [round(255 * c) for c in segment.color] + [255]}
        for segment, value in zip(segments, values[1:], strict=True)
    ]
    names = [
        {"label-value": value, "name": segment.name}
        for segment, value in zip(segments, values[1:], strict=True)
    ]
    found: dict[str, Any] = {
        "colors": [{"label-value": 0, "rgba": [0, 0, 0, 0]}, *colors],
        "properties": [{"label-value": 0, "name": "background"}, *names],
        "source": {"image": "../../"},
    }
    if version == "0.4":
        found["version"] = version
    return json.loads(json.dumps(found))


def _box(low: Sequence[int], high: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
