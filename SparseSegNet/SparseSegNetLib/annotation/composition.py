"""Composes the engine's label array from annotation: 0 background, 1..K segments, 255 unlabelled.

UNLABELLED is the label of voxels that nobody annotated, MAX_SEGMENTS the largest K.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import InputError
from .label_counts import label_counts
from .slices import AnnotatedSlice, check_slices

UNLABELLED = 255
MAX_SEGMENTS = 254


def compose_labels(
    segments: np.ndarray,
    slices: Iterable[AnnotatedSlice] = (),
    background: np.ndarray | None = None,
) -> np.ndarray:
    """Composes the label array of one volume.

    Args:
        segments: Integer (k, j, i), 0 where no segment covers, 1..K for the segments in order.
        slices: The annotated slices; what no segment covers there is background.
        background: Boolean (k, j, i), voxels drawn as background (a *Background* segment);
            where a segment covers as well, the segment wins.

    Returns:
        uint8 (k, j, i): 0 background, 1..K, 255 unlabelled.

    Raises:
        InputError: A slice lies outside the volume, or there are more than 254 segments.
    """
    slices = list(slices)
    check_slices(slices, segments.shape)
    if segments.size and int(segments.max()) > MAX_SEGMENTS:
        raise InputError(f"{int(segments.max())} segments: at most {MAX_SEGMENTS} can be used.")
    labels = segments.astype(np.uint8)
    labels[segments == 0] = UNLABELLED
    for item in slices:
        plane = labels[item.selector()]
        plane[plane == UNLABELLED] = 0
    if background is not None and background.any():
        labels[background & (labels == UNLABELLED)] = 0
    return labels


def restrict_to_slices(labels: np.ndarray, slices: Iterable[AnnotatedSlice]) -> np.ndarray:
    """Copies a label array (k, j, i) so that only the given slices stay labelled."""
    slices = list(slices)
    check_slices(slices, labels.shape)
    kept = np.full_like(labels, UNLABELLED)
    for item in slices:
        kept[item.selector()] = labels[item.selector()]
    return kept


def keep_drawn(result: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Copies every labelled voxel of `labels` into `result`, in place.

    Both are uint8 (k, j, i). Returns `result`.
    """
    np.copyto(result, labels, where=labels != UNLABELLED)
    return result


def check_trainable(labels: np.ndarray, names: list[str] | None = None) -> None:
    """Checks that a label array (255 = unlabelled) holds at least two classes to train on.

    Args:
        labels: The label array.
        names: The segments' names, for the message.

    Raises:
        InputError: No voxel or only one class is labelled.
    """
    # Mostly few voxels are labelled, and np.unique sorts all that it gets.
    present = np.flatnonzero(label_counts(labels[labels != UNLABELLED]))
    if present.size == 0:
        raise InputError(
            "no voxel is labelled: annotate at least one slice "
            "(or check which value means unlabelled)."
        )
    if present.size == 1:
        value = int(present[0])
        named = names[value - 1] if names and 0 < value <= len(names) else f"label {value}"
        label = "background (0)" if value == 0 else f"'{named}'"
        raise InputError(
            f"only one class is labelled, {label}: at least two are needed. Annotate "
            + (
                "a slice that shows the structure."
                if value == 0
                else "background too: name a completely annotated slice, or draw another segment."
            )
        )
