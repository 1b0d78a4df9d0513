"""Layers of a segmentation, each on a grid of its own, merged into one array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .geometry import Geometry
from .grid_map import GridMap


@dataclass
class Layer:
    """A layer: segments that do not overlap each other, in one array.

    Attributes:
        values: Integer (k, j, i), label values.
        geometry: The layer's grid.
        numbers: The number, from 1, of the segment of each label value.
    """

    values: np.ndarray
    geometry: Geometry
    numbers: Mapping[int, int]


@dataclass
class Merged:
    """Segments of one grid in one array.

    Attributes:
        numbers: Unsigned (k, j, i), n where the n-th segment covers, 0 where none does.
        geometry: The grid.
    """

    numbers: np.ndarray
    geometry: Geometry


@dataclass
class Overlaps:
    """Voxels of segments and of pairs of them.

    Attributes:
        sizes: Voxels of each segment; counted only where layers overlap.
        shared: Voxels that two segments share, by their indices (from 0), the smaller first.
    """

    sizes: list[int]
    shared: dict[tuple[int, int], int] = field(default_factory=dict)


def overlaps_of(layers: Sequence[Layer], count: int) -> Overlaps:
    """Counts the voxels that segments in different layers share.

    Layers whose voxels are not the same (other spacing, rotated) are not compared.

    Args:
        layers: The layers.
        count: Number of segments.
    """
    found = Overlaps([0] * count)
    for n, one in enumerate(layers):
        for other in layers[n + 1 :]:
            place = GridMap.between(other.geometry, one.geometry).whole()
            inside = None if place is None else place.overlap(other.values, one.values.shape)
            if inside is None:
                continue
            values, where = inside
            both = (values != 0) & (one.values[where] != 0)
            if not both.any():
                continue
            pairs, counts = np.unique(
                np.stack([one.values[where][both], values[both]]), axis=1, return_counts=True
            )
            for first, second, shared in zip(*pairs.tolist(), counts.tolist(), strict=True):
                if first in one.numbers and second in other.numbers:
                    a, b = sorted((one.numbers[first] - 1, other.numbers[second] - 1))
                    if a != b:
                        found.shared[a, b] = found.shared.get((a, b), 0) + shared
    if found.shared:
        for layer in layers:
            for value, number in layer.numbers.items():
                found.sizes[number - 1] += int(np.count_nonzero(layer.values == value))
    return found


def merge_layers(
    layers: Sequence[Layer], order: Sequence[int], geometry: Geometry | None = None
) -> list[Merged]:
    """Merges layers that have the same voxels, each group of them on its own grid.

    Args:
        layers: The layers; empty ones are ignored.
        order: The segments' indices (from 0) in the order in which they are laid over each other.
        geometry: The grid to use where it holds all voxels of the layers; else it is the smallest
            that does.

    Returns:
        One array for each group of layers; empty if nothing was drawn.
    """
    groups: list[list[Layer]] = []
    for layer in layers:
        if layer.values.size == 0 or not layer.values.any():
            continue
        for group in groups:
            if GridMap.between(layer.geometry, group[0].geometry).whole() is not None:
                group.append(layer)
                break
        else:
            groups.append([layer])
    merged = []
    for group in groups:
        grid = union_grid([layer.geometry for layer in group])
        if geometry is not None:
            place = GridMap.between(grid, geometry).whole()
            if place is not None and place.lies_within(grid.shape, geometry.shape):
                grid = geometry
        merged.append(merge_on(group, order, grid))
    return merged


def merge_on(layers: Sequence[Layer], order: Sequence[int], grid: Geometry) -> Merged:
    """Merges layers on a grid whose voxels are theirs.

    Args:
        layers: The layers.
        order: See `merge_layers`.
        grid: The grid; what lies outside of it is left out.
    """
    highest = max((n for layer in layers for n in layer.numbers.values()), default=0)
    numbers = np.zeros(grid.shape, np.min_scalar_type(highest))
    parts = []
    for layer in layers:
        place = GridMap.between(layer.geometry, grid).whole()
        inside = None if place is None else place.overlap(layer.values, grid.shape)
        if inside is not None:
            parts += [(n - 1, value, *inside) for value, n in layer.numbers.items()]
    rank = {n: place for place, n in enumerate(order)}
    for n, value, values, where in sorted(parts, key=lambda part: rank[part[0]]):
        np.copyto(numbers[where], numbers.dtype.type(n + 1), where=values == value)
    return Merged(numbers, grid)


def union_grid(grids: Sequence[Geometry]) -> Geometry:
    """The smallest grid with the voxels of the first one that holds all of them.

    Args:
        grids: Grids whose voxels are the same (`GridMap.whole`).
    """
    first = grids[0]
    low, high = np.zeros(3, int), np.array(first.shape)
    for grid in grids[1:]:
        place = GridMap.between(grid, first).whole()
        assert place is not None
        start = np.array(place.start)
        low = np.minimum(low, start)
        high = np.maximum(high, start + np.array(grid.shape)[list(place.axes)])
    k, j, i = (int(n) for n in low)
    size = (int(n) for n in (high - low)[::-1])
    x, y, z = size
    return Geometry((x, y, z), first.spacing, first.position(i, j, k), first.directions)
