"""Checkpoints from which training can resume, recognised by their headers without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .tensors_header import read_metadata

SCHEMA = 1
KEY = "sparsesegnet-state"
# In a run folder whose engine on another computer was lost: a newer checkpoint may be there.
ELSEWHERE = "elsewhere.json"
STORED = "stored.json"  # the task of a stored volume, see tiles.dense_task


def readable_checkpoints(paths: Sequence[Path]) -> Iterator[tuple[Path, dict]]:
    """Finds the checkpoints that are complete, in the order of `paths`.

    Yields:
        The path of a checkpoint and the metadata in its header.
    """
    for path in paths:
        try:
            about = read_metadata(path, KEY)
        except ValueError:
            continue
        if isinstance(about, dict) and about.get("schema") == SCHEMA:
            yield path, about
