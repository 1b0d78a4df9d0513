"""Reads dense segmentations, to be compared: every voxel counts, and overlapping segments stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..annotation.composition import MAX_SEGMENTS, UNLABELLED
from ..annotation.drawn import is_background
from ..annotation.geometry import Geometry
from ..annotation.grid_map import GridMap
from ..annotation.layers import union_grid
from ..annotation.segments import Segment
from ..errors import InputError
from .images import geometry_of, read_file
from .label_image import read_label_file
from .label_values import label_values, looked_up, renumber
from .other_formats import without_geometry
from .segmentation_file import is_segmentation, read_stored

SAME_GRID = (
    "Both must have the same voxels. In Slicer the module Resample Scalar/Vector/DWI Volume "
    "(nearest neighbour) brings one to the grid of the other; 'densify' and 'segment' write on the "
    "grid of the image that they are given"
)


@dataclass
class Dense:
    """A dense segmentation.

    Attributes:
        path: The file.
        grid: The layers' voxel grid.
        layers: uint8 (k, j, i) each, n for the n-th segment, 0 for none, 255 unlabelled.
        segments: The segments.
        named: Whether they have names, and the grid may be a part of the image's; a label image
            has values alone.
        notes: Messages for the user.
        own_grid: The file's voxel grid.
    """

    path: Path
    grid: Geometry
    layers: list[np.ndarray]
    segments: list[Segment]
    named: bool
    notes: list[str] = field(default_factory=list)
    own_grid: Geometry = field(init=False)

    def __post_init__(self) -> None:
        self.own_grid = self.grid

    def put_on(self, grid: Geometry) -> None:
        """Brings the layers to another grid with the same voxels; nothing is beyond their own."""
        self.layers = [placed(layer, self.grid, grid) for layer in self.layers]
        self.grid = grid


def read_dense_pair(
    prediction: Path, truth: Path, unlabelled: int | None = None
) -> tuple[Dense, Dense]:
    """Reads two segmentations on one grid, that of the first where both have the same voxels.

    Axes may be flipped and permuted. A segmentation (not a label image) may cover a part: beyond
    it there is nothing.

    Args:
        prediction: A file.
        truth: Another one.
        unlabelled: The value of unlabelled voxels in label images, which is no segment.

    Raises:
        InputError: A file is unreadable or damaged, or their voxels are not the same.
    """
    if without_geometry(prediction):  # it gets the other's grid
        second = read_dense(truth, None, unlabelled)
        first = read_dense(prediction, second.grid, unlabelled)
    else:
        first = read_dense(prediction, None, unlabelled)
        second = read_dense(truth, first.grid, unlabelled)
    grid = _common_grid(first, second)
    first.put_on(grid)
    second.put_on(grid)
    return first, second


def read_dense(path: Path, geometry: Geometry | None, unlabelled: int | None) -> Dense:
    """Reads a dense segmentation on its own grid.

    Args:
        path: The file.
        geometry: The grid of a file whose format holds no position; None if there is no other.
        unlabelled: The value of unlabelled voxels in a label image; None or 0 if there are none.

    Raises:
        InputError: It is unreadable or damaged.
    """
    notes: list[str] = []
    if geometry is None:
        image = read_file(path, "the segmentation", MAX_SEGMENTS + 1, notes, labels=True)
    else:
        image = read_label_file(path, geometry, notes)
    if is_segmentation(image):
        return _of_segmentation(path, image, notes)
    values = label_values(path, image, unlabelled or 0, notes)
    numbers, segments = renumber(path, values, unlabelled or 0)
    if unlabelled is None and len(segments) > 1 and segments[-1].value == UNLABELLED:
        notes.append(
            f"{path.name} holds the value {UNLABELLED}, which is compared like every other label. "
            f"If it marks unlabelled voxels, give --unlabelled {UNLABELLED}: they do not count."
        )
    return Dense(path, geometry_of(image), [numbers], segments, False, notes)


def _of_segmentation(path: Path, image: sitk.Image, notes: list[str]) -> Dense:
    stored = read_stored(path, image)
    layers = []
    unnamed = 0
    for layer in stored.layers:
        # Numbers count the segments without Background; 0 is what belongs to none.
        own = {
            value: 0 if is_background(stored.names[n - 1]) else int(stored.codes[n])
            for value, n in layer.numbers.items()
        }
        whole = layer.values if layer.values.dtype.kind in "iu" else layer.values.astype(np.int64)
        values = [int(v) for v in np.unique(whole)]
        table = np.array([own.get(value, 0) for value in values], np.uint8)
        layers.append(looked_up(whole, values, table))
        if strange := [value for value in values if value != 0 and value not in own]:
            unnamed += int(np.count_nonzero(np.isin(whole, strange)))
    if unnamed:
        notes.append(
            f"{path.name}: {unnamed} voxels have a label value that no segment has: they are not "
            "compared. Save the segmentation again in Slicer to name them."
        )
    left_out = [name for name in stored.names if is_background(name)]
    if left_out:
        notes.append(f"{path.name}: the segment '{left_out[0]}' is background, and not compared.")
    return Dense(path, stored.layers[0].geometry, layers, stored.segments, True, notes)


def placed(values: np.ndarray, own: Geometry, grid: Geometry) -> np.ndarray:
    """An array on another grid with the same voxels, 0 beyond its own.

    Args:
        values: (k, j, i), on the own grid.
        own: The array's grid.
        grid: The other one.
    """
    if own.difference(grid) is None:
        return values
    place = GridMap.between(own, grid).whole()
    inside = None if place is None else place.overlap(values, grid.shape)
    if inside is not None and inside[0].shape == grid.shape:
        return inside[0]
    out = np.zeros(grid.shape, values.dtype)
    if inside is not None:
        out[inside[1]] = inside[0]
    return out


def same_voxels(own: Geometry, grid: Geometry) -> bool:
    """Tells whether two grids have the same voxels, whatever the order of their axes."""
    if own.difference(grid) is None:
        return True
    place = GridMap.between(own, grid).whole()
    return (
        place is not None
        and place.start == (0, 0, 0)
        and tuple(own.shape[axis] for axis in place.axes) == grid.shape
    )


def _common_grid(first: Dense, second: Dense) -> Geometry:
    if same_voxels(second.grid, first.grid):
        return first.grid
    whole = [one.grid for one in (first, second) if not one.named]
    place = GridMap.between(second.grid, first.grid).whole()
    if place is not None and place.overlap(second.layers[0], first.grid.shape) is not None:
        grid = union_grid([first.grid, second.grid])
        # A label image says what is in its own voxels alone.
        if all(same_voxels(label_image, grid) for label_image in whole):
            return grid
    raise InputError(
        f"{first.path} and {second.path} lie on different grids: "
        f"{first.grid.difference(second.grid)}. {SAME_GRID}."
    )


def read_mask(path: Path, grid: Geometry) -> np.ndarray:
    """Reads a mask, the voxels above 0 of an image or the segments of a segmentation.

    Args:
        path: The file.
        grid: The grid that it is needed on.

    Returns:
        Boolean (k, j, i).

    Raises:
        InputError: It is unreadable, or does not hold the grid's voxels.
    """
    image = read_label_file(path, grid, [])
    own = geometry_of(image)
    values = sitk.GetArrayFromImage(image)
    inside = np.any(values > 0, axis=-1) if values.ndim == 4 else values > 0
    place = GridMap.between(grid, own).whole()
    held = same_voxels(grid, own) or (
        place is not None and (is_segmentation(image) or place.lies_within(grid.shape, own.shape))
    )
    if not held:
        raise InputError(
            f"the mask {path} does not lie on the grid of the segmentations: "
            f"{grid.difference(own)} (segmentations against mask). {SAME_GRID}."
        )
    return placed(inside, own, grid)
