"""Checkpoints from which training can resume, recognised by their headers without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

SCHEMA = 1
KEY = "sparsesegnet-state"
LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it


def readable_checkpoints(paths: Sequence[Path]) -> Iterator[tuple[Path, dict]]:
    """Finds the checkpoints that are complete, in the order of `paths`.

    Yields:
        The path of a checkpoint and the metadata in its header.
    """
    for path in paths:
        about = _about(path)
        if about is not None:
            yield path, about


def _about(path: Path) -> dict | None:
    """The metadata in a checkpoint's header; None if the file is missing, cut short or another."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                return None
            header = json.loads(file.read(length))
        about = json.loads(header.pop("__metadata__")[KEY])
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        whole = path.stat().st_size == 8 + length + end and about["schema"] == SCHEMA
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None
    return about if whole else None
