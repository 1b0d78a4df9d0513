"""A slice that is suggested to be drawn next."""

from __future__ import annotations

from dataclasses import dataclass

from ..annotation.slices import AnnotatedSlice


@dataclass(frozen=True)
class SuggestedSlice:
    """A slice to draw next, and the reason.

    Attributes:
        slice: The whole plane of the volume's voxel grid.
        reason: One sentence without a full stop, with segments by their names.
        segment: The segment 1..K that it is mostly for; None if it is for all.
    """

    slice: AnnotatedSlice
    reason: str
    segment: int | None = None

    def to_json(self) -> dict:
        """Dictionary that can be written as JSON."""
        return {"slice": str(self.slice), "reason": self.reason, "segment": self.segment}
