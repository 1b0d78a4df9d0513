"""Volume nodes in and out: their voxel grid and their voxels as one (c, k, j, i) array."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import slicer
import vtk

from ..annotation.geometry import Geometry
from ..errors import InputError

HARDEN = ("harden the transform first (Transforms module, or node.HardenTransform()), "
          "or take the node out of it.")


def checkVolume(volumeNode) -> None:
    """Raise InputError unless this is a volume node with voxels and without a parent transform."""
    if volumeNode is None:
        raise InputError("no volume is given: choose the volume to segment.")
    if not isinstance(volumeNode, slicer.vtkMRMLScalarVolumeNode):
        raise InputError(f"{describe(volumeNode)} is no image: expected a scalar or vector volume.")
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise InputError(f"the volume '{volumeNode.GetName()}' has no voxels: load its image "
                         "or choose another volume.")
    if volumeNode.GetParentTransformNode() is not None:
        raise InputError(f"the volume '{volumeNode.GetName()}' is under the transform "
                         f"'{volumeNode.GetParentTransformNode().GetName()}': {HARDEN}")


def volumeGeometry(volumeNode) -> Geometry:
    """The voxel grid of a volume node in LPS, spacing and origin in mm.

    The node's RAS values only change sign, so they come back to the last bit from
    `setVolumeGeometry`. Raises InputError as `checkVolume` does.
    """
    checkVolume(volumeNode)
    image = volumeNode.GetImageData()
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASDirectionMatrix(matrix)
    directions = [matrix.GetElement(row, column) for row in range(3) for column in range(3)]
    origin = volumeNode.GetOrigin()
    first = image.GetExtent()[::2]
    if any(first):
        # MRML's origin is that of index (0, 0, 0), ours that of the first voxel there is.
        ijkToRAS = vtk.vtkMatrix4x4()
        volumeNode.GetIJKToRASMatrix(ijkToRAS)
        origin = ijkToRAS.MultiplyPoint((*first, 1.0))[:3]
    return Geometry(image.GetDimensions(), volumeNode.GetSpacing(), _flip(origin),
                    _flip(directions[:3], directions[3:6], directions[6:]))


def setVolumeGeometry(volumeNode, geometry: Geometry) -> None:
    """Give a volume node the spacing, origin and directions of a grid (not its size)."""
    rows = _flip(*(geometry.directions[n:n + 3] for n in (0, 3, 6)))
    matrix = vtk.vtkMatrix4x4()
    for n, value in enumerate(rows):
        matrix.SetElement(n // 3, n % 3, value)
    volumeNode.SetSpacing(geometry.spacing)
    volumeNode.SetOrigin(_flip(geometry.origin))
    volumeNode.SetIJKToRASDirectionMatrix(matrix)


def volumeArray(volumeNodes) -> np.ndarray:
    """The voxels of one volume node, or of several on the same grid, as (c, k, j, i).

    A vector volume gives one channel for each component. The array of a single volume shares
    its memory: do not write to it.
    Raises InputError as `checkVolume` does, and when the grids differ.
    """
    nodes = asVolumes(volumeNodes)
    first = volumeGeometry(nodes[0])
    for other in nodes[1:]:
        difference = first.difference(volumeGeometry(other))
        if difference is not None:
            raise InputError(
                f"the volumes '{nodes[0].GetName()}' and '{other.GetName()}' lie on different "
                f"grids: {difference}. Resample one to the other (Resample Scalar Volume module).")
    channels = [_channels(node) for node in nodes]
    return channels[0] if len(channels) == 1 else np.concatenate(channels)


def channelNames(volumeNodes) -> list[str]:
    """What each channel of `volumeArray` is called: the node's name, numbered in vector volumes."""
    names = []
    for node in asVolumes(volumeNodes):
        count = node.GetImageData().GetNumberOfScalarComponents()
        names += ([node.GetName()] if count == 1 else
                  [f"{node.GetName()} {n + 1}" for n in range(count)])
    return names


def asVolumes(volumeNodes) -> list:
    """One volume node, or several, as a list; InputError when there is none."""
    if isinstance(volumeNodes, Iterable) and not isinstance(volumeNodes, (str, bytes)):
        nodes = list(volumeNodes)
        if not nodes:
            raise InputError("no volume is given: choose the volume to segment.")
    else:
        nodes = [volumeNodes]
    for node in nodes:
        checkVolume(node)
    return nodes


def describe(node) -> str:
    """A node, or whatever was given in its place, in words for a message."""
    if isinstance(node, slicer.vtkMRMLNode):
        return f"'{node.GetName()}' ({node.GetClassName()})"
    return f"{node!r}"


def _channels(volumeNode) -> np.ndarray:
    image = volumeNode.GetImageData()
    scalars = image.GetPointData().GetScalars()
    i, j, k = image.GetDimensions()
    voxels = vtk.util.numpy_support.vtk_to_numpy(scalars)
    return np.moveaxis(voxels.reshape(k, j, i, scalars.GetNumberOfComponents()), -1, 0)


def _flip(first, second=None, third=None) -> tuple[float, ...]:
    """A position, or three rows of a matrix, from RAS to LPS or back."""
    if second is None:
        # Subtracting from zero, unlike negating, never makes a -0.0, and is as exact.
        return 0.0 - first[0], 0.0 - first[1], float(first[2])
    return (*(0.0 - v for v in first), *(0.0 - v for v in second), *map(float, third))
