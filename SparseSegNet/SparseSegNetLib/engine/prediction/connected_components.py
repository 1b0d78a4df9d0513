"""Clean-up on request: pieces of a segment that hang together with nothing that was drawn."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ...annotation.composition import UNLABELLED

ALL_AROUND = np.ones((3, 3, 3), bool)  # pieces that touch at a corner hang together


def keep_main_components(labels: np.ndarray, drawn: np.ndarray) -> int:
    """Of each segment leave the largest connected piece and every piece of which something was
    drawn; the others become what is most common around them. In place.

    labels: uint8 (k, j, i), with what was drawn in it.  drawn: uint8 (k, j, i), 255 = unlabelled.
    Returns the number of voxels that were changed. None of them was drawn.
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
