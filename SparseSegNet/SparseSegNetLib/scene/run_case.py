"""One volume of a run, with the nodes that belong to it and those that are made for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..annotation.geometry import Geometry
from ..annotation.merging import renumbered
from ..annotation.slices import AnnotatedSlice
from ..client.engine_run import EngineRun
from ..errors import InputError
from ..runfolder.folder import RunFolder
from ..suggestion.suggested_slice import SuggestedSlice
from .annotations import NodeAnnotation, annotationOf
from .next_slices import suggestedFor
from .node_reference import NodeReference
from .results import createResultNode, createUncertaintyNode, updateResultNode
from .volumes import volumeGeometry


class RunCase:
    """One volume of a run.

    Nodes are referred to weakly: they may be removed or changed before the result arrives.

    Args:
        number: The run's input, from 1.
        volumeNode: The (first) volume.
        segmentationNode: The segmentation that is annotated; None without one.
        geometry: The volume's grid when the run began.
        segmentIds: The segments of the segmentation when the run began, without Background.
        slices: The annotated slices that were named; None if they come from the segmentation.
        merged: The run's class for each of the segments; None if they are the run's own classes.
    """

    def __init__(
        self,
        number: int,
        volumeNode,
        segmentationNode,
        geometry: Geometry,
        segmentIds: Sequence[str] = (),
        slices: list[AnnotatedSlice] | None = None,
        merged: Sequence[int] | None = None,
    ):
        self.number = number
        self.slices = slices
        self._volume = NodeReference(volumeNode, "volume")
        self._segmentation = (
            None if segmentationNode is None else NodeReference(segmentationNode, "segmentation")
        )
        self._geometry, self._ids = geometry, list(segmentIds)
        self._merged = merged
        volume = volumeNode.GetName() or ""
        drawn = "" if segmentationNode is None else segmentationNode.GetName() or ""
        self._name = drawn or volume
        self._resultName = f"{drawn} dense" if drawn else f"{volume} segmentation"
        self._result: NodeReference | None = None
        self._preview: NodeReference | None = None
        self._uncertainty: NodeReference | None = None

    @property
    def volumeNode(self):
        """The (first) volume; None if it was removed from the scene."""
        return self._volume.get() if self._volume.alive else None

    @property
    def segmentationNode(self):
        """The annotated segmentation; None without one, or if it was removed from the scene."""
        known = self._segmentation
        return known.get() if known is not None and known.alive else None

    def annotation(self, slices: list[AnnotatedSlice] | None, alone: bool) -> NodeAnnotation | None:
        """The present annotation, in the run's classes.

        Args:
            slices: The annotated slices; None as when the run began.
            alone: True if it is the run's only volume, which must be annotated then.

        Returns:
            The annotation; None if the volume has no segmentation, or had no annotation when the
            run began.

        Raises:
            InputError: If segments were added, removed or moved, the volume's grid was changed,
                or the annotation cannot be trained on.
        """
        if self._segmentation is None or not self._ids:
            return None
        if slices is not None:
            self.slices = slices
        volume, source = self._volume.get(), self._segmentation.get()
        self._checkGrid(volume)
        found = annotationOf(source, volume, self.slices, trainable=alone)
        if [s.id for s in found.segments] != self._ids:
            raise InputError(
                f"segments of '{source.GetName()}' were added, removed or moved "
                "since the run began: begin a new one."
            )
        if self._merged is not None:
            found.labels = renumbered(found.labels, self._merged)
        return found

    def suggestions(self, folder: RunFolder, count: int) -> list[SuggestedSlice]:
        """Suggests slices to draw next, for the annotation as it is now.

        Args:
            folder: The run folder.
            count: Number of slices at most.

        Raises:
            InputError: As for `annotation`, or if the volume is not annotated.
        """
        found = self.annotation(None, alone=False)
        if found is None:
            raise InputError(f"'{self._name}' is not annotated: no slice of it can be suggested.")
        return suggestedFor(found, folder.names, self._geometry, folder, self.number, count)

    def showPreview(self, run: EngineRun):
        """Shows the newest prediction in a node, which each call updates; None without one."""
        labels = run.folder.read_preview(self.number)
        if labels is None:
            return None
        volume = self._volume.get()
        self._checkGrid(volume)
        if self._preview is None or not self._preview.alive:
            node = self._resultNode(run, labels, volume, f"{self._name} preview")
            self._preview = NodeReference(node, "preview")
        else:
            ids = [s.id for s in run.folder.segments]
            updateResultNode(self._preview.get(), labels, ids, volume)
        return self._preview.get()

    def result(self, run: EngineRun):
        """The dense segmentation as a new node, created at the first call."""
        kept = f"The result is kept in {run.folder.path} as long as this run object lives."
        if self._result is not None:
            return self._result.get(kept)
        labels = run.result(self.number)
        volume = self._volume.get(kept)
        if self._segmentation is not None and self._merged is None:
            self._segmentation.get(kept)
        self._checkGrid(volume, kept)
        node = self._resultNode(run, labels, volume, self._resultName)
        self._result = NodeReference(node, "result")
        return node

    def uncertainty(self, run: EngineRun):
        """The model's uncertainty as a scalar volume node, created at the first call."""
        run.result(self.number)
        volume = self._volume.get()
        if self._uncertainty is None or not self._uncertainty.alive:
            node = createUncertaintyNode(
                run.folder.read_uncertainty(self.number), volume, f"{self._name} uncertainty"
            )
            self._uncertainty = NodeReference(node, "uncertainty volume")
        return self._uncertainty.get()

    def _checkGrid(self, volume, kept: str = "") -> None:
        if (difference := self._geometry.difference(volumeGeometry(volume))) is not None:
            raise InputError(
                f"the volume '{volume.GetName()}' was changed during training: "
                f"{difference} (then against now). {kept}".strip()
            )

    def _resultNode(self, run: EngineRun, labels: np.ndarray, volume, name: str):
        segments = run.folder.segments
        ids = [s.id for s in segments]
        if self._segmentation is None or self._merged is not None:
            return createResultNode(labels, ids, segments, volume, name, self.number)
        # Its own segments, as they are called now.
        source = self._segmentation.get()
        missing = [s.name for s in segments if source.GetSegmentation().GetSegment(s.id) is None]
        if missing:
            raise InputError(
                f"the segment '{missing[0]}' was removed from '{source.GetName()}' "
                f"during training. The result is kept in {run.folder.path}."
            )
        return createResultNode(labels, ids, source, volume, name, self.number)
