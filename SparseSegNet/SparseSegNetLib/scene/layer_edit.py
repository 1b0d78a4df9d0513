"""Changes single voxels of a segmentation's layer on the layer's own grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..annotation.geometry import TOLERANCE_VOXELS
from ..annotation.grid_map import nearest_voxel
from ..annotation.strokes import box_of
from ..errors import InputError
from .layers import isEmptyLayer, layerArray
from .voxel_lookup import boxOf, lookUp

MOST_VOXELS = 1 << 30  # of a layer that is made finer


@dataclass
class Lattice:
    """Labels on a voxel lattice, which goes on beyond them.

    Attributes:
        values: (k, j, i), the labels.
        low: Index (i, j, k) of the first of them.
        world: 4x4, from an index (i, j, k) to a position in RAS.
    """

    values: np.ndarray
    low: np.ndarray
    world: np.ndarray

    @property
    def high(self) -> np.ndarray:
        """Index (i, j, k) behind the last label."""
        return self.low + self.values.shape[::-1]

    def drawn(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Box (i, j, k) of the labels that are not 0, first index and that behind the last."""
        box = box_of(self.values != 0)
        if box is None:
            return None
        ranges = np.array([(each.start, each.stop) for each in box[::-1]])
        return self.low + ranges[:, 0], self.low + ranges[:, 1]

    def to(self, other: Lattice) -> np.ndarray:
        """4x4, from an index of this lattice to an index of another one."""
        return np.linalg.solve(other.world, self.world)

    def labelsIn(self, matrix: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The labels in a box of another lattice; `matrix` leads from that one to this one."""
        offset = np.eye(4)
        offset[:3, 3] = -self.low
        return lookUp(self.values, offset @ matrix, low, high)

    def spanning(self, low: np.ndarray, high: np.ndarray) -> Lattice:
        """A copy that is extended by zeros to hold a box as well."""
        if not self.values.size:
            low, high = low.copy(), high.copy()
        else:
            low, high = np.minimum(low, self.low), np.maximum(high, self.high)
        grown = Lattice(np.zeros((high - low)[::-1], self.values.dtype), low, self.world)
        grown.part(self.low, self.high)[...] = self.values
        return grown

    def part(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """A view of the labels in a box within this lattice's labels."""
        start, stop = low - self.low, high - self.low
        return self.values[tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))]


def latticeOf(layer) -> Lattice | None:
    """The labels of a layer (vtkOrientedImageData), not copied; None if it is empty."""
    if layer is None or isEmptyLayer(layer):
        return None
    matrix = vtk.vtkMatrix4x4()
    layer.GetImageToWorldMatrix(matrix)
    extent = np.array(layer.GetExtent()).reshape(3, 2)
    return Lattice(layerArray(layer), extent[:, 0], slicer.util.arrayFromVTKMatrix(matrix))


def imageOf(lattice: Lattice):
    """A vtkOrientedImageData with a copy of the labels."""
    image = slicer.vtkOrientedImageData()
    ends = np.stack([lattice.low, lattice.high - 1], axis=1)
    image.SetExtent(*(int(n) for n in ends.ravel()))
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(lattice.world))
    image.GetPointData().SetScalars(
        numpy_to_vtk(np.ascontiguousarray(lattice.values).ravel(), deep=True)
    )
    return image


def resolves(layer: Lattice, volume: Lattice) -> bool:
    """True if each voxel of the volume can be changed on the layer's grid, and read there again.

    So it is if the layer's voxel at the centre of a volume's voxel has its own centre in that one.
    """
    reach = np.abs(layer.to(volume)[:3, :3]).sum(axis=1)
    # What the last digits of a spacing add up to over the whole volume.
    return bool(((reach - 1) * volume.values.shape[::-1] <= TOLERANCE_VOXELS).all())


def _parts(toLayer: np.ndarray, axis: int, volume: Lattice) -> int:
    """Number of parts that a volume's voxel is divided into along an axis (0: i).

    As many as keep a finer layer's voxels as they are or, where the layer's voxels do not add up to
    those of the volume, an odd number: then the centres of the volume's voxels stay centres, and
    what is read there stays the same.
    """
    steps = np.abs(toLayer[:3, axis])
    main = steps.argmax()
    count = volume.values.shape[2 - axis]
    whole = max(1, round(float(steps[main])))
    first = toLayer[main, 3] + toLayer[main, axis] * (1 / whole - 1) / 2
    off = np.abs([first - round(float(first)), (steps[main] - whole) * count])
    aslant = (steps.sum() - steps[main]) * count
    if max(*off, aslant) <= TOLERANCE_VOXELS:
        return whole
    return 2 * int(np.ceil((steps[main] - TOLERANCE_VOXELS - 1) / 2).clip(0)) + 1


