"""The state of a segmentation node, to which it returns when a change of it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import slicer


def representationNames(segmentOrSegmentation) -> list[str]:
    """Names of the representations that a vtkSegment or vtkSegmentation contains."""
    names: list[str] = []
    segmentOrSegmentation.GetContainedRepresentationNames(names)
    return names


@contextmanager
def allOrNothing(segmentationNode, attributes: Sequence[str]) -> Iterator[None]:
    """Context that undoes all changes of a segmentation if an exception leaves it.

    Args:
        segmentationNode: The segmentation.
        attributes: Names of the node's attributes that are changed as well.
    """
    backup = _Backup(segmentationNode, attributes)
    try:
        yield
    except BaseException:
        backup.restore()
        raise


class _Backup:
    """Holds the representations themselves; of images, which are changed in place, their arrays."""

    def __init__(self, node, attributes: Sequence[str]):
        self._node = node
        self._attributes = {name: node.GetAttribute(name) for name in attributes}
        self._segmentation = node.GetSegmentation()
        self._source = self._segmentation.GetSourceRepresentationName()
        self._representations, self._images = {}, {}
        for segmentId in self._segmentation.GetSegmentIDs():
            segment = self._segmentation.GetSegment(segmentId)
            held = {name: segment.GetRepresentation(name) for name in representationNames(segment)}
            self._representations[segmentId] = held
            for data in held.values():
                if data.IsA("vtkOrientedImageData") and data not in self._images:
                    self._images[data] = slicer.vtkOrientedImageData()
                    self._images[data].ShallowCopy(data)

    def restore(self) -> None:
        segmentation = self._segmentation
        for segmentId in segmentation.GetSegmentIDs():
            if segmentId not in self._representations:
                segmentation.RemoveSegment(segmentId)
        for image, before in self._images.items():
            if image.GetPointData().GetScalars() is not before.GetPointData().GetScalars():
                image.ShallowCopy(before)
        if segmentation.GetSourceRepresentationName() != self._source:
            segmentation.SetSourceRepresentationName(self._source)
        # Changed images have invalidated what was made from them.
        for segmentId, held in self._representations.items():
            segment = segmentation.GetSegment(segmentId)
            for name, data in held.items():
                if segment.GetRepresentation(name) is not data:
                    segment.AddRepresentation(name, data)
            for name in set(representationNames(segment)) - set(held):
                segment.RemoveRepresentation(name)
        for name, text in self._attributes.items():
            if text is None:
                self._node.RemoveAttribute(name)
            else:
                self._node.SetAttribute(name, text)
