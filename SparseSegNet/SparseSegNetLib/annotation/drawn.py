"""The one rule from what is drawn to the label array, for files, scene and panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .composition import compose_labels
from .cover import cover_slices, looks_solid
from .slices import AnnotatedSlice

BACKGROUND = "background"


@dataclass
class LabelArray:
    """labels: uint8 (k, j, i), 0 background, 1..K segments, 255 unlabelled.  slices: the annotated
    ones, given or found.  warnings: what the user should know."""

    labels: np.ndarray
    slices: list[AnnotatedSlice]
    warnings: list[str] = field(default_factory=list)


def is_background(name: str) -> bool:
    """Whether a segment of this name marks background."""
    return name.strip().lower() == BACKGROUND


def painting_order(names: Sequence[str]) -> list[int]:
    """The order in which segments are laid over each other, as indices into their names.

    Where segments overlap the one that comes later in the segmentation wins, but for Background,
    against which every segment wins: what is drawn as a structure is not lost to a background
    that was painted generously.
    """
    return sorted(range(len(names)), key=lambda n: (not is_background(names[n]), n))


def found_slices(
    drawn: np.ndarray, corrected: np.ndarray | None = None
) -> tuple[list[AnnotatedSlice], bool]:
    """The annotated slices, found from what is drawn, and whether that looks solid.

    drawn: (k, j, i), not zero where a segment (other than Background) covers.  corrected: flat
    indices of voxels that were taken over from a corrected result: single voxels, which do not
    make the slice that they lie in a complete one.
    """
    covered = drawn > 0
    if corrected is not None:
        covered.ravel()[corrected] = False
    slices = cover_slices(covered)
    return slices, looks_solid(slices)


def solid_warning(name: str, count: int, remedy: str) -> str:
    """What is said of segments that `count` slices cover, several of them side by side.

    remedy: how slices are named where the user is.
    """
    return (
        f"the segments of '{name}' are solid: it takes {count} slices to cover them, several "
        "side by side, and all of them count as completely annotated. If they were painted "
        f"with a 3D brush, {remedy}."
    )


def label_array(
    drawn: np.ndarray,
    background: np.ndarray | None,
    slices: Sequence[AnnotatedSlice] | None,
    name: str,
    remedy: str,
    corrected: np.ndarray | None = None,
) -> LabelArray:
    """What is labelled where segments were drawn.

    drawn: uint8 (k, j, i), n where the n-th segment covers.  background: boolean (k, j, i), what
    a segment called Background covers, or None.  slices: the annotated ones; None where they are
    to be found.  name: of the segmentation, remedy: how slices are named, both for the warning.
    corrected: see `found_slices`.
    Raises InputError for a slice outside the volume.
    """
    warnings = []
    if slices is None:
        slices, solid = found_slices(drawn, corrected)
        if solid:
            warnings.append(solid_warning(name, len(slices), remedy))
    return LabelArray(compose_labels(drawn, slices, background), list(slices), warnings)
