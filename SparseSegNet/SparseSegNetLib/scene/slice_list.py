"""The list of annotated slices, stored with the segmentation node (and so in .mrb files).

Each slice is stored with the grid of the volume that it was annotated in, and read as the slices of
the present volume at the same place. The stored ones stay until they are changed by the user:
another volume, such as a cropped one, loses nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from ..annotation.carried_slices import carry_slice
from ..annotation.geometry import Geometry
from ..annotation.parallel_grids import parallel_axes
from ..annotation.slices import AXES, AnnotatedSlice, Box, array_axis, check_slices
from ..errors import InputError
from ..runfolder.forms import parse_json, record, rows, whole
from ..runfolder.schema import GEOMETRY, SLICES

ATTRIBUTE = "SparseSegNet.AnnotatedSlices"


@dataclass
class SliceList:
    """The annotated slices of a segmentation node on a volume's grid.

    Attributes:
        slices: The slices in the order of axis and index, each with True if the user marked it as
            complete (False: it was detected from painting).
        warning: Warning about slices that have no place in the volume, or empty.
    """

    slices: dict[AnnotatedSlice, bool]
    warning: str = ""


@dataclass(frozen=True)
class _Entry:
    """A slice as it is stored.

    Attributes:
        slice: The slice.
        stated: True if the user marked it as complete.
        grid: The grid that it belongs to; None in lists of earlier versions, which did not say so.
    """

    slice: AnnotatedSlice
    stated: bool
    grid: Geometry | None

    def on(self, grid: Geometry) -> list[AnnotatedSlice]:
        """The slices of another grid at the same place."""
        return [self.slice] if self.grid is None else carry_slice(self.slice, self.grid, grid)


def listedSlices(segmentationNode, grid: Geometry) -> SliceList | None:
    """The annotated slices that are stored with a segmentation node, on a volume's grid.

    Args:
        segmentationNode: The segmentation.
        grid: The volume's grid.

    Returns:
        The slices and a warning. None if no list was ever stored.

    Raises:
        InputError: If the node's attribute cannot be parsed.
    """
    entries = _stored(segmentationNode)
    if entries is None:
        return None
    return SliceList(_merged(entries, grid), _warning(entries, grid))


def listSlices(segmentationNode, slices: dict[AnnotatedSlice, bool] | None, grid: Geometry) -> None:
    """Stores the list of annotated slices with the node.

    Slices of other grids stay as they are unless they changed on this one.

    Args:
        segmentationNode: The segmentation.
        slices: The slices, each with True if the user marked it as complete. None removes the
            list, so that slices are detected again.
        grid: The grid of the volume that the slices belong to.

    Raises:
        InputError: If the list that is stored cannot be parsed.
    """
    if slices is None:
        segmentationNode.RemoveAttribute(ATTRIBUTE)
        return
    kept: list[_Entry] = []
    held: set[AnnotatedSlice] = set()
    listed = {_place(item): item for item in slices}
    for entry in _stored(segmentationNode) or []:
        found = entry.on(grid)
        if entry.grid is None or not all(
            _within(item, listed.get(_place(item)), entry.grid == grid) for item in found
        ):
            continue
        stated = {slices[listed[_place(item)]] for item in found} or {entry.stated}
        if len(stated) == 1:
            began = {listed[_place(item)].prefilled for item in found} or {entry.slice.prefilled}
            known = replace(entry.slice, prefilled=any(began))
            kept.append(replace(entry, slice=known, stated=stated.pop()))
            held.update(found)
    new = [_Entry(item, stated, grid) for item, stated in slices.items() if item not in held]
    text = _written([*kept, *sorted(new, key=lambda entry: _place(entry.slice))])
    if text != segmentationNode.GetAttribute(ATTRIBUTE):
        segmentationNode.SetAttribute(ATTRIBUTE, text)


def _place(item: AnnotatedSlice) -> tuple[str, int]:
    return item.axis, item.index


def _within(item: AnnotatedSlice, other: AnnotatedSlice | None, same: bool) -> bool:
    """True if a slice is another one at its place or, unless `same`, lies within it."""
    if other is None or other == item or same:
        return other == item
    if other.box is None or item.box is None:
        return other.box is None
    return all(
        low <= inner_low and inner_high <= high
        for (low, high), (inner_low, inner_high) in zip(other.box, item.box, strict=True)
    )


def _merged(entries: list[_Entry], grid: Geometry) -> dict[AnnotatedSlice, bool]:
    """The slices on a grid; of several at one place the largest."""
    found: dict[tuple[str, int], tuple[int, Box | None, bool, bool]] = {}
    for entry in entries:
        for item in entry.on(grid):
            size, box, stated, prefilled = found.get(_place(item), (-1, None, False, False))
            own = _size(item, grid)
            if own >= size:
                size, box = own, item.box
            found[_place(item)] = size, box, stated or entry.stated, prefilled or item.prefilled
    return {
        AnnotatedSlice(axis, index, box, prefilled): stated
        for (axis, index), (_, box, stated, prefilled) in sorted(
            found.items(), key=lambda pair: pair[0]
        )
    }


def _size(item: AnnotatedSlice, grid: Geometry) -> int:
    """Number of voxels in a slice."""
    across = array_axis(item.axis)
    plane = [n for axis, n in enumerate(grid.shape) if axis != across]
    first, second = item.box or tuple((0, n) for n in plane)
    return (first[1] - first[0]) * (second[1] - second[0])


def _warning(entries: list[_Entry], grid: Geometry) -> str:
    absent = [entry for entry in entries if not entry.on(grid)]
    turned = [e for e in absent if e.grid is not None and parallel_axes(e.grid, grid) is None]
    reasons = []
    for count, reason in (
        (len(absent) - len(turned), "outside the volume"),
        (len(turned), "in a volume whose axes are not parallel to those of the present one"),
    ):
        if count:
            what = "annotated slices" if len(entries) > 1 else "annotated slice"
            lie = "lie" if count > 1 else "lies"
            reasons.append(f"{count} of {len(entries)} {what} {lie} {reason}")
    if not reasons:
        return ""
    kept = (
        "They do not count, and are kept for the volume that they were annotated in."
        if len(absent) > 1
        else "It does not count, and is kept for the volume that it was annotated in."
    )
    return f"{' and '.join(reasons)}. {kept}"


def _written(entries: list[_Entry]) -> str:
    grids = list(dict.fromkeys(entry.grid for entry in entries if entry.grid is not None))
    return json.dumps(
        {
            "grids": [grid.to_json() for grid in grids],
            "slices": [
                {
                    **entry.slice.to_json(),
                    **({"stated": True} if entry.stated else {}),
                    "grid": grids.index(entry.grid),
                }
                for entry in entries
                if entry.grid is not None
            ],
        }
    )


def _stored(segmentationNode) -> list[_Entry] | None:
    text = segmentationNode.GetAttribute(ATTRIBUTE)
    if text is None:
        return None
    try:
        return _parsed(text)
    except (ValueError, TypeError, InputError) as error:
        raise InputError(
            f"the list of annotated slices of '{segmentationNode.GetName()}' cannot be read "
            f"({error}): remove the node's attribute {ATTRIBUTE}, and the slices will be detected "
            "from what is drawn."
        ) from error


def _parsed(text: str) -> list[_Entry]:
    found = parse_json(text)
    if isinstance(found, list):  # of an earlier version, without grids
        SLICES(found, "slices")
        if any(item["axis"] not in tuple(AXES) for item in found):
            raise ValueError("the axis of a slice must be i, j or k")
        return [_Entry(AnnotatedSlice.from_json(i), bool(i.get("stated")), None) for i in found]
    record({"grids": rows(GEOMETRY), "slices": SLICES})(found, "")
    grids = [Geometry.from_json(each) for each in found["grids"]]
    for n, grid in enumerate(grids):
        if (fault := grid.fault()) is not None:
            raise ValueError(f"grids[{n}]: {fault}")
    entries = []
    for n, each in enumerate(found["slices"]):
        record({"grid": whole(0, len(grids) - 1)})(each, f"slices[{n}]")
        entry = _Entry(
            AnnotatedSlice.from_json(each), bool(each.get("stated")), grids[each["grid"]]
        )
        check_slices([entry.slice], grids[each["grid"]].shape)
        entries.append(entry)
    return entries
