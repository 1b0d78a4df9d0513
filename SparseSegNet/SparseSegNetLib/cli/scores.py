"""The expected score of a run in the terminal."""

from __future__ import annotations

from ..runfolder.folder import RunFolder
from ..runfolder.score import score_lines


def lines_of_score(folder: RunFolder) -> list[str]:
    """The expected score of a run's (first) result, as sentences; none if there is no score."""
    lines = score_lines(folder.read_score(), folder.names, folder.geometry())
    return [f"expected IoU (80 % interval): {lines[0]}", *lines[1:]] if lines else []
