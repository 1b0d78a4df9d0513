"""Voxels taken over from a prediction into the annotation, stored with the segmentation node.

They do not count as annotation before the user confirms the slice: marks it as complete, or
corrects it, so that it is listed. What was taken over stays stored after that and after it was
undone, since undo and redo of the editor may draw it again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..annotation.carried_slices import carry_slice
from ..annotation.carry import carry
from ..annotation.geometry import Geometry
from ..annotation.grid_map import GridMap
from ..annotation.slices import AnnotatedSlice, check_slices, in_slices
from ..errors import InputError
from ..runfolder.forms import mapping, of_type, parse_json, record, rows, text
from ..runfolder.schema import GEOMETRY
from .corrected_voxels import correctedVoxels
from .slice_list import listedSlices
from .stored_voxels import DAMAGED, packed, unpacked

ATTRIBUTE = "SparseSegNet.TakenOver"
FORM = rows(
    record({"geometry": GEOMETRY, "slice": of_type(AnnotatedSlice), "segments": mapping(text())})
)


@dataclass(frozen=True)
class TakenOver:
    """A prediction in one slice that was taken over as drawn.

    Attributes:
        slices: The slice on the grid `grid`; several on a finer one than it was taken over on, none
            where it has no place.
        voxels: Flat indices, int64 and ascending, into an array (k, j, i) of the grid, by segment
            ID.
        grid: The grid.
    """

    slices: tuple[AnnotatedSlice, ...]
    voxels: dict[str, np.ndarray]
    grid: Geometry

    def on(self, grid: Geometry) -> TakenOver:
        """The same voxels on another grid."""
        if self.grid.difference(grid) is None:
            return self
        slices = [found for item in self.slices for found in carry_slice(item, self.grid, grid)]
        numbers = np.zeros(self.grid.shape, np.uint8)
        for number, voxels in enumerate(self.voxels.values(), start=1):
            numbers.ravel()[voxels] = number
        carried = carry(numbers, GridMap.between(self.grid, grid), 0).ravel()
        found = {
            segmentId: np.flatnonzero(carried == number)
            for number, segmentId in enumerate(self.voxels, start=1)
        }
        return TakenOver(tuple(slices), found, grid)

    def held(self, labels: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Flat indices of the voxels that hold still (or again) what was taken over.

        Args:
            labels: uint8 (k, j, i) on the grid, n for the n-th of `ids`.
            ids: Segment IDs.
        """
        flat = labels.ravel()
        parts = [
            voxels[flat[voxels] == ids.index(segmentId) + 1]
            for segmentId, voxels in self.voxels.items()
            if segmentId in ids
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def outside(self, slices: Collection[AnnotatedSlice], others: np.ndarray) -> TakenOver:
        """The same without voxels in these slices of the grid, and others (flat indices)."""
        left = {}
        for segmentId, voxels in self.voxels.items():
            gone = in_slices(voxels, slices, self.grid.shape) | np.isin(voxels, others)
            left[segmentId] = voxels[~gone]
        return TakenOver(self.slices, left, self.grid)


def unconfirmed(segmentationNode, grid: Geometry) -> list[TakenOver]:
    """The predictions that were taken over in slices, or parts of slices, that are not listed.

    Args:
        segmentationNode: The segmentation.
        grid: The volume's grid, on which they are returned.

    Returns:
        One item for each time that a prediction was taken over; voxels that were corrected in a
        result are left out.

    Raises:
        InputError: If an attribute of the node cannot be parsed.
    """
    found = []
    for entry in stored(segmentationNode):
        # On its own grid: on another one a confirmed slice may have no place.
        listed = listedSlices(segmentationNode, entry.grid)
        places = {s.place for s in entry.slices}
        confirmed = [s for s in (listed.slices if listed else ()) if s.place in places]
        if any(s.box is None for s in confirmed):
            continue
        corrected = correctedVoxels(segmentationNode, entry.grid).voxels
        found.append(entry.outside(confirmed, corrected).on(grid))
    return found


def heldVoxels(entries: Iterable[TakenOver], labels: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Flat indices of the voxels that hold what was taken over, see `TakenOver.held`."""
    parts = [entry.held(labels, ids) for entry in entries]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))


def stored(segmentationNode) -> list[TakenOver]:
    """All that was ever taken over, each on the grid that it was taken over on.

    Raises:
        InputError: If the node's attribute cannot be parsed.
    """
    kept = segmentationNode.GetAttribute(ATTRIBUTE)
    if kept is None:
        return []
    try:
        found = parse_json(kept)
        FORM(found, "predictions")
        return [_parsed(each) for each in found]
    except (*DAMAGED, KeyError, TypeError, InputError) as error:
        raise InputError(
            f"the list of predictions taken over into '{segmentationNode.GetName()}' cannot be "
            f"read ({error}): check the slices that it was taken over in, list those that are "
            f"right, empty the others, and remove the node's attribute {ATTRIBUTE}."
        ) from error


def store(segmentationNode, entry: TakenOver) -> None:
    """Adds a prediction that was taken over to those stored with a segmentation node.

    Raises:
        InputError: If the node's attribute cannot be parsed.
    """
    entries = [*stored(segmentationNode), entry]
    texts = list(dict.fromkeys(json.dumps(_written(each)) for each in entries))
    segmentationNode.SetAttribute(ATTRIBUTE, f"[{', '.join(texts)}]")


def _written(entry: TakenOver) -> dict:
    (item,) = entry.slices
    return {
        "geometry": entry.grid.to_json(),
        "slice": item.to_json(),
        "segments": {i: packed(voxels) for i, voxels in entry.voxels.items() if voxels.size},
    }


def _parsed(found: dict) -> TakenOver:
    grid = Geometry.from_json(found["geometry"])
    if (fault := grid.fault()) is not None:
        raise ValueError(fault)
    item = AnnotatedSlice.from_json(found["slice"])
    check_slices([item], grid.shape)
    segments = found["segments"]
    return TakenOver((item,), {i: unpacked(segments[i], grid.shape) for i in segments}, grid)
