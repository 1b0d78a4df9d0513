"""Properties of a segment beside its voxels: name, colour, terminology, label value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

# A qualitative palette that stays apart on grey images and for colour-blind readers
# (after Okabe and Ito 2008), used where a label image brings no colours.
PALETTE = (
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.00, 0.62, 0.45),
    (0.94, 0.89, 0.26),
    (0.84, 0.37, 0.00),
    (0.80, 0.47, 0.65),
    (0.26, 0.45, 0.85),
    (0.60, 0.80, 0.35),
    (0.75, 0.25, 0.30),
    (0.55, 0.45, 0.80),
    (0.20, 0.75, 0.70),
    (0.70, 0.55, 0.35),
)


def usable_color(color: Sequence[float], position: int) -> tuple[float, float, float]:
    """A colour of three numbers from 0 to 1, or the palette's where it is none (NaN, say).

    Args:
        color: Red, green and blue, as a file or a program gives them.
        position: Place in the list of segments, from 0, which decides the palette's colour.
    """
    if len(color) == 3 and all(0 <= c <= 1 for c in color):  # NaN is not
        return cast(tuple[float, float, float], tuple(map(float, color)))
    return PALETTE[position % len(PALETTE)]


@dataclass(frozen=True)
class Segment:
    """One class of a segmentation; its label in arrays is its place in the list, from 1.

    Attributes:
        id: The segment's identifier in Slicer.
        name: Name shown to the user.
        color: Red, green, blue from 0 to 1.
        value: Label value in the file or scene that the segment came from, used again on
            writing.
        tags: Slicer's segment tags, the terminology among them (``TerminologyEntry``).
    """

    id: str
    name: str
    color: tuple[float, float, float]
    value: int
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def numbered(cls, value: int, position: int) -> Segment:
        """Segment for a label value without a name.

        Args:
            value: The label value.
            position: Place in the list of segments, from 0, which decides the colour.
        """
        return cls(f"Segment_{value}", f"Label {value}", PALETTE[position % len(PALETTE)], value)

    def to_json(self) -> dict:
        """Dictionary that can be written as JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "color": list(self.color),
            "value": self.value,
            "tags": dict(self.tags),
        }

    @classmethod
    def from_json(cls, data: dict) -> Segment:
        """Segment from `to_json`'s dictionary."""
        return cls(
            str(data["id"]),
            str(data["name"]),
            cast(tuple[float, float, float], tuple(map(float, data["color"]))),
            int(data["value"]),
            {str(k): str(v) for k, v in data.get("tags", {}).items()},
        )
