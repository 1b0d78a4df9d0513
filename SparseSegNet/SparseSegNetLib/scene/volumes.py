"""Grid and voxels of MRML volume nodes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import slicer.util

from ..annotation.geometry import Geometry
from ..annotation.pieces import memory, pieces
from ..errors import InputError
from ..steps import Overtaken, Steps, finished

# MRML's frame is RAS, ours (and the files') is LPS: two signs, which is exact.
FLIP = (-1.0, -1.0, 1.0)


def volumeGeometry(volumeNode) -> Geometry:
    """The voxel grid of a volume node, in LPS.

    Args:
        volumeNode: The node, or None.

    Returns:
        The grid.

    Raises:
        InputError: If the node is None or no volume, has no voxels, or is under a transform.
    """
    refuseOthers(volumeNode, "volume", "vtkMRMLVolumeNode", "choose a loaded volume")
    image = None if volumeNode is None else volumeNode.GetImageData()
    if image is None or 0 in image.GetDimensions():
        name = (
            "no volume is chosen"
            if volumeNode is None
            else f"the volume '{volumeNode.GetName()}' has no voxels"
        )
        raise InputError(f"{name}: choose a loaded volume.")
    refuseTransformed(volumeNode, "volume")
    directions = [[0.0] * 3 for _ in range(3)]
    volumeNode.GetIJKToRASDirections(directions)
    # Adding zero turns -0.0 into 0.0, which would look odd in messages and files.
    return Geometry(
        tuple(image.GetDimensions()),
        tuple(volumeNode.GetSpacing()),
        tuple(f * x + 0.0 for f, x in zip(FLIP, volumeNode.GetOrigin(), strict=True)),
        tuple(f * x + 0.0 for f, row in zip(FLIP, directions, strict=True) for x in row),
    )


def volumeArray(volumeNodes: Sequence) -> np.ndarray:
    """The voxels of one or several volume nodes.

    Args:
        volumeNodes: Volume nodes on one grid; a vector volume gives its components as channels.

    Returns:
        A copy, (c, k, j, i), in the nodes' own type.

    Raises:
        InputError: If a node cannot be used (see `volumeGeometry`), the nodes lie on different
            grids, or voxels are not finite.
    """
    return finished(readVolume(volumeNodes))


def readVolume(volumeNodes: Sequence) -> Steps[np.ndarray]:
    """Copies the voxels of volume nodes in steps (see `steps`), as `volumeArray`."""
    try:
        image = yield from _copied(volumeNodes)
    except Overtaken:
        image = finished(_copied(volumeNodes))
    if np.issubdtype(image.dtype, np.floating) and (bad := (yield partial(_notFinite, image))):
        raise InputError(
            f"the volume '{volumeNodes[0].GetName()}' has {bad} voxels that are not "
            "finite (NaN or infinite): replace them first."
        )
    return image


def _copied(volumeNodes: Sequence) -> Steps[np.ndarray]:
    begun, found = _version(volumeNodes), _channels(volumeNodes)
    shape, dtype = found[0].shape, np.result_type(*found)
    count = len(found)
    del found  # nothing of the scene is held between steps
    image = yield from memory((count, *shape), dtype)
    for number, channel in enumerate(image):
        for part in pieces(channel):
            if _version(volumeNodes) != begun:
                raise Overtaken
            channel[part] = _channels(volumeNodes)[number][part]
            yield None
    if _version(volumeNodes) != begun:
        raise Overtaken
    return image


def _version(volumeNodes: Sequence) -> list:
    """Differs once the voxels of a node, or their places, were changed."""
    found = []
    for node in volumeNodes:
        image = node.GetImageData()
        scalars = None if image is None else image.GetPointData().GetScalars()
        times = [0 if each is None else each.GetMTime() for each in (image, scalars)]
        found += [volumeGeometry(node), *times]
    return found


def _notFinite(image: np.ndarray) -> int:
    return int(np.count_nonzero(~np.isfinite(image)))


def _channels(volumeNodes: Sequence) -> list[np.ndarray]:
    """The voxels of the nodes, in place, (k, j, i) for each channel."""
    channels: list[np.ndarray] = []
    first = volumeGeometry(volumeNodes[0] if volumeNodes else None)
    for node in volumeNodes:
        if (difference := first.difference(volumeGeometry(node))) is not None:
            raise InputError(
                f"the volumes '{volumeNodes[0].GetName()}' and '{node.GetName()}' lie on different "
                f"grids: {difference}. Resample one to the other (Resample Scalar/Vector/DWI "
                "Volume)."
            )
        voxels = slicer.util.arrayFromVolume(node)
        channels += [voxels] if voxels.ndim == 3 else list(np.moveaxis(voxels, -1, 0))
    return channels


def channelNames(volumeNodes: Sequence) -> list[str]:
    """The names of `volumeArray`'s channels: the nodes' names, numbered in a vector volume."""
    names = []
    for node in volumeNodes:
        name, count = node.GetName() or "", slicer.util.arrayFromVolume(node).shape[3:]
        names += [f"{name} {n}" for n in range(1, count[0] + 1)] if count else [name]
    return names


def refuseChanged(volumeNode, grid: Geometry) -> None:
    """Raises InputError if a volume no longer has the grid that was read of it."""
    if (difference := grid.difference(volumeGeometry(volumeNode))) is not None:
        raise InputError(
            f"the volume '{volumeNode.GetName()}' was changed while the run was prepared: "
            f"{difference} (then against now). Begin it again."
        )


def refuseOthers(node, kind: str, className: str, remedy: str) -> None:
    """Refuses what is no node of a class; None passes.

    Args:
        node: The node, or what the console was given for one.
        kind: Of the node, for the message, such as 'volume'.
        className: Of the nodes that can be used.
        remedy: For the message.

    Raises:
        InputError: If it is something else.
    """
    if isinstance(node, str):
        raise InputError(
            f"'{node}' is a name: give the {kind} itself, slicer.util.getNode({node!r})."
        )
    if node is not None and not node.IsA(className):
        raise InputError(f"'{node.GetName()}' is no {kind} ({node.GetClassName()}): {remedy}.")


def refuseTransformed(node, kind: str) -> None:
    """Refuses a node under a transform, whose voxels are not where its own matrix puts them.

    Args:
        node: The node.
        kind: Its kind, for the message, such as 'volume'.

    Raises:
        InputError: If the node is under a transform.
    """
    if node.GetParentTransformNode() is not None:
        raise InputError(
            f"the {kind} '{node.GetName()}' is under the transform "
            f"'{node.GetParentTransformNode().GetName()}': harden it (Transforms, Apply transform) "
            "or take the node out of it."
        )
