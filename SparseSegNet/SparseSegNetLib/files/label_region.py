"""Annotation of a volume that is larger than memory: read where there is some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Geometry, Triple, triple
from ..annotation.grid_map import GridMap
from ..annotation.segments import Segment, usable_color
from ..annotation.slices import AnnotatedSlice, crossing
from ..errors import InputError
from .images import geometry_of
from .label_image import read_label_file
from .labels import Annotation, Reading, annotation_of, read_annotation
from .ngff_labels import segments_of
from .ngff_volume import NgffVolume
from .segmentation_file import is_segmentation

Region = tuple[Triple, Triple]
SAME = (
    "Labels of a volume in OME-Zarr have its voxels, or a part of them: write them on the grid of "
    "its finest level"
)


class LabelSource:
    """The labels of a volume, in an OME-Zarr store or in a file.

    Args:
        path: A group of labels (``big.ome.zarr/labels/drawn``), or a label image or .seg.nrrd.
        grid: The volume's grid.
        reading: How to read it; slices count on that grid.

    Attributes:
        store: The store; None if it is a file.

    Raises:
        InputError: It cannot be read, or does not have the volume's voxels.
    """

    def __init__(self, path: Path, grid: Geometry, reading: Reading):
        self.path, self.grid, self.reading = path, grid, reading
        self.notes: list[str] = []
        self.store: NgffVolume | None = None
        self._file: sitk.Image | None = None
        if path.is_dir():
            self.store = NgffVolume.open(path, "the labels")
            if self.store.dtype.kind not in "iu" or len(self.store.channels) > 1:
                raise InputError(
                    f"the labels {path} are no label image: one channel of whole numbers is needed."
                )
            if (difference := grid.difference(self.store.geometry)) is not None:
                raise InputError(f"the labels {path} differ in {difference}. {SAME}.")
        else:
            self._file = read_label_file(path, grid, self.notes, reading.by_index)
            place = GridMap.between(geometry_of(self._file), grid).whole()
            if place is None and not is_segmentation(self._file):
                difference = grid.difference(geometry_of(self._file))
                raise InputError(f"the labels {path} differ in {difference}. {SAME}.")

    @property
    def unlabelled(self) -> int:
        """The value of unlabelled voxels."""
        value = self.reading.unlabelled
        return UNLABELLED if value is None else value

    def drawn_box(self) -> Region | None:
        """The smallest box that holds all that is labelled; None if nothing is.

        Of a store only the chunks that are there are read, one after the other.
        """
        boxes = [box for part in self._parts() if (box := _box_of(*part)) is not None]
        if not boxes:
            return None
        return (
            triple(min(low[axis] for low, _ in boxes) for axis in range(3)),
            triple(max(high[axis] for _, high in boxes) for axis in range(3)),
        )

    def check_missing(self) -> None:
        """Checks that chunks of a store that are not there mean that nothing is labelled in them.

        Raises:
            InputError: Their fill value means something else.
        """
        if self.store is None or self.store.fill == self.unlabelled:
            return
        shape, chunk = self.store.shape, self.store.levels[0].chunk
        counts = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
        if len(self.store.present()) < np.prod(counts):
            raise InputError(
                f"the labels {self.path} have chunks that are not stored, whose value is "
                f"{self.store.fill}, and unlabelled voxels have the value {self.unlabelled}: "
                f"give --unlabelled {self.store.fill} if nothing was drawn there."
            )

    def _parts(self) -> Iterator[tuple[Triple, np.ndarray]]:
        """Places on the grid, and arrays (k, j, i) that are true where something is labelled."""
        if self.store is not None:
            self.check_missing()
            shape, chunk = self.store.shape, self.store.levels[0].chunk
            there = self.store.present()
            for low in there:
                high = triple(min(a + c, n) for a, c, n in zip(low, chunk, shape, strict=True))
                yield low, self.store.read(low, high)[0] != self.unlabelled
            return
        assert self._file is not None
        values = sitk.GetArrayViewFromImage(self._file)
        named = is_segmentation(self._file)
        drawn = values > 0 if named else values != self.unlabelled
        drawn = np.asarray(drawn.any(axis=-1) if drawn.ndim == 4 else drawn)
        place = GridMap.between(geometry_of(self._file), self.grid).whole()
        if place is None:
            yield (0, 0, 0), np.ones(self.grid.shape, bool)
        elif (inside := place.overlap(drawn, self.grid.shape)) is not None:
            yield triple(part.start for part in inside[1]), inside[0]

    def annotation(self, region: Region) -> Annotation:
        """The annotation of a region, as `read_annotation` gives it for that part of the volume.

        Raises:
            InputError: As `read_annotation`.
        """
        low, high = region
        grid = self.grid.cropped(low, high)
        slices = _within(self.reading.slices, region)
        reading = replace(self.reading, slices=slices)
        if self._file is not None and is_segmentation(self._file):
            found = read_annotation(self.path, grid, reading)
        else:
            image = sitk.GetImageFromArray(self._values(region))
            image.SetSpacing(grid.spacing)
            image.SetOrigin(grid.origin)
            image.SetDirection(grid.directions)
            found = annotation_of(self.path, image, grid, reading, list(self.notes))
        if self.store is not None:
            found.segments = named(self.store, found.segments)
        if outside := len(self.reading.slices or ()) - len(slices or ()):
            found.warnings.append(
                f"{outside} of the slices given with --slices lie outside of the region and do not "
                "count; a larger --region holds them."
            )
        return found

    def _values(self, region: Region) -> np.ndarray:
        """Label values (k, j, i) of a region."""
        low, high = region
        if self.store is not None:
            return self.store.read(low, high)[0]
        assert self._file is not None
        own = sitk.GetArrayViewFromImage(self._file)
        grid = self.grid.cropped(low, high)
        kind = own.dtype if self.unlabelled >= 0 else np.promote_types(own.dtype, np.int16)
        kind = np.promote_types(kind, np.min_scalar_type(self.unlabelled))
        values = np.full(grid.shape, self.unlabelled, kind)
        place = GridMap.between(geometry_of(self._file), grid).whole()
        inside = None if place is None else place.overlap(own, grid.shape)
        if inside is not None:
            values[inside[1]] = inside[0]
        return values


def _box_of(low: Triple, drawn: np.ndarray) -> Region | None:
    """The smallest box of the grid that holds what is true in an array that begins at `low`."""
    ends = []
    for axis, first in enumerate(low):
        hit = np.flatnonzero(drawn.any(axis=tuple(a for a in range(3) if a != axis)))
        if not hit.size:
            return None
        ends.append((first + int(hit[0]), first + int(hit[-1]) + 1))
    return triple(a for a, _ in ends), triple(b for _, b in ends)


def _within(slices: object, region: Region) -> list[AnnotatedSlice] | None:
    """Slices of the volume that cross a region, counted in it."""
    if slices is None:
        return None
    assert isinstance(slices, list | tuple)
    low, high = region
    found = crossing(slices, low, high)
    if slices and not found:
        raise InputError(
            f"none of the slices given with --slices crosses the region "
            f"{','.join(f'{a}:{b}' for a, b in zip(low, high, strict=True))}."
        )
    return found


def named(store: NgffVolume, segments: list[Segment]) -> list[Segment]:
    """Segments with the names and colours that a store gives their values.

    Args:
        store: A group of labels.
        segments: As they were numbered.
    """
    own = {s.value: s for s in segments_of(store.attributes) or []}
    inside = store.attributes.get("ome")
    ome = inside if isinstance(inside, dict) else store.attributes
    about = ome.get("image-label")
    about = about if isinstance(about, dict) else {}
    names, colors = _by_value(about, "properties", "name"), _by_value(about, "colors", "rgba")
    result = []
    for place, segment in enumerate(segments):
        if segment.value in own:
            result.append(own[segment.value])
            continue
        rgba = colors.get(segment.value)
        given = [c / 255 if isinstance(c, int | float) else -1 for c in rgba or []]
        name = str(names.get(segment.value, segment.name))
        result.append(replace(segment, name=name, color=usable_color(given[:3], place)))
    return result


def _by_value(about: dict[str, Any], rows: str, key: str) -> dict[int, Any]:
    """An entry of the rows of an 'image-label', by the value of the label."""
    found = about.get(rows)
    return {
        row["label-value"]: row[key]
        for row in (found if isinstance(found, list) else [])
        if isinstance(row, dict)
        and isinstance(row.get("label-value"), int)
        and isinstance(row.get(key), str if key == "name" else list)
    }
