"""The annotated volumes of the scene, each with its segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import slicer.util

from ..errors import InputError
from .corrected_voxels import correctedVoxels
from .layers import isEmptyLayer
from .prediction_start import startedFromPrediction
from .results import isResult
from .segmentations import segmentationsOf
from .slice_list import listedSlices
from .volumes import volumeGeometry


@dataclass(frozen=True)
class AnnotatedPair:
    """A volume and the segmentation that it is annotated in.

    Attributes:
        volume: The volume node.
        segmentation: The segmentation node.
        slices: Number of annotated slices; None if they are still to be found in what is drawn.
    """

    volume: object
    segmentation: object
    slices: int | None


def sceneVolumes() -> list:
    """The volumes of the scene that can be segmented, without label maps and results."""
    found = [
        *slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"),
        *slicer.util.getNodesByClass("vtkMRMLVectorVolumeNode"),
    ]
    return [
        node
        for n, node in enumerate(found)
        if node.GetImageData() is not None
        and not node.IsA("vtkMRMLLabelMapVolumeNode")
        and not node.GetHideFromEditors()
        and not isResult(node)
        and node not in found[:n]  # a vector volume is a scalar one, too
    ]


def annotatedPairs() -> list[AnnotatedPair]:
    """All volumes of the scene with an annotated segmentation, in the order of the volumes."""
    pairs: list[AnnotatedPair] = []
    for volume in sceneVolumes():
        try:
            grid = volumeGeometry(volume)
            candidates = segmentationsOf(volume)
        except InputError:
            continue  # under a transform, say: it cannot be trained on
        for node in candidates:
            known = any(pair.segmentation is node for pair in pairs)
            if known or isResult(node) or node.GetHideFromEditors():
                continue
            try:
                listed = listedSlices(node, grid)
                corrected = correctedVoxels(node, grid).voxels.size
            except InputError:
                continue
            slices = None if listed is None else len(listed.slices)
            if startedFromPrediction(node) or slices or corrected or _isDrawn(node):
                pairs.append(AnnotatedPair(volume, node, slices))
    return pairs


def _isDrawn(segmentationNode) -> bool:
    """True if any segment may hold voxels."""
    segmentation = segmentationNode.GetSegmentation()
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    layers = [
        segmentation.GetSegment(segmentId).GetRepresentation(name)
        for segmentId in segmentation.GetSegmentIDs()
    ]
    return any(layer is None or not isEmptyLayer(layer) for layer in layers)
