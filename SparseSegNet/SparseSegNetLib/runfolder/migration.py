"""Brings run folders of older versions up to date."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .atomic import write_json
from .schema import SCHEMA


def migrated(path: Path, description: dict) -> dict:
    """Brings an older run folder's files and description up to date.

    Schema 1 kept the annotated slices in run.json and had no output.

    Args:
        path: The run folder.
        description: The content of its run.json.

    Returns:
        The new description.

    Raises:
        InputError: The folder cannot be written.
    """
    inputs = [dict(about) for about in description["inputs"]]
    try:
        for number, about in enumerate(inputs, start=1):
            folder = path / "inputs" / str(number)
            slices = about.pop("slices", [])
            if not (folder / "slices.json").exists():
                write_json(folder / "slices.json", slices)
    except OSError as error:
        raise InputError(
            f"the run folder {path} is of an older version and cannot be brought "
            f"up to date: {error.strerror or error}. Copy it to where you may "
            "write."
        ) from error
    return {**description, "schema": SCHEMA, "inputs": inputs, "output": None, "source": None}
