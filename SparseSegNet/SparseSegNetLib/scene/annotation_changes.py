"""An annotation as the panel lists it, and what painting changes in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..annotation.slices import AnnotatedSlice


@dataclass
class PaintChanges:
    """Changes of the annotation between two calls of `AnnotationSession.look`.

    Attributes:
        changed: True if labels or slices changed.
        added: Slices that are annotated now.
        dropped: Slices that are annotated no longer.
        warning: A warning for the user, or empty.
    """

    changed: bool = False
    added: list[AnnotatedSlice] = field(default_factory=list)
    dropped: list[AnnotatedSlice] = field(default_factory=list)
    warning: str = ""


@dataclass(frozen=True)
class Row:
    """One annotated slice as the panel lists it.

    Attributes:
        slice: The slice.
        stated: True if the user marked it as complete, False if it was detected from painting.
        voxels: Number of drawn voxels per segment ID.
    """

    slice: AnnotatedSlice
    stated: bool
    voxels: dict[str, int]
