"""Messages about what is drawn in an annotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """An annotation's name and the instructions for messages about it.

    Attributes:
        name: Name of the segmentation or file.
        segments: Names of the segments.
        name_slices: Instruction for naming complete slices, in the interface that the user has.
        mark_background: Instruction for saying what is background where strokes are drawn.
    """

    name: str
    segments: Sequence[str]
    name_slices: str
    mark_background: str


def solid_warning(name: str, count: int, remedy: str) -> str:
    """Warning about segments whose cover looks solid.

    Args:
        name: Name of the segmentation.
        count: Number of slices that cover the segments.
        remedy: Instruction for naming slices, in the interface that the user has.
    """
    return (
        f"the segments of '{name}' are solid: it takes {count} slices to cover them, several "
        "side by side, and all of them count as completely annotated. If they were painted "
        f"with a 3D brush, {remedy}."
    )


def outline_warning(source: Source, number: int) -> str:
    """Warning about a segment, by its number, that is drawn as outlines."""
    return (
        f"'{source.segments[number - 1]}' is drawn as outlines: what they enclose counts as "
        "background. Fill them, or only the outline is learnt."
    )


def strokes_message(source: Source) -> str:
    """Message about strokes without anything that says what is background."""
    return (
        f"what is drawn in '{source.name}' are strokes, not filled structures, and nothing says "
        f"what is background. {source.mark_background}. If the slices are complete, "
        f"{source.name_slices}."
    )
