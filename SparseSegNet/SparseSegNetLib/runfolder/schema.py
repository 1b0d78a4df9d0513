"""The form of every JSON file in a run folder, checked when the folder is opened.

Types come from the dataclasses' annotations; what a type cannot say (ranges, what must fit what)
is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..annotation.composition import MAX_SEGMENTS
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice, check_slices
from ..errors import InputError
from .forms import (
    Form,
    ValidationError,
    anything,
    flag,
    mapping,
    number,
    of_type,
    optional,
    parse_json,
    read_json,
    record,
    rows,
    text,
    whole,
)
from .options import Options

SCHEMA = 2
MOST_INPUTS = 10_000
SLICES = rows(of_type(AnnotatedSlice))
RUN_1 = record(
    {
        "schema": whole(1),
        "name": text(),
        "created": text(),
        "segments": rows(of_type(Segment), 1, MAX_SEGMENTS),
        "options": of_type(Options),
        "versions": mapping(text()),
        "plan": optional(mapping(anything())),
        "inputs": rows(
            record({"channels": rows(text())}, {"predict": optional(SLICES), "slices": SLICES}),
            1,
            MOST_INPUTS,
        ),
    },
    {"named_slices": flag()},
)
RUN = record({"schema": whole(1), "output": optional(text()), "source": optional(text())})
WRITTEN = record({"output": text(), "sha256": text()})
REMEDY = "Restore the run folder from a copy, or begin a new run."


def read_run(path: Path) -> dict:
    """The content of a folder's run.json, of whatever schema up to ours; InputError when it is
    none, or of a newer version."""
    file = path / "run.json"
    if not file.is_file():
        raise InputError(f"{path} is not a run folder: there is no run.json in it.")
    found = read_json(file, record({"schema": whole(1)}), REMEDY)
    if found["schema"] > SCHEMA:
        raise InputError(
            f"the run folder {path} was written by a newer SparseSegNet (schema "
            f"{found['schema']}, this one reads up to {SCHEMA}): update SparseSegNet."
        )
    check_run(file, found, RUN_1)
    if found["schema"] == SCHEMA:
        check_run(file, found, RUN)
    return found


def check_run(file: Path, description: dict, form: Form = RUN_1) -> None:
    """Raise InputError unless a run's description has its form."""
    try:
        form(description, "")
        for n, segment in enumerate(description["segments"]):
            whole(0)(segment["value"], f"segments[{n}].value")
    except ValidationError as error:
        raise InputError(f"{file} is damaged: {error}. {REMEDY}") from error
    try:
        Options.from_json(description["options"])
    except InputError as error:
        raise InputError(f"{file} is damaged: {error} {REMEDY}") from error


def read_geometry(file: Path) -> Geometry:
    """The voxel grid in a geometry.json."""
    found = read_json(file, GEOMETRY, REMEDY)
    geometry = Geometry.from_json(found)
    if (fault := geometry.fault()) is not None:
        raise InputError(f"{file} is damaged: {fault}. {REMEDY}")
    return geometry


def _geometry(value, where: str) -> None:
    record({"frame": text()})(value, where)
    of_type(Geometry)(value, where)
    if value["frame"] != "LPS":
        raise ValidationError("frame", "LPS", value["frame"])
    rows(number(), 9, 9)(value["directions"], "directions")


GEOMETRY = _geometry


def read_slices(file: Path, shape: Sequence[int]) -> list[AnnotatedSlice]:
    """The slices in a slices.json, all inside the volume of that shape (k, j, i)."""
    return slices_inside(file, read_json(file, SLICES, REMEDY), shape)


def slices_inside(file: Path, found: list[dict], shape: Sequence[int]) -> list[AnnotatedSlice]:
    """Slices from JSON, all inside the volume; InputError names the file."""
    slices = [AnnotatedSlice.from_json(item) for item in found]
    try:
        check_slices(slices, shape)
    except InputError as error:
        raise InputError(f"{file} is damaged: {error} {REMEDY}") from error
    return slices


def region(shape: Sequence[int], segments: int) -> Form:
    """Of a disagreement inside a volume of that shape (k, j, i)."""

    def form(value, where):
        record(
            {
                "voxels": whole(1),
                "drawn": whole(0, segments),
                "model": whole(0, segments),
                "voxel": rows(whole(0), 3, 3),
            }
        )(value, where)
        if any(v >= n for v, n in zip(value["voxel"], shape, strict=True)):
            raise ValidationError(
                f"{where}.voxel", "a voxel (k, j, i) inside the volume", value["voxel"]
            )

    return form


def report(segments: int) -> Form:
    """Of a line of metrics.jsonl."""
    score = optional(number(0, 1))
    row = record({}, {"iou": score, "dice": score, "voxels": whole(0)})
    return record(
        {},
        {
            "step": whole(0),
            "seconds": number(0),
            "loss": optional(number()),
            "phase": text(),
            "held_out_dice": score,
            "held_out": optional(rows(row, segments, segments)),
        },
    )


def parse_report(line: bytes, form: Form) -> dict | None:
    """The report in a line of metrics.jsonl; None when it is none."""
    try:
        value = parse_json(line)
        form(value, "")
    except ValueError:
        return None
    return value