def refined(layer: Lattice, volume: Lattice, name: str) -> Lattice:
    """A layer resampled to the volume's grid, whose voxels are divided where the layer is finer.

    What was drawn is kept, also outside the volume.

    Args:
        layer: The layer.
        volume: The volume's grid.
        name: The segmentation's name, for the message.

    Raises:
        InputError: The layer would be too large.
    """
    parts = np.array([_parts(volume.to(layer), axis, volume) for axis in range(3)])
    divided = np.diag([*(1 / parts), 1.0])
    divided[:3, 3] = (1 / parts - 1) / 2
    fine = Lattice(np.zeros((0, 0, 0), layer.values.dtype), layer.low, volume.world @ divided)
    drawn = layer.drawn()
    if drawn is None:
        return fine
    low, high = boxOf(*drawn, layer.to(fine))
    if np.prod(high - low, dtype=float) > MOST_VOXELS:
        size = "x".join(str(n) for n in high - low)
        raise InputError(
            f"the segmentation '{name}' lies on a grid that is coarser than the volume, or turned "
            f"against it. To correct single voxels it would have to be resampled to {size} voxels, "
            f"more than {MOST_VOXELS:.2g}: resample it to the volume's grid first (Segment Editor, "
            "Specify geometry), or crop it."
        )
    return Lattice(layer.labelsIn(fine.to(layer), low, high), low, fine.world)


def drawnVoxels(layer: Lattice, wanted: Lattice) -> np.ndarray:
    """Voxels of a lattice in which something is drawn in a layer, of whatever grid.

    Args:
        layer: The labels of the layer.
        wanted: The lattice.

    Returns:
        Boolean (k, j, i) of `wanted`: True where its centre lies in a labelled voxel, or the centre
        of one in it.
    """
    toLayer = wanted.to(layer)
    found = layer.labelsIn(toLayer, wanted.low, wanted.high) != 0
    low, high = boxOf(wanted.low, wanted.high, toLayer)
    low, high = np.maximum(low, layer.low), np.minimum(high, layer.high)
    if (low < high).all():
        centres = np.argwhere(layer.part(low, high) != 0)[:, ::-1] + low
        back = layer.to(wanted)
        held = nearest_voxel(centres @ back[:3, :3].T + back[:3, 3]).astype(np.int64) - wanted.low
        held = held[((held >= 0) & (held < wanted.values.shape[::-1])).all(axis=1)]
        found[tuple(held[:, ::-1].T)] = True
    return found


def editedLayer(
    layer,
    values: dict[int, int],
    wanted: Lattice,
    volume: Lattice,
    spare: np.ndarray,
    name: str,
    replaced: dict[int, int] | None = None,
) -> Lattice | None:
    """A layer with voxels changed: those whose centres lie in voxels that are to be changed.

    Args:
        layer: The vtkOrientedImageData, which is not changed; None for a new one.
        values: Label values in this layer by segment number; others become 0.
        wanted: Segment numbers from 1, 0 where nothing changes; a part of the volume's grid.
        volume: The volume's grid.
        spare: 4x4, the grid for an empty layer, from index to RAS.
        name: The segmentation's name, for messages.
        replaced: By segment number the only label value of this layer that changes; None if all
            values do.

    Returns:
        The new labels; None if nothing changes.

    Raises:
        InputError: The layer cannot be resampled as far as is needed.
    """
    old = latticeOf(layer)
    if old is None:
        old = Lattice(np.zeros((0, 0, 0), np.uint8), np.zeros(3, int), spare)
    elif not resolves(old, volume):
        old = refined(old, volume, name)
    low, high = boxOf(wanted.low, wanted.high, wanted.to(old))
    numbers = wanted.labelsIn(old.to(wanted), low, high)
    table = np.zeros(int(wanted.values.max()) + 1, np.min_scalar_type(max(values.values())))
    for number, value in values.items():
        if number < table.size:
            table[number] = value
    wish = Lattice(table[numbers], low, old.world)
    kind = np.promote_types(old.values.dtype, table.dtype)
    new = Lattice(old.values.astype(kind), old.low, old.world)
    if (drawn := wish.drawn()) is not None:
        new = new.spanning(*drawn)
    if not new.values.size:
        return None
    inner = np.maximum(low, new.low), np.minimum(high, new.high)
    if (inner[0] >= inner[1]).any():
        return None
    found = Lattice(numbers, low, old.world).part(*inner)
    target = wish.part(*inner)
    part = new.part(*inner)
    changed = (found > 0) & (part != target)
    if replaced is not None:
        only = np.full(table.size, -1, np.int64)
        for number, value in replaced.items():
            if number < only.size:
                only[number] = value
        changed &= part == only[found]
    if not changed.any():
        return None
    part[changed] = target[changed]
    return new
