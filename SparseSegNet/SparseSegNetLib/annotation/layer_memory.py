"""Layers as they were read last, so that of a large segmentation only what changed is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..steps import Steps, finished
from .geometry import Geometry
from .grid_map import GridMap
from .layers import Layer, Overlaps, merge_on, overlaps_of
from .lent import Lent
from .pieces import PIECE
from .strokes import box_of

Box = tuple[slice, slice, slice]
Comparison = Callable[[np.ndarray, np.ndarray], Box | None]
WORD = 8  # bytes that are compared at once


@dataclass
class _Known:
    """A layer as it was, with its place on the grid."""

    layer: Layer
    where: Box  # holds the layer's
    copy: np.ndarray  # on the grid's axes, within `where`
    whole: bool  # True if no voxel of the layer lies outside the grid


class LayerMemory:
    """Copies of layers whose voxels are the grid's, to find and merge what changes in them.

    Args:
        layers: The layers, all of them on voxels of the grid. They are kept: give copies.
        overlaps: Their overlaps, as `overlaps_of` counts them.
        geometry: The grid.
    """

    def __init__(self, layers: Sequence[Layer], overlaps: Overlaps, geometry: Geometry):
        self.geometry, self.overlaps = geometry, overlaps
        self._lent = Lent()
        self._known: list[_Known] | None = []
        for layer in layers:
            placed = _placed(layer, geometry)
            if placed is None:
                self._known = None
                return
            view, where = placed
            whole = view.size == layer.values.size
            self._known.append(_Known(layer, where, np.ascontiguousarray(view), whole))

    def lend(self) -> list[Layer] | None:
        """The layers as they were read last, which stay as they are as long as they are held.

        None where a layer is not all within the grid, or none of its voxels are the grid's.
        """
        if self._known is None or not all(known.whole for known in self._known):
            return None
        return [
            Layer(self._lent.view(k.copy), _grid_of(k.where, self.geometry), k.layer.numbers)
            for k in self._known
        ]

    def changed(self, layers: Sequence[Layer]) -> Box | None:
        """Finds what changed at once, see `comparing`."""
        return finished(self.comparing(lambda: layers))

    def comparing(self, read: Callable[[], Sequence[Layer]]) -> Steps[Box | None]:
        """Finds what changed in layers since they were copied, piece by piece.

        Args:
            read: Returns the layers as they are now; it is called in each step.

        Returns:
            The smallest box (k, j, i) of the grid that holds all changed voxels, of size 0 if
            nothing did; None if the layers are others, so that all must be read.
        """
        if self._known is None or len(read()) != len(self._known):
            return None
        boxes: list[Box] = []
        for n, known in enumerate(self._known):
            layer = read()[n]
            if layer.numbers != known.layer.numbers:
                return None
            placed = _placed(layer, self.geometry)
            if placed is None or placed[0].dtype != known.copy.dtype:
                return None
            where = _union(known.where, placed[1])
            for part in _comparisons(known.where, placed[1]):
                now = _placed(read()[n], self.geometry)
                assert now is not None
                if (box := part(known.copy, now[0])) is not None:
                    boxes.append(box)
                yield None
            if where != known.where or self._lent.holds(known.copy):  # which stays as it is
                known.copy = yield partial(_grown, known.copy, known.where, where)
                known.where = where
        if not boxes:
            return slice(0, 0), slice(0, 0), slice(0, 0)
        k, j, i = (
            slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes))
            for axis in range(3)
        )
        return k, j, i

    def update(self, layers: Sequence[Layer], box: Box) -> Overlaps | None:
        """Copies what changed, and counts the overlaps again.

        Args:
            layers: The layers as they are now.
            box: As `changed` gave it for them.

        Returns:
            The overlaps; None if layers overlap for the first time, so that all must be read.
        """
        assert self._known is not None
        before = self._layers_within(box)
        for known, layer in zip(self._known, layers, strict=True):
            placed = _placed(layer, self.geometry)
            assert placed is not None
            view, where = placed
            if self._lent.holds(known.copy):
                known.copy = known.copy.copy()
            if (part := _part(known.where, box)) is not None:
                known.copy[part] = 0
            if (common := _common(where, box)) is not None:
                known.copy[_part(known.where, common) or ()] = view[_part(where, common) or ()]
            known.layer, known.whole = layer, view.size == layer.values.size
        if len(layers) > 1:
            counted = self._recounted(before, self._layers_within(box))
            if counted is None:
                return None
            self.overlaps = counted
        return self.overlaps

    def _layers_within(self, box: Box) -> list[Layer]:
        """The copies' parts within a box, as layers of the box's grid."""
        assert self._known is not None
        parts = (_within(known, box, self.geometry) for known in self._known)
        return [part for part in parts if part is not None]

    def _recounted(self, before: list[Layer], now: list[Layer]) -> Overlaps | None:
        old, new = (overlaps_of(layers, len(self.overlaps.sizes)) for layers in (before, now))
        if not self.overlaps.shared:
            return None if new.shared else self.overlaps
        shared = dict(self.overlaps.shared)
        for pairs, sign in ((old.shared, -1), (new.shared, 1)):
            for pair, count in pairs.items():
                shared[pair] = shared.get(pair, 0) + sign * count
        sizes = list(self.overlaps.sizes)
        for layers, sign in ((before, -1), (now, 1)):
            for layer in layers:
                for value, number in layer.numbers.items():
                    sizes[number - 1] += sign * int(np.count_nonzero(layer.values == value))
        left = {pair: count for pair, count in shared.items() if count}
        return Overlaps(sizes, left) if left else Overlaps([0] * len(sizes))

    def merged(self, order: Sequence[int], box: Box) -> np.ndarray:
        """Merges the layers within a box.

        Args:
            order: The segments' indices (from 0) in the order in which they are laid over each
                other.
            box: Of the grid.

        Returns:
            uint8 of the box's shape, n where the n-th segment covers, 0 where none does.
        """
        return merge_on(self._layers_within(box), order, _grid_of(box, self.geometry)).numbers


def _placed(layer: Layer, geometry: Geometry) -> tuple[np.ndarray, Box] | None:
    """The layer's voxels within the grid, and their place; None where they are no voxels of it."""
    place = GridMap.between(layer.geometry, geometry).whole()
    if place is None:
        return None
    return place.overlap(layer.values, geometry.shape)


