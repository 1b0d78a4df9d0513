"""The rule that turns drawn segments into a label array, for files, scene and panel alike."""

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
    """A label array and the slices behind it.

    Attributes:
        labels: uint8 (k, j, i), 0 background, 1..K segments, 255 unlabelled.
        slices: The annotated slices, given or detected.
        warnings: Messages for the user.
    """

    labels: np.ndarray
    slices: list[AnnotatedSlice]
    warnings: list[str] = field(default_factory=list)


def is_background(name: str) -> bool:
    """Tells whether a segment of this name marks background."""
    return name.strip().lower() == BACKGROUND


def painting_order(names: Sequence[str]) -> list[int]:
    """Order in which segments are laid over each other, as indices into their names.

    Where segments overlap the one that comes later in the segmentation wins, except that every
    segment wins against Background: a drawn structure is not lost to a background that was
    painted generously.
    """
    return sorted(range(len(names)), key=lambda n: (not is_background(names[n]), n))


def found_slices(
    drawn: np.ndarray, corrected: np.ndarray | None = None
) -> tuple[list[AnnotatedSlice], bool]:
    """Detects the annotated slices from the drawn voxels.

    Args:
        drawn: (k, j, i), not zero where a segment (other than Background) covers.
        corrected: Flat indices of voxels that come from a corrected result: single voxels,
            which do not make the slice that they lie in a complete one.

    Returns:
        The slices, and True if they look solid (see `looks_solid`).
    """
    covered = drawn > 0
    if corrected is not None:
        covered.ravel()[corrected] = False
    slices = cover_slices(covered)
    return slices, looks_solid(slices)


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


def label_array(
    drawn: np.ndarray,
    background: np.ndarray | None,
    slices: Sequence[AnnotatedSlice] | None,
    name: str,
    remedy: str,
    corrected: np.ndarray | None = None,
) -> LabelArray:
    """Label array of drawn segments.

    Args:
        drawn: uint8 (k, j, i), n where the n-th segment covers.
        background: Boolean (k, j, i), the voxels of a segment called Background, or None.
        slices: The annotated slices; None to detect them.
        name: Name of the segmentation, for the warning.
        remedy: Instruction for naming slices, for the warning.
        corrected: See `found_slices`.

    Raises:
        InputError: A slice lies outside the volume.
    """
    warnings = []
    if slices is None:
        slices, solid = found_slices(drawn, corrected)
        if solid:
            warnings.append(solid_warning(name, len(slices), remedy))
    return LabelArray(compose_labels(drawn, slices, background), list(slices), warnings)
