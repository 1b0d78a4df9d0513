"""The annotation in the scene, segments and annotated slices, as a label array for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..annotation.composition import UNLABELLED, check_trainable, restrict_to_slices
from ..annotation.drawn import LabelArray, label_array
from ..annotation.drawn_messages import Source
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice, format_slices, in_slices, parse_slices
from ..errors import InputError
from ..steps import Steps, finished
from .corrected_voxels import CorrectedVoxels, correctedVoxels
from .prediction_start import startedFromPrediction
from .segmentations import KnownLayers, Layers, readLayers
from .slice_list import SliceList, listedSlices
from .taken_over import TakenOver, heldVoxels, unconfirmed

NAME_SLICES = "mark them as complete in the list, or name them (slices='k:10,20 i:5')"
MARK_BACKGROUND = (
    "Fill the structures, or draw strokes of a segment called Background too (then only what is "
    "drawn is labelled)"
)


@dataclass
class NodeAnnotation:
    """The annotation of a segmentation node.

    Attributes:
        labels: uint8 (k, j, i) on the volume's grid: 0 background, 1..K segments, 255 unlabelled.
        segments: The segments, without Background.
        slices: The annotated slices.
        warnings: Warnings for the user.
        complete: Those of the slices in which every voxel that no segment covers is background.
    """

    labels: np.ndarray
    segments: list[Segment]
    slices: list[AnnotatedSlice]
    warnings: list[str]
    complete: list[AnnotatedSlice]

    def differs(self, labels: np.ndarray, slices: list[AnnotatedSlice]) -> bool:
        """True if these are other labels or slices."""
        return self.slices != slices or not np.array_equal(self.labels, labels)


def annotationOf(
    segmentationNode,
    volumeNode,
    slices: list[AnnotatedSlice] | None,
    trainable: bool = True,
) -> NodeAnnotation:
    """The annotation drawn in a segmentation node, as labels for training.

    Args:
        segmentationNode: The segmentation.
        volumeNode: The volume whose grid is used.
        slices: The annotated slices. None for those listed with the node or, without a list, for
            the smallest set that covers what was drawn (corrected voxels of a result do not count:
            they do not make their slices complete). What was taken over from a prediction is
            unlabelled before it is confirmed (see `scene.taken_over`).
        trainable: False accepts an annotation that cannot be trained on alone, also an empty one.

    Returns:
        Labels, segments, slices and warnings.

    Raises:
        InputError: If nodes, slices or labels cannot be used.
    """
    return finished(readAnnotation(segmentationNode, volumeNode, slices, trainable))


def readAnnotation(
    segmentationNode,
    volumeNode,
    slices: list[AnnotatedSlice] | None,
    trainable: bool = True,
    known: KnownLayers = None,
) -> Steps[NodeAnnotation]:
    """The annotation of a segmentation node in steps (see `steps`), as `annotationOf`.

    It is that of the moment at which the last of it was read; what is made of it needs no nodes.

    Args:
        segmentationNode: The segmentation.
        volumeNode: The volume whose grid is used.
        slices: As for `annotationOf`.
        trainable: As for `annotationOf`.
        known: See `segmentations.readLayers`.
    """
    layers = yield from readLayers(segmentationNode, volumeNode, known)
    grid = layers.grid
    made = _Read(
        layers,
        slices,
        listedSlices(segmentationNode, grid),
        correctedVoxels(segmentationNode, grid),
        unconfirmed(segmentationNode, grid),
        startedFromPrediction(segmentationNode),
    )
    del layers  # lent: whoever paints on meanwhile would copy them
    return (yield partial(made.annotation, trainable))


@dataclass
class _Read:
    """Content of a segmentation node and of its attributes, without the node."""

    layers: Layers
    slices: list[AnnotatedSlice] | None
    listed: SliceList | None
    known: CorrectedVoxels
    unconfirmed: list[TakenOver]
    predicted: bool

    def annotation(self, trainable: bool) -> NodeAnnotation:
        """Labels, segments, slices and warnings, see `annotationOf`."""
        drawn, geometry, name = self.layers.drawn(), self.layers.grid, self.layers.name
        warnings = list(drawn.warnings)
        chosen: Mapping[AnnotatedSlice, bool] | list[AnnotatedSlice] | None = self.slices
        if self.slices is None and self.listed is not None:
            chosen = self.listed.slices
            warnings.append(self.listed.warning)
        warnings.append(self.known.warning)
        corrected = None
        if self.known.voxels.size:
            corrected = np.zeros(geometry.shape, bool)
            corrected.ravel()[self.known.voxels] = True
        noStrokes = corrected
        if self.unconfirmed:
            noStrokes = np.zeros(geometry.shape, bool) if corrected is None else corrected.copy()
            for voxels in (v for entry in self.unconfirmed for v in entry.voxels.values()):
                noStrokes.ravel()[voxels] = True
        names = [s.name for s in drawn.segments]
        found = label_array(
            drawn.drawings,
            geometry,
            chosen,
            Source(name, names, NAME_SLICES, MARK_BACKGROUND),
            noStrokes,
        )
        warnings = [*filter(None, warnings), *found.warnings]
        labels, open_ = found.labels, self.unconfirmed
        if open_:
            ids = [s.id for s in drawn.segments]
            open_ = [entry for entry in open_ if entry.held(labels, ids).size]  # not undone
            waiting = _waiting(open_, found, ids)
            labels.ravel()[waiting] = UNLABELLED
            warnings += _unconfirmed(name, open_, waiting)
        if self.predicted:
            labels = restrict_to_slices(labels, found.slices)
            if corrected is not None:
                np.copyto(labels, found.labels, where=corrected)
        try:
            if trainable:
                check_trainable(labels, names)
        except InputError as error:
            # Slices that were lost to another grid may be the cause.
            raise InputError(" ".join([str(error), *warnings])) from error
        slices = _marked(found.slices, self.listed, open_)
        return NodeAnnotation(labels, drawn.segments, slices, warnings, found.complete)


def _marked(
    slices: list[AnnotatedSlice], listed: SliceList | None, open_: list[TakenOver]
) -> list[AnnotatedSlice]:
    """The slices, those that were named as well, marked where they began from a prediction."""
    began = {s.place for s in (listed.slices if listed else ()) if s.prefilled}
    began.update(s.place for entry in open_ for s in entry.slices)
    return [replace(s, prefilled=s.place in began) for s in slices]


def _waiting(open_: list[TakenOver], found: LabelArray, ids: list[str]) -> np.ndarray:
    """Flat indices of voxels taken over from a prediction that the user has not confirmed.

    In a complete slice that crosses theirs they are part of its annotation.
    """
    held = heldVoxels(open_, found.labels, ids)
    return held[~in_slices(held, found.complete, found.labels.shape)]


def _unconfirmed(name: str, open_: list[TakenOver], waiting: np.ndarray) -> list[str]:
    if not waiting.size:
        return []
    slices = format_slices({item for entry in open_ for item in entry.slices})
    return [
        f"{waiting.size} voxels of '{name}' were taken over from a "
        f"prediction ({slices}) and do not count before these slices are corrected or marked as "
        "complete."
    ]


def slicesPerCase(slices: Sequence | None, count: int) -> list[list[AnnotatedSlice] | None]:
    """The annotated slices named for each volume, parsed.

    Args:
        slices: For each volume its slices, such as "k:10,20 i:5", or None; None for none named.
        count: Number of volumes.

    Raises:
        InputError: If they are not as many as volumes, or cannot be parsed.
    """
    if slices is None:
        return [None] * count
    if isinstance(slices, str) or len(slices) != count:
        raise InputError(
            f"slices are given for {1 if isinstance(slices, str) else len(slices)} of {count} "
            "volumes: give a list with one entry for each, None where they are to be found."
        )
    return [
        parse_slices([own]) if isinstance(own, str) else None if own is None else list(own)
        for own in slices
    ]
