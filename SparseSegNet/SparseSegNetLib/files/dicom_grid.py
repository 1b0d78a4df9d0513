"""Puts DICOM slices on a grid by their positions, or says why they lie on none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..annotation.geometry import TOLERANCE_VOXELS, Geometry
from ..errors import InputError
from .dicom_headers import DicomSlice

# Positions are rounded decimals: what rounding explains is no fault, up to this share of a voxel.
MOST_ROUNDING = 0.05
MISSING = 1.5  # times the usual gap: from there on slices are missing
IN_SLICER = "load the folder in Slicer, check the volume and save it as .nrrd"


def sort_slices(slices: Sequence[DicomSlice], source: Path, what: str) -> list[DicomSlice]:
    """The slices along their normal, after a check that they are parallel and of one size.

    Args:
        slices: The slices, at least one.
        source: The folder or file, for messages.
        what: Its role, for messages.

    Raises:
        InputError: Sizes, pixel spacings or orientations are mixed, or positions are missing.
    """
    first = slices[0]
    for one in slices:
        if one.position is None or one.row is None or one.column is None:
            raise InputError(
                f"{what} {source}: the header of {one.name} has no position and orientation of "
                "the slice (0020,0032 and 0020,0037), so its place in the volume is not known. "
                f"Take it out, or {IN_SLICER}."
            )
    for one in slices:
        if one.size != first.size:
            found = ("sizes", f"{_times(first.size)} pixels", f"{_times(one.size)} pixels")
        elif not np.allclose(_edges(one)[0], _edges(first)[0], rtol=0, atol=_near(first)):
            if _angle(one, first) < 1e-3:
                mm = f"{_times(first.spacing)} mm", f"{_times(one.spacing)} mm"
                found = ("pixel spacings", *mm)
            else:
                found = ("orientations", _directions(first), _directions(one))
        else:
            continue
        raise InputError(
            f"{what} {source} holds slices of different {found[0]}: {found[1]} in {first.name}, "
            f"{found[2]} in {one.name}. They are no volume together: keep those that belong "
            f"together in a folder of their own, or {IN_SLICER}."
        )
    return sorted(slices, key=lambda one: float(np.dot(one.position or (), normal(first))))


def image_grid(slices: Sequence[DicomSlice], source: Path, what: str, notes: list[str]) -> Geometry:
    """The grid of slices that follow each other without a gap.

    Args:
        slices: What `sort_slices` returned.
        source: The folder or file, for messages.
        what: Its role, for messages.
        notes: Gets messages for the user.

    Raises:
        InputError: Slices are missing or doubled, or the gaps between them differ.
    """
    along = depths(slices)
    gaps = np.diff(along)
    if len(gaps):
        usual = float(np.median(gaps))
        _refuse_doubled(slices, gaps, source, what)
        for n in np.flatnonzero(gaps > MISSING * usual).tolist():
            count = max(1, round(gaps[n] / usual) - 1)
            raise InputError(
                f"{what} {source}: between {slices[n].name} (at {along[n]:.6g} mm along the "
                f"normal) and {slices[n + 1].name} (at {along[n + 1]:.6g} mm) the gap is "
                f"{gaps[n]:.4g} mm, usual are {usual:.4g} mm: {count} slice"
                f"{'s are' if count > 1 else ' is'} missing. Copy the series again, or "
                f"{IN_SLICER}."
            )
    return placed(slices, range(len(slices)), source, what, notes)


def placed(
    slices: Sequence[DicomSlice],
    planes: Sequence[int],
    source: Path,
    what: str,
    notes: list[str],
) -> Geometry:
    """The grid on which each slice lies in the plane of the given number.

    A regular shift to the side from slice to slice (the gantry of a CT was tilted) becomes the
    direction of the third axis.

    Args:
        slices: What `sort_slices` returned.
        planes: The number of the plane of each, from 0.
        source: The folder or file, for messages.
        what: Its role, for messages.
        notes: Gets messages for the user.

    Raises:
        InputError: The slices are not evenly spaced.
    """
    first, up = slices[0], normal(slices[0])
    places = np.array([one.position for one in slices])
    if planes[-1] == 0:
        step = up * (first.thickness or 1.0)
        if len(slices) == 1 and not first.thickness:
            notes.append(f"{source}: the header gives no slice thickness: 1 mm is taken.")
    else:
        step = (places[-1] - places[0]) / planes[-1]
    height = float(step @ up)
    near = _tolerance(slices, height)
    off = np.abs(places - places[0] - np.outer(planes, step)).max(axis=1)
    if (worst := int(off.argmax())) and off[worst] > near:
        gaps = np.diff(depths(slices)) / np.diff(planes)
        raise InputError(
            f"{what} {source} is not evenly spaced: {slices[worst].name} lies {off[worst]:.3g} mm "
            f"beside its place between the first and the last of {len(slices)} slices, "
            f"{near:.2g} mm are allowed (a hundredth of a voxel); the gaps are {gaps.min():.6g} "
            f"to {gaps.max():.6g} mm. To resample it to even gaps, {IN_SLICER}."
        )
    sideways = step - height * up
    shift = float(np.linalg.norm(sideways))
    if shift * max(1, planes[-1]) <= near:
        step = height * up
    else:
        notes.append(
            f"{source}: gantry tilt of {math.degrees(math.atan2(shift, height)):.3g} degrees: each "
            f"slice lies {shift:.3g} mm further to the side. The slices stay as they are and the "
            "tilt is kept in the directions of the axes."
        )
    length = float(np.linalg.norm(step))
    axes = np.column_stack([np.array(first.row), np.array(first.column), step / length])
    x, y, z = map(float, first.position or ())
    return Geometry(
        (*first.size, planes[-1] + 1),
        (*first.spacing, length),
        (x, y, z),
        tuple(map(float, axes.ravel())),
    )


def depths(slices: Sequence[DicomSlice]) -> np.ndarray:
    """Position of each slice along the normal of the first, in mm."""
    return np.array([one.position for one in slices]) @ normal(slices[0])


def normal(one: DicomSlice) -> np.ndarray:
    """Unit vector across a slice."""
    across = np.cross(np.array(one.row), np.array(one.column))
    return across / np.linalg.norm(across)


def _refuse_doubled(
    slices: Sequence[DicomSlice], gaps: np.ndarray, source: Path, what: str
) -> None:
    doubled = np.flatnonzero(gaps <= max(TOLERANCE_VOXELS * float(gaps.max()), 1e-9))
    if len(doubled) == 0:
        return
    one, other = slices[doubled[0]], slices[doubled[0] + 1]
    copies = one.instance and one.instance == other.instance and one.path != other.path
    raise InputError(
        f"{what} {source}: {one.name} and {other.name} "
        + ("are copies of one slice" if copies else "lie at the same position")
        + (f" (and so do {len(doubled) - 1} more pairs)" if len(doubled) > 1 else "")
        + (
            ". Take one of them out."
            if copies
            else ", and their headers do not say which of them belongs to which volume. Take those "
            f"out that do not belong, or {IN_SLICER}."
        )
    )


def _tolerance(slices: Sequence[DicomSlice], height: float) -> float:
    edge = min(*slices[0].spacing, height)
    rounded = max(one.rounding for one in slices)
    return max(TOLERANCE_VOXELS * edge, min(2 * rounded, MOST_ROUNDING * edge))


def _edges(one: DicomSlice) -> np.ndarray:
    """Vectors along i and j over the whole slice, in mm."""
    return np.array(
        [
            np.array(vector) * mm * max(1, n - 1)
            for vector, mm, n in zip((one.row, one.column), one.spacing, one.size, strict=True)
        ]
    )


def _near(one: DicomSlice) -> float:
    # Directions have six decimals at times: over the whole slice that is no more than this.
    return MOST_ROUNDING * min(one.spacing)


def _angle(one: DicomSlice, other: DicomSlice) -> float:
    return max(
        math.dist(a or (), b or ()) for a, b in ((one.row, other.row), (one.column, other.column))
    )


def _directions(one: DicomSlice) -> str:
    return "\\".join(f"{v:.4g}" for v in (*(one.row or ()), *(one.column or ())))


def _times(values: Sequence[float]) -> str:
    return "x".join(f"{v:.6g}" for v in values)
