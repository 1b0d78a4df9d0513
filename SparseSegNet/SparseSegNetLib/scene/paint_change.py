"""A change of painted labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..annotation.strokes import box_of


@dataclass
class Change:
    """The change between two calls of `PaintObserver.look`, cropped to its bounding box.

    Attributes:
        offset: First voxel (k, j, i) of the box.
        changed: Boolean (k, j, i) of the box, all voxels that changed.
        added: Boolean (k, j, i) of the box, changed voxels that a segment other than Background
            covers now.
    """

    offset: tuple[int, int, int]
    changed: np.ndarray
    added: np.ndarray

    def without(self, voxels: np.ndarray, shape: tuple[int, int, int]) -> Change | None:
        """The change without some voxels; None when there are no others.

        Args:
            voxels: Flat indices into an array (k, j, i) of the volume's shape.
            shape: The volume's shape.
        """
        if not voxels.size:
            return self
        place = np.stack(np.unravel_index(voxels, shape), axis=1) - self.offset
        place = place[((place >= 0) & (place < self.changed.shape)).all(axis=1)]
        left = self.changed.copy()
        left[tuple(place.T)] = False
        box = box_of(left)
        if box is None:
            return None
        k, j, i = (s.start + o for s, o in zip(box, self.offset, strict=True))
        return Change((k, j, i), left[box], (self.added & left)[box])
