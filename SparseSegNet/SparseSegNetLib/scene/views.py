"""Slice views in relation to the planes of a volume's voxel grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations

import numpy as np
import slicer.util
import vtk

from ..annotation.slices import AXES, AnnotatedSlice

ALIGNED = 0.9995  # cosine between a view's normal and a voxel axis: 1.8 degrees

SAME = 0.9  # cosine between the normals of two views that are meant to show the same planes


def sliceNodes(scene) -> list:
    """The scene's slice views, in its order."""
    return slicer.util.getNodesByClass("vtkMRMLSliceNode", scene)


def mappedNodes(volumeNode) -> list:
    """The slice views that the layout shows."""
    return [n for n in sliceNodes(volumeNode.GetScene()) if n.IsMappedInLayout()]


def alignViews(volumeNode) -> None:
    """Rotates every slice view to the nearest voxel plane of the volume and centres it on voxels.

    Centred, since a brush in a position between two planes paints into both. Views of different
    orientations stay different: for a volume at 45 degrees the nearest plane may be the same for
    two of them.

    Args:
        volumeNode: The volume.
    """
    volumeNode.GetIJKToRASMatrix(toRas := vtk.vtkMatrix4x4())
    taken: dict[str, np.ndarray] = {}  # the normal that each axis' first view had before
    for node in sliceNodes(volumeNode.GetScene()):
        normal = _matrix(node.GetSliceToRAS())[:3, 2].copy()
        node.RotateToVolumePlane(volumeNode)
        axis = shownAxis(node, volumeNode)
        if axis in taken and abs(taken[axis] @ normal) < SAME:
            axis = next((a for a in AXES if a not in taken), axis)
            node.RotateToAxes(toRas, AXES.index(axis))
        taken.setdefault(axis, normal)
        position = _matrix(node.GetSliceToRAS())[:3, 3]
        node.JumpSliceByOffsetting(*_centred(volumeNode, position))


@contextmanager
def sameSlices(volumeNode) -> Iterator[None]:
    """Context after which every slice view shows the slice that it showed before.

    Fitting a view to the volume moves it to the volume's middle.

    Args:
        volumeNode: The volume.
    """
    nodes = sliceNodes(volumeNode.GetScene())
    positions = [_matrix(node.GetSliceToRAS())[:3, 3].copy() for node in nodes]
    yield
    for node, position in zip(nodes, positions, strict=True):
        node.JumpSliceByOffsetting(*position)


def shownPlane(sliceNode, volumeNode) -> AnnotatedSlice | None:
    """The voxel plane that a view shows; None if it is not aligned or outside the volume."""
    axis = shownAxis(sliceNode, volumeNode)
    if axis is None:
        return None
    position = _ijk(volumeNode, _matrix(sliceNode.GetSliceToRAS())[:3, 3])[AXES.index(axis)]
    index = round(float(position))
    if not 0 <= index < volumeNode.GetImageData().GetDimensions()[AXES.index(axis)]:
        return None
    return AnnotatedSlice(axis, index)


def shownPlanes(volumeNode) -> dict[str, AnnotatedSlice | None]:
    """`shownPlane` of each view in the layout, by the view's name."""
    return {node.GetName(): shownPlane(node, volumeNode) for node in mappedNodes(volumeNode)}


def shownAxis(sliceNode, volumeNode) -> str | None:
    """The voxel axis ('i', 'j' or 'k') normal to a view's plane; None if it is not aligned."""
    volumeNode.GetIJKToRASDirectionMatrix(matrix := vtk.vtkMatrix4x4())
    directions = _matrix(matrix)[:3, :3]
    normal = _matrix(sliceNode.GetSliceToRAS())[:3, 2]
    along = np.abs(directions.T @ normal) / np.linalg.norm(normal)
    return AXES[int(along.argmax())] if along.max() > ALIGNED else None


