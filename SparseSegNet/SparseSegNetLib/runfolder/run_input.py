"""One volume of a run, as it is handed to the run folder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..annotation.geometry import Geometry
from ..annotation.slices import AnnotatedSlice


@dataclass
class RunInput:
    """One annotated volume; one without labelled voxels is not trained on, only predicted.

    Attributes:
        image: (c, k, j, i), any real dtype.
        labels: uint8 (k, j, i), 255 = unlabelled.
        geometry: The voxel grid.
        slices: The annotated slices, as far as known.
        channels: The name of each channel.
        predict: The slices wanted as result; None for the whole volume.
        name: Name of the volume or its file, for messages.
        classes: The classes 1..K that its annotation tells from the background; None for all. Where
            it shows background, there may be voxels of the others.
        prior: Another tool's result, uint8 (classes of `prior_classes`, k, j, i): the probability
            of each of these classes, 0 to 255; None for none.
        prior_classes: The classes that it knows.
        prior_known: Where it says something of each of them, uint8 or bool of the same shape, not 0
            there; None for everywhere.
    """

    image: np.ndarray
    labels: np.ndarray
    geometry: Geometry
    slices: list[AnnotatedSlice] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    predict: list[AnnotatedSlice] | None = None
    name: str = ""
    classes: tuple[int, ...] | None = None
    prior: np.ndarray | None = None
    prior_classes: tuple[int, ...] = ()
    prior_known: np.ndarray | None = None

    def numbered(self, number: int) -> RunInput:
        """The same volume with numbers for the names of scan and channels; arrays are shared."""
        channels = [f"channel {n}" for n in range(1, len(self.channels) + 1)]
        return replace(self, name=f"scan {number}", channels=channels)