def _part(where: Box, box: Box) -> Box | None:
    """The part of an array at `where` that lies within a box; None if none does."""
    common = _common(where, box)
    if common is None:
        return None
    k, j, i = (
        slice(c.start - w.start, c.stop - w.start) for c, w in zip(common, where, strict=True)
    )
    return k, j, i


def _within(known: _Known, box: Box, geometry: Geometry) -> Layer | None:
    """The part of a copy within a box, as a layer of the box's grid; None if there is none."""
    common = _common(known.where, box)
    part = _part(known.where, box)
    if common is None or part is None:
        return None
    grid = _grid_of(box, geometry)
    inside = np.zeros(grid.shape, known.copy.dtype)
    inside[_part(box, common) or ()] = known.copy[part]
    return Layer(inside, grid, known.layer.numbers)


def _grid_of(box: Box, geometry: Geometry) -> Geometry:
    """The part of a grid within a box."""
    k, j, i = box
    size = (i.stop - i.start, j.stop - j.start, k.stop - k.start)
    origin = geometry.position(i.start, j.start, k.start)
    return Geometry(size, geometry.spacing, origin, geometry.directions)


def _grown(copy: np.ndarray, where: Box, larger: Box) -> np.ndarray:
    """A copy of an array at `where`, with zeros where a larger box holds more."""
    grown = np.zeros([s.stop - s.start for s in larger], copy.dtype)
    grown[_part(larger, where) or ()] = copy
    return grown


def _union(one: Box, other: Box) -> Box:
    k, j, i = (
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return k, j, i


def _comparisons(known: Box, now: Box) -> list[Comparison]:
    """Functions that compare a part each of a copy at `known` with a layer at `now`.

    They return the box of the grid that holds all voxels in which these differ. A layer grows when
    something is painted beside what it held; where it was not, it was empty.
    """

    def differing(part: Box, copy: np.ndarray, view: np.ndarray) -> Box | None:
        box = _difference(copy[_part(known, part) or ()], view[_part(now, part) or ()])
        return None if box is None else _moved(box, part)

    def filled(part: Box, gone: bool, copy: np.ndarray, view: np.ndarray) -> Box | None:
        array, where = (copy, known) if gone else (view, now)
        box = box_of(array[_part(where, part) or ()] != 0)
        return None if box is None else _moved(box, part)

    common = _common(known, now)
    found: list[Comparison] = []
    if common is not None:
        found += [partial(differing, part) for part in _split(common)]
    for where, gone in ((known, True), (now, False)):
        for slab in _outside(where, common):
            found += [partial(filled, part, gone) for part in _split(slab)]
    return found


def _split(box: Box) -> list[Box]:
    """Parts of a box along its first axis, of PIECE voxels or one plane at least."""
    k, j, i = box
    each = max(1, PIECE // max(1, (j.stop - j.start) * (i.stop - i.start)))
    return [(slice(n, min(k.stop, n + each)), j, i) for n in range(k.start, k.stop, each)]


def _moved(box: Box, where: Box) -> Box:
    """A box within an array, on the grid that the array lies on at `where`."""
    k, j, i = (slice(b.start + w.start, b.stop + w.start) for b, w in zip(box, where, strict=True))
    return k, j, i


def _common(one: Box, other: Box) -> Box | None:
    """The box that two boxes share; None if they share none."""
    k, j, i = (
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return None if any(s.start >= s.stop for s in (k, j, i)) else (k, j, i)


def _outside(where: Box, common: Box | None) -> list[Box]:
    """Boxes that make up what lies in one box but not in another within it."""
    if common is None:
        return [where]
    found: list[Box] = []
    left = list(where)
    for axis, inner in enumerate(common):
        for low, high in ((left[axis].start, inner.start), (inner.stop, left[axis].stop)):
            if low < high:
                slab = left.copy()
                slab[axis] = slice(low, high)
                k, j, i = slab
                found.append((k, j, i))
        left[axis] = inner
    return found


def _difference(one: np.ndarray, other: np.ndarray) -> Box | None:
    """The smallest box that holds all voxels in which two arrays (k, j, i) differ, or None.

    Words of several voxels are compared first: a large segmentation is compared at each stroke.
    """
    wide = _words(one), _words(other)
    if wide[0] is None or wide[1] is None:
        return box_of(one != other)
    rough = box_of(wide[0] != wide[1])
    if rough is None:
        return None
    each = WORD // one.itemsize
    k, j, i = rough
    near = k, j, slice(i.start * each, i.stop * each)
    exact = box_of(one[near] != other[near])
    assert exact is not None
    k, j, i = (slice(e.start + n.start, e.stop + n.start) for e, n in zip(exact, near, strict=True))
    return k, j, i


def _words(array: np.ndarray) -> np.ndarray | None:
    """The array's voxels, WORD bytes at a time; None if they do not lie in memory like that."""
    if not array.flags.c_contiguous or array.shape[-1] * array.itemsize % WORD:
        return None
    return array.view(np.uint64)