def visibleBox(sliceNode, volumeNode) -> tuple | None:
    """The visible part of a view's voxel plane.

    Args:
        sliceNode: The slice view's node.
        volumeNode: The volume.

    Returns:
        The box of an AnnotatedSlice; None if the view shows the whole plane, nothing of it, or no
        voxel plane.
    """
    plane = shownPlane(sliceNode, volumeNode)
    if plane is None:
        return None
    width, height = sliceNode.GetFieldOfView()[:2]
    toRas = _matrix(sliceNode.GetSliceToRAS())
    corners = np.array(
        [
            _ijk(volumeNode, (toRas @ [x, y, 0, 1])[:3])
            for x in (-width / 2, width / 2)
            for y in (-height / 2, height / 2)
        ]
    )
    size = volumeNode.GetImageData().GetDimensions()
    box, whole = [], True
    for axis in [a for a in (2, 1, 0) if a != AXES.index(plane.axis)]:
        # A voxel counts as shown when its centre is.
        low = max(0, int(np.ceil(corners[:, axis].min() - 1e-6)))
        high = min(size[axis], int(np.floor(corners[:, axis].max() + 1e-6)) + 1)
        if low >= high:
            return None
        whole = whole and (low, high) == (0, size[axis])
        box.append((low, high))
    return None if whole else tuple(box)


def jumpToSlice(volumeNode, item: AnnotatedSlice) -> None:
    """Shows a slice in the views of its axis; the other views stay where they are."""
    size = volumeNode.GetImageData().GetDimensions()
    centre = [(n - 1) / 2 for n in size]
    centre[AXES.index(item.axis)] = item.index
    for node in sliceNodes(volumeNode.GetScene()):
        if shownAxis(node, volumeNode) == item.axis:
            node.JumpSliceByOffsetting(*_ras(volumeNode, centre))


def showSlice(volumeNode, item: AnnotatedSlice) -> None:
    """Aligns the views and shows a slice in one at least that the layout shows.

    If none of them shows slices of its axis the first one is turned.
    """
    alignViews(volumeNode)
    shown = mappedNodes(volumeNode)
    if shown and all(shownAxis(node, volumeNode) != item.axis for node in shown):
        volumeNode.GetIJKToRASMatrix(toRas := vtk.vtkMatrix4x4())
        shown[0].RotateToAxes(toRas, AXES.index(item.axis))
    jumpToSlice(volumeNode, item)


def jumpToVoxel(volumeNode, voxel: tuple[int, int, int]) -> None:
    """Shows a voxel (k, j, i) in all views."""
    position = _ras(volumeNode, tuple(reversed(voxel)))
    for node in sliceNodes(volumeNode.GetScene()):
        node.JumpSliceByOffsetting(*position)


def _centred(volumeNode, position) -> np.ndarray:
    size = np.array(volumeNode.GetImageData().GetDimensions())
    return _ras(volumeNode, np.clip(np.round(_ijk(volumeNode, position)), 0, size - 1))


def _ijk(volumeNode, ras) -> np.ndarray:
    volumeNode.GetRASToIJKMatrix(matrix := vtk.vtkMatrix4x4())
    return (_matrix(matrix) @ [*ras, 1])[:3]


def _ras(volumeNode, ijk) -> np.ndarray:
    volumeNode.GetIJKToRASMatrix(matrix := vtk.vtkMatrix4x4())
    return (_matrix(matrix) @ [*ijk, 1])[:3]


def _matrix(matrix) -> np.ndarray:
    return slicer.util.arrayFromVTKMatrix(matrix)


def axisNames(volumeNode) -> dict[str, str]:
    """Anatomical names of the slices along each voxel axis.

    Args:
        volumeNode: The volume.

    Returns:
        'sagittal', 'coronal' or 'axial' per axis, each once: the assignment that fits the volume's
        directions best.
    """
    directions = [[0.0] * 3 for _ in range(3)]
    volumeNode.GetIJKToRASDirections(directions)
    along = np.abs(np.array(directions))  # rows R, A, S; columns i, j, k
    best = max(
        permutations(range(3)), key=lambda rows: sum(along[r, c] for c, r in enumerate(rows))
    )
    return {
        axis: ("sagittal", "coronal", "axial")[row] for axis, row in zip(AXES, best, strict=True)
    }


def viewUnderMouse(scene) -> str | None:
    """The name of the slice view that the mouse was in last, or None."""
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    node = None if crosshair is None else crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0])
    return None if node is None else node.GetName()
