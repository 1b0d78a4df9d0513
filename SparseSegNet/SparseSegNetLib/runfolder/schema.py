"""Forms of the JSON files in a run folder, checked when the folder is opened.

Types come from the dataclasses' annotations; what a type cannot express (ranges, what must fit
what) is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..annotation.composition import MAX_SEGMENTS
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice, check_slices
from ..errors import InputError
from .forms import (
    Form,
    ValidationError,
    anything,
    choice,
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
# One volume from its annotated slices; a model from several annotated volumes; a model applied; the
# score of one volume without a prediction.
TASKS = ("densify", "train", "segment", "crossvalidate")
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
            record(
                {"channels": rows(text())},
                {
                    "predict": optional(SLICES),
                    "slices": SLICES,
                    "name": text(),
                    "classes": optional(rows(whole(1, MAX_SEGMENTS))),
                    "prior": optional(rows(whole(1, MAX_SEGMENTS), 1)),
                    "prior_known": flag(),
                },
            ),
            1,
            MOST_INPUTS,
        ),
    },
    {"named_slices": flag(), "task": choice(*TASKS)},
)
RUN = record({"schema": whole(1), "output": optional(text()), "source": optional(text())})
WRITTEN = record({"sha256": text()})
REMEDY = "Restore the run folder from a copy, or begin a new run."


def read_run(path: Path) -> dict:
    """Reads a folder's run.json, of any schema up to SCHEMA.

    Raises:
        InputError: It is no run folder, damaged, or of a newer version.
    """
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
    """Raises InputError unless a run's description has its form."""
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
    """Reads the voxel grid in a geometry.json.

    Raises:
        InputError: The file is missing or damaged, or the grid cannot be used.
    """
    found = read_json(file, GEOMETRY, REMEDY)
    geometry = Geometry.from_json(found)
    if (fault := geometry.fault()) is not None:
        raise InputError(f"{file} is damaged: {fault}. {REMEDY}")
    return geometry


def _geometry(value: Any, where: str) -> None:
    record({"frame": text()})(value, where)
    of_type(Geometry)(value, where)
    if value["frame"] != "LPS":
        raise ValidationError("frame", "LPS", value["frame"])
    rows(number(), 9, 9)(value["directions"], "directions")


GEOMETRY = _geometry


def read_slices(file: Path, shape: Sequence[int]) -> list[AnnotatedSlice]:
    """Reads the slices in a slices.json, all inside the volume of that shape (k, j, i).

    Raises:
        InputError: The file is missing or damaged, or a slice lies outside the volume.
    """
    return slices_inside(file, read_json(file, SLICES, REMEDY), shape)


def slices_inside(file: Path, found: list[dict], shape: Sequence[int]) -> list[AnnotatedSlice]:
    """Slices from JSON, all inside the volume of that shape (k, j, i).

    Raises:
        InputError: A slice lies outside the volume; the message names the file.
    """
    slices = [AnnotatedSlice.from_json(item) for item in found]
    try:
        check_slices(slices, shape)
    except InputError as error:
        raise InputError(f"{file} is damaged: {error} {REMEDY}") from error
    return slices


def region(shape: Sequence[int], segments: int) -> Form:
    """Form of a disagreement inside a volume of that shape (k, j, i)."""

    def form(value: Any, where: str) -> None:
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
    """Form of a line of metrics.jsonl."""
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
    """Report in a line of metrics.jsonl; None if it is damaged."""
    try:
        value = parse_json(line)
        form(value, "")
    except ValueError:
        return None
    return value
