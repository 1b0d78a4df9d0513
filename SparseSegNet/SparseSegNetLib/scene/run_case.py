"""One volume of a run, with the nodes that belong to it and those that are made for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..annotation.geometry import Geometry
from ..annotation.merging import renumbered
from ..annotation.slices import AnnotatedSlice
from ..client.engine_run import EngineRun
from ..errors import InputError
from ..runfolder.folder import RunFolder
from ..steps import Steps, finished
from ..suggestion.suggested_slice import SuggestedSlice
from .annotations import NodeAnnotation, readAnnotation
from .next_slices import suggestedFor
from .node_reference import NodeReference
from .results import LayerBuffer, createResultNode, createUncertaintyNode, updateResultNode
from .segmentations import KnownLayers
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

    Attributes:
        temporary: Whether the run folder goes with the run.
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
        self.temporary = False

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
        return finished(self.readAnnotation(slices, alone))

    def readAnnotation(
        self, slices: list[AnnotatedSlice] | None, alone: bool, known: KnownLayers = None
    ) -> Steps[NodeAnnotation | None]:
        """The present annotation in steps (see `steps`), as `annotation`.

        Args:
            slices: As for `annotation`.
            alone: As for `annotation`.
            known: See `segmentations.readLayers`.
        """
        if self._segmentation is None or not self._ids:
            return None
        if slices is not None:
            self.slices = slices
        volume, source = self._volume.get(), self._segmentation.get()
        self._checkGrid(volume)
        found = yield from readAnnotation(source, volume, self.slices, alone, known)
        if [s.id for s in found.segments] != self._ids:
            raise InputError(
                f"segments of '{source.GetName()}' were added, removed or moved "
                "since the run began: begin a new one."
            )
        if (merged := self._merged) is not None:
            found.labels = yield lambda: renumbered(found.labels, merged)
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
        return finished(self.showingPreview(run))

    def showingPreview(self, run: EngineRun) -> Steps:
        """Shows the newest prediction in steps (see `steps`), as `showPreview`."""
        buffer = yield from self._buffered(run, lambda: run.folder.read_preview(self.number))
        if buffer is None:
            return None
        volume = self._volume.get()
        self._checkGrid(volume)
        if self._preview is None or not self._preview.alive:
            node = self._resultNode(run, buffer, volume, f"{self._name} preview")
            self._preview = NodeReference(node, "preview")
        else:
            ids = [s.id for s in run.folder.segments]
            updateResultNode(self._preview.get(), buffer, ids, volume)
        return self._preview.get()

    def result(self, run: EngineRun):
        """The dense segmentation as a new node, created at the first call."""
        return finished(self.makingResult(run))

    def makingResult(self, run: EngineRun) -> Steps:
        """Makes the dense segmentation in steps (see `steps`), as `result`."""
        kept = self._kept(run)
        if self._result is None:
            buffer = yield from self._buffered(run, lambda: run.result(self.number))
        if self._result is not None:
            return self._result.get(kept)
        volume = self._volume.get(kept)
        if self._segmentation is not None and self._merged is None:
            self._segmentation.get(kept)
        self._checkGrid(volume, kept)
        node = self._resultNode(run, buffer, volume, self._resultName)
        self._result = NodeReference(node, "result")
        return node

    def _buffered(
        self, run: EngineRun, read: Callable[[], np.ndarray | None]
    ) -> Steps[LayerBuffer | None]:
        """Reads labels into the memory of a layer; None if there are none."""
        buffer = LayerBuffer(run.folder.shape(self.number))

        def filled() -> bool:
            labels = read()
            if labels is not None:
                buffer.labels[...] = labels
            return labels is not None

        return buffer if (yield filled) else None

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

    def _kept(self, run: EngineRun) -> str:
        how = (
            " as long as this run object lives."
            if self.temporary
            else f": 'sparsesegnet export \"{run.folder.path}\" -o FILE' writes it."
        )
        return f"The result is kept in {run.folder.path}{how}"

    def _checkGrid(self, volume, kept: str = "") -> None:
        if (difference := self._geometry.difference(volumeGeometry(volume))) is not None:
            raise InputError(
                f"the volume '{volume.GetName()}' was changed during training: "
                f"{difference} (then against now). {kept}".strip()
            )

    def _resultNode(self, run: EngineRun, labels: LayerBuffer, volume, name: str):
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
                f"during training. {self._kept(run)}"
            )
        return createResultNode(labels, ids, source, volume, name, self.number)
