"""Voxels annotated by correcting a result, stored with the segmentation node.

They are stored with the grid of the volume that was corrected, and found again in any volume of the
same voxels, such as a cropped or flipped one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from ..annotation.carried_slices import carry_voxels
from ..annotation.geometry import Geometry
from ..errors import InputError
from ..runfolder.forms import parse_json, record, rows, text, whole
from ..runfolder.schema import GEOMETRY
from .stored_voxels import DAMAGED, packed, unpacked

ATTRIBUTE = "SparseSegNet.CorrectedVoxels"
VOXELS = record({"voxels": text()}, {"geometry": GEOMETRY, "shape": rows(whole(1), 3, 3)})


@dataclass
class CorrectedVoxels:
    """The corrected voxels of a segmentation node on a volume's grid.

    Attributes:
        voxels: Flat indices, int64 and ascending, into an array (k, j, i) of the volume's shape.
        warning: Warning about voxels that have no place in the volume, or empty.
    """

    voxels: np.ndarray
    warning: str = ""


@dataclass
class _Entry:
    """Corrected voxels as they are stored.

    Attributes:
        voxels: Flat indices, int64 and ascending.
        shape: The volume's shape (k, j, i).
        grid: The volume's grid; None in lists of earlier versions, which had only the shape.
    """

    voxels: np.ndarray
    shape: tuple[int, ...]
    grid: Geometry | None

    def on(self, grid: Geometry) -> np.ndarray | None:
        """Flat indices into an array of another grid; None without a place there."""
        if self.grid is None:
            return self.voxels if self.shape == grid.shape else None
        return carry_voxels(self.voxels, self.grid, grid)


def correctedVoxels(segmentationNode, grid: Geometry) -> CorrectedVoxels:
    """The corrected voxels that are stored with a segmentation node, on a volume's grid.

    Args:
        segmentationNode: The segmentation.
        grid: The volume's grid.

    Returns:
        The voxels, and a warning about those that do not coincide with voxels of the volume.

    Raises:
        InputError: If the node's attribute cannot be parsed.
    """
    voxels, lost = np.zeros(0, np.int64), 0
    for entry in _stored(segmentationNode):
        carried = entry.on(grid)
        if carried is None:
            lost += entry.voxels.size
        else:
            voxels = np.union1d(voxels, carried)
    warning = (
        f"{lost} voxels that were corrected in a volume of other voxels cannot be told from drawn "
        "ones in the present volume: check that no slice with corrections alone is listed as "
        "annotated."
        if lost
        else ""
    )
    return CorrectedVoxels(voxels, warning)


def addCorrectedVoxels(segmentationNode, changed: np.ndarray, grid: Geometry) -> None:
    """Adds corrected voxels to those stored with a segmentation node.

    Args:
        segmentationNode: The segmentation.
        changed: Boolean (k, j, i), the voxels to add.
        grid: The volume's grid.

    Raises:
        InputError: If the node's attribute cannot be parsed.
    """
    voxels, others = np.flatnonzero(changed), []
    for entry in _stored(segmentationNode):
        same = (
            entry.shape == grid.shape if entry.grid is None else entry.grid.difference(grid) is None
        )
        if same:
            voxels = np.union1d(voxels, entry.voxels)
        else:
            others.append(entry)
    entries = [*others, _Entry(voxels, grid.shape, grid)]
    segmentationNode.SetAttribute(ATTRIBUTE, json.dumps([_written(entry) for entry in entries]))


def _written(entry: _Entry) -> dict:
    place: dict = (
        {"shape": list(entry.shape)} if entry.grid is None else {"geometry": entry.grid.to_json()}
    )
    return {**place, "voxels": packed(entry.voxels)}


def _stored(segmentationNode) -> list[_Entry]:
    stored = segmentationNode.GetAttribute(ATTRIBUTE)
    if stored is None:
        return []
    try:
        found = parse_json(stored)
        if isinstance(found, dict):  # of an earlier version
            found = [found]
        rows(VOXELS)(found, "corrections")
        return [_parsed(each) for each in found]
    except (*DAMAGED, KeyError, TypeError) as error:
        raise InputError(
            f"the list of corrected voxels of '{segmentationNode.GetName()}' cannot be read "
            f"({error}): remove the node's attribute {ATTRIBUTE}; slices with corrections may then "
            "be listed as complete ones, so check the list of slices."
        ) from error


def _parsed(found: dict) -> _Entry:
    grid = None
    if "geometry" in found:
        grid = Geometry.from_json(found["geometry"])
        if (fault := grid.fault()) is not None:
            raise ValueError(fault)
    shape = tuple(found["shape"]) if grid is None else grid.shape
    return _Entry(unpacked(found["voxels"], shape), shape, grid)
