"""Labels of a large region, read box by box: what they mean is found out once, for all boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import SimpleITK as sitk

from ..annotation.composition import restrict_to_slices
from ..annotation.geometry import Geometry, Triple, triple
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice, crossing
from ..errors import InputError
from .label_region import LabelSource, Region, named
from .label_values import looked_up
from .labels import annotation_of
from .ngff_volume import NgffVolume

LABEL_BYTES = 12  # per voxel of a region, while its annotation is read at once
SAMPLE = 1000  # voxels of an image in which the values are as frequent as in the region


class LabelBoxes:
    """The annotation of a region of a volume's finest grid.

    It is read at once where it fits memory, as `LabelSource.annotation` does. Of a store in which
    each voxel tells by itself what it is, boxes are read as they are needed.

    Args:
        source: The labels.
        region: First voxel and the one after the last, (k, j, i).
        room: Bytes that it may take.

    Attributes:
        segments: The classes 1..K.
        slices: The annotated slices, counted in the region; None if they are not known.
        warnings: Messages for the user.

    Raises:
        InputError: As `LabelSource.annotation`, or it does not fit memory.
    """

    def __init__(self, source: LabelSource, region: Region, room: float):
        self.region = region
        self.segments: list[Segment]
        self.slices: list[AnnotatedSlice] | None
        self._labels: np.ndarray | None = None
        self._store: NgffVolume | None = None
        self._given = list(source.reading.slices or ())
        low, high = region
        voxels = np.prod([b - a for a, b in zip(low, high, strict=True)], dtype=np.float64)
        if voxels * LABEL_BYTES <= room:
            whole = source.annotation(region)
            self._labels, self.segments = whole.labels, whole.segments
            self.slices, self.warnings = whole.slices, whole.warnings
            return
        if source.store is None or source.unlabelled == 0:
            raise InputError(
                f"what is labelled in {source.path} spans {voxels:.3g} voxels, whose labels do not "
                f"fit the memory that may be taken ({room / 1e9:.1f} GB): give a smaller --region, "
                "or labels in OME-Zarr in which 255 (or another --unlabelled than 0) marks what is "
                "not labelled, which are read in parts."
            )
        source.check_missing()
        self._store = source.store
        chunk = self._store.levels[0].chunk
        self._there = {
            triple(a // c for a, c in zip(corner, chunk, strict=True))
            for corner in self._store.present()
        }
        self._learn_values(source)

    def _learn_values(self, source: LabelSource) -> None:
        """Finds the meaning of each value, from how often it is in the region."""
        low, high = self.region
        counts: Counter[int] = Counter()
        size = np.prod([b - a for a, b in zip(low, high, strict=True)], dtype=np.int64)
        assert self._store is not None
        for box in self._chunks():
            values, each = np.unique(self._store.read(*box)[0], return_counts=True)
            counts.update(dict(zip(values.tolist(), each.tolist(), strict=True)))
        counts[source.unlabelled] += int(size) - sum(counts.values())  # of chunks that are missing
        present = sorted(value for value, n in counts.items() if n)
        often = [max(1, int(SAMPLE * counts[value] / int(size))) for value in present]
        sample = np.repeat(np.array(present), often)[None, None]
        image = sitk.GetImageFromArray(sample)
        grid = Geometry(triple(image.GetSize()), (1.0,) * 3, (0.0,) * 3, source.grid.directions)
        image.SetDirection(grid.directions)
        reading = replace(source.reading, slices=None)
        found = annotation_of(source.path, image, grid, reading, list(source.notes))
        first = np.cumsum([0, *often[:-1]])
        self._present, self._numbers = present, found.labels[0, 0, first]
        self.segments = named(self._store, found.segments)
        self.warnings, self.slices = found.warnings, crossing(self._given, low, high) or None

    def read(self, low: Triple, high: Triple) -> np.ndarray:
        """Labels uint8 (k, j, i) of the box [low, high) of the region, 255 = unlabelled."""
        if self._labels is not None:
            return self._labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        assert self._store is not None
        begin = self.region[0]
        first, last = (
            triple(a + b for a, b in zip(end, begin, strict=True)) for end in (low, high)
        )
        values = self._store.read(first, last)[0]
        labels = looked_up(values, self._present, self._numbers)
        if self._given:
            labels = restrict_to_slices(labels, crossing(self._given, first, last))
        return labels

    def anything(self, low: Triple, high: Triple) -> bool:
        """False if nothing can be drawn in a box of the region, since no chunk of it is stored."""
        if self._store is None:
            return True
        begin, chunk = self.region[0], self._store.levels[0].chunk
        ranges = [
            range((a + o) // n, (b + o - 1) // n + 1)
            for a, b, o, n in zip(low, high, begin, chunk, strict=True)
        ]
        return any(place in self._there for place in product(*ranges))

    def _chunks(self) -> Iterator[Region]:
        """The boxes of the chunks that are stored, cut off at the region's border."""
        assert self._store is not None
        chunk = self._store.levels[0].chunk
        for place in sorted(self._there):
            corner = [p * c for p, c in zip(place, chunk, strict=True)]
            low = triple(map(max, corner, self.region[0]))
            high = triple(
                min(a + c, b) for a, c, b in zip(corner, chunk, self.region[1], strict=True)
            )
            if all(a < b for a, b in zip(low, high, strict=True)):
                yield low, high
