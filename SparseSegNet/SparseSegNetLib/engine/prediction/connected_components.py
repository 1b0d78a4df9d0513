"""Removes connected components that touch no annotation, on request."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ...annotation.composition import UNLABELLED

ALL_AROUND = np.ones((3, 3, 3), bool)  # 26-connected


def keep_main_components(labels: np.ndarray, drawn: np.ndarray) -> int:
    """Keeps the largest connected component and every component that touches an annotation.

    The other components of each segment become the commonest label around them, in place.

    Args:
        labels: uint8 (k, j, i), with the annotation in it.
        drawn: Annotation, uint8 (k, j, i), 255 = unlabelled.

    Returns:
        The number of voxels that were changed; none of them was annotated.
    """
    before = labels.copy()
    changed = 0
    for value in np.unique(before[(before > 0) & (before != UNLABELLED)]):
        pieces, count = ndimage.label(before == value, ALL_AROUND)
        if count < 2:
            continue
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        kept = np.zeros(count + 1, bool)
        kept[1 + sizes[1:].argmax()] = True
        kept[np.unique(pieces[drawn == value])] = True
        boxes = ndimage.find_objects(pieces)
        for number in np.flatnonzero(~kept[1:]) + 1:
            box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in boxes[number - 1])
            piece = pieces[box] == number
            rim = ndimage.binary_dilation(piece, ALL_AROUND) & ~piece
            labels[box][piece] = np.bincount(before[box][rim]).argmax() if rim.any() else 0
            changed += int(sizes[number])
    return changed
