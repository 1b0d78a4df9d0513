"""The metadata of OME-Zarr (NGFF 0.4 and 0.5): axes, levels, transformations, channels.

Specification: https://ngff.openmicroscopy.org, versions 0.4 and 0.5. It holds no directions: axes
are taken as parallel to those of the LPS frame, as ITK's readers do, and a translation as the
position of the centre of the first voxel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERSIONS = ("0.4", "0.5")
SPACE = ("z", "y", "x")
MM = {
    "angstrom": 1e-7,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "decimeter": 100.0,
    "meter": 1000.0,
    "inch": 25.4,
    # Abbreviations, which the specification does not have and programs write all the same.
    "nm": 1e-6,
    "um": 1e-3,
    "µm": 1e-3,
    "mm": 1.0,
    "cm": 10.0,
}


class Fault(ValueError):
    """The metadata cannot be used; the message says why, without naming the store."""


@dataclass(frozen=True)
class Dataset:
    """One level of an image.

    Attributes:
        path: Of its array in the group.
        spacing: mm along k, j, i.
        origin: mm of the centre of the first voxel along k, j, i.
    """

    path: str
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]


@dataclass(frozen=True)
class Multiscale:
    """An image of one or several levels.

    Attributes:
        version: Of NGFF.
        axes: The name of each axis of the arrays.
        datasets: The levels, the finest first.
        channels: The name of each channel, as far as there are names.
        notes: Messages for the user.
    """

    version: str
    axes: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    channels: tuple[str, ...]
    notes: tuple[str, ...]


def read_multiscale(attributes: Mapping[str, Any]) -> Multiscale:
    """Interprets the attributes of a group.

    Args:
        attributes: Of the group: under "ome" since 0.5, directly before.

    Raises:
        Fault: They describe no image that can be used.
    """
    inside = attributes.get("ome")
    ome: Mapping[str, Any] = inside if isinstance(inside, Mapping) else attributes
    found = ome.get("multiscales")
    if not isinstance(found, list) or not found or not isinstance(found[0], Mapping):
        kinds = [key for key in ("plate", "well", "bioformats2raw.layout") if key in ome]
        if kinds:
            raise Fault(
                f"it is a collection of images ({kinds[0]}): give one of the groups in it, such "
                "as the folder 0"
            )
        raise Fault("its metadata name no image ('multiscales' is missing)")
    scales = found[0]
    version = str(ome.get("version", scales.get("version", "0.4")))
    if version not in VERSIONS:
        newer = version > VERSIONS[-1]
        raise Fault(
            f"it is of NGFF version {version}, and {' and '.join(VERSIONS)} can be read: "
            + ("update SparseSegNet, or write it as 0.5" if newer else "write it as 0.4 or 0.5")
        )
    axes, units = _axes(scales.get("axes"))
    notes = []
    factors = []
    for name in SPACE:
        unit = units[axes.index(name)]
        if unit is not None and unit not in MM:
            raise Fault(f"its axis {name} is in '{unit}', expected one of {', '.join(MM)}")
        factors.append(MM.get(unit or "millimeter", 1.0))
    if any(units[axes.index(name)] is None for name in SPACE):
        notes.append("no unit is given for its axes: its numbers are taken as millimetres.")
    rows = scales.get("datasets")
    if not isinstance(rows, list) or not rows:
        raise Fault("its metadata name no arrays ('datasets' is missing)")
    outer = scales.get("coordinateTransformations")
    datasets = tuple(_dataset(row, outer, axes, factors) for row in rows)
    many = len(found)
    if many > 1:
        notes.append(f"it holds {many} images ('multiscales'), of which the first is read.")
    return Multiscale(version, axes, datasets, _channels(ome), tuple(notes))


def _axes(found: object) -> tuple[tuple[str, ...], list[str | None]]:
    """Names and units of the axes."""
    if not isinstance(found, list) or not all(isinstance(axis, Mapping) for axis in found):
        raise Fault("its metadata name no axes")
    names = [str(axis.get("name", "")).lower() for axis in found]
    missing = [name for name in SPACE if name not in names]
    if missing:
        raise Fault(
            f"its axes are {', '.join(names)}, and {', '.join(missing)} is missing: a volume with "
            "the axes z, y and x is needed, and at most c and t before them"
        )
    if others := [name for name in names if name not in (*SPACE, "c", "t")]:
        raise Fault(f"it has an axis '{others[0]}': z, y, x, c and t can be read")
    if len(set(names)) < len(names):
        raise Fault(f"its axes are {', '.join(names)}: each name may occur once")
    return tuple(names), [
        None if axis.get("unit") is None else str(axis["unit"]).lower() for axis in found
    ]


def _dataset(row: object, outer: object, axes: Sequence[str], factors: Sequence[float]) -> Dataset:
    if not isinstance(row, Mapping) or not isinstance(row.get("path"), str):
        raise Fault("an entry of its 'datasets' has no path")
    path = str(row["path"])
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or ":" in path or "\\" in path:
        raise Fault(f"its array '{path}' would lie outside of the store")
    scale, shift = [1.0] * len(axes), [0.0] * len(axes)
    steps = row.get("coordinateTransformations")
    if not isinstance(steps, list):
        raise Fault(
            f"the voxel size of its array '{path}' is missing ('coordinateTransformations')"
        )
    for step in [*steps, *(outer if isinstance(outer, list) else [])]:
        kind = step.get("type") if isinstance(step, Mapping) else None
        if kind == "identity":
            continue
        values = _numbers(step.get(kind), len(axes)) if kind in ("scale", "translation") else None
        if values is None:
            raise Fault(
                f"its array '{path}' has a transformation '{kind}' that cannot be used: a scale "
                f"and a translation of {len(axes)} numbers can"
            )
        if kind == "scale":
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            shift = [a * b for a, b in zip(shift, values, strict=True)]
        else:
            shift = [a + b for a, b in zip(shift, values, strict=True)]
    at = [axes.index(name) for name in SPACE]
    k, j, i = (scale[n] * mm for n, mm in zip(at, factors, strict=True))
    z, y, x = (shift[n] * mm for n, mm in zip(at, factors, strict=True))
    return Dataset(path, (k, j, i), (z, y, x))


def _numbers(found: object, count: int) -> list[float] | None:
    if not isinstance(found, list) or len(found) != count:
        return None
    good = all(isinstance(v, int | float) and math.isfinite(v) for v in found)
    return [float(v) for v in found] if good else None


def _channels(ome: Mapping[str, Any]) -> tuple[str, ...]:
    omero = ome.get("omero")
    rows = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(rows, list):
        return ()
    return tuple(str(row.get("label") or "") if isinstance(row, Mapping) else "" for row in rows)
