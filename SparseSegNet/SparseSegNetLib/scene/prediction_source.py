"""The newest prediction of a volume that is annotated, in a run folder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..annotation.merging import matching
from ..annotation.slices import AnnotatedSlice
from ..errors import InputError
from ..runfolder.folder import RunFolder
from .results import resultNumber
from .segmentations import segmentsOf
from .volumes import volumeGeometry


@dataclass(frozen=True)
class PredictionSource:
    """A run on the volume, which has a prediction of it or will have one.

    Attributes:
        folder: The run folder.
        number: The run's input, from 1, that is the volume.
    """

    folder: RunFolder
    number: int

    def has(self, item: AnnotatedSlice) -> bool:
        """True if there is a prediction of a slice."""
        return self.folder.has_prediction(self.number, item)

    def plane(self, item: AnnotatedSlice) -> np.ndarray | None:
        """The newest prediction of a slice, see `RunFolder.read_prediction`."""
        return self.folder.read_prediction(self.number, item)

    def classes(self, segmentationNode) -> list[int]:
        """The run's class of each segment of a segmentation, without Background; 0 for none.

        A run on one volume has the segments themselves as classes, one on several those that have
        the same name or terminology.
        """
        own = segmentsOf(segmentationNode.GetSegmentation())
        if self.folder.task != "densify":
            return matching(self.folder.segments, own)
        ids = [s.id for s in self.folder.segments]
        return [ids.index(s.id) + 1 if s.id in ids else 0 for s in own]

    def segmentIds(self, segmentationNode) -> list[str]:
        """The segment ID for each of the run's classes; empty where there is none."""
        own = segmentsOf(segmentationNode.GetSegmentation())
        found = dict(zip(self.classes(segmentationNode), (s.id for s in own), strict=True))
        return [found.get(n, "") for n in range(1, len(self.folder.segments) + 1)]


def sourceOf(
    folder: RunFolder, number: int | None, volumeNode, result=None
) -> PredictionSource | None:
    """The prediction of a volume in a run folder.

    Args:
        folder: The run folder.
        number: The run's input that is the volume, if it is known.
        volumeNode: The volume.
        result: Without a number, the run's result in the scene, which tells its volume.

    Returns:
        None if the run is not on this volume, or the volume has another grid by now.
    """
    if number is None:
        if result is None:
            return None
        role = result.GetReferenceImageGeometryReferenceRole()
        if result.GetNodeReference(role) is not volumeNode:
            return None
        number = resultNumber(result)
    try:
        fits = number <= folder.count and (
            folder.geometry(number).difference(volumeGeometry(volumeNode)) is None
        )
    except InputError:
        return None
    return PredictionSource(folder, number) if fits else None
