"""A training run on nodes of the scene, without qt and torch."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

from ..annotation.geometry import Geometry
from ..annotation.slices import AnnotatedSlice, parse_slices
from ..client.engine_run import EngineRun
from ..errors import InputError
from .annotations import annotationOf
from .corrections import takeCorrections
from .node_reference import NodeReference
from .results import createResultNode, createUncertaintyNode, updateResultNode
from .volumes import volumeGeometry

# Keeps runs alive that nobody refers to: in the console the result of a call is easily not
# assigned, and a run that is garbage-collected ends its engine.
_active: set[SceneRun] = set()


class SceneRun:
    """A training run on a volume and a segmentation of the scene.

    Nodes are referred to weakly: they may be removed or changed before the result arrives.

    Args:
        run: The run of the engine.
        volumeNode: The (first) volume.
        segmentationNode: The segmentation that is annotated.
        geometry: The volume's grid when the run began.
        temporary: True deletes the run folder when this object is garbage-collected.
        warnings: Warnings about the annotation.
        slices: The annotated slices that were named; None if they come from the segmentation.
    """

    def __init__(
        self,
        run: EngineRun,
        volumeNode,
        segmentationNode,
        geometry: Geometry,
        temporary: bool,
        warnings: Sequence[str] = (),
        slices: list[AnnotatedSlice] | None = None,
    ):
        self._run = run
        self._warnings, self._slices = list(warnings), slices
        self._volume = NodeReference(volumeNode, "volume")
        self._segmentation = NodeReference(segmentationNode, "segmentation")
        self._geometry = geometry
        self._name = segmentationNode.GetName() or ""
        self._result: NodeReference | None = None
        self._preview: NodeReference | None = None
        self._uncertainty: NodeReference | None = None
        self._discard = (
            weakref.finalize(self, shutil.rmtree, str(run.folder.path), True) if temporary else None
        )
        _active.add(self)

    @property
    def state(self) -> str:
        """The present state.

        One of preparing, training, paused, finishing, done, failed or cancelled.
        """
        return self.poll()

    @property
    def progress(self) -> dict:
        """The newest progress event: step, loss, seconds, remaining seconds, fraction, phase."""
        self.poll()
        return self._run.progress

    @property
    def metrics(self) -> list[dict]:
        """Scores on held-out slices so far."""
        self.poll()
        return self._run.metrics

    @property
    def warnings(self) -> list[str]:
        """Warnings about the annotation, from the engine and from the run folder so far."""
        self.poll()
        return [*self._warnings, *self._run.warnings, *self._run.folder.notes]

    @property
    def volumeNode(self):
        """The (first) volume; None if it was removed from the scene."""
        return self._volume.get() if self._volume.alive else None

    @property
    def segmentationNode(self):
        """The annotated segmentation; None if it was removed from the scene."""
        return self._segmentation.get() if self._segmentation.alive else None

    @property
    def slices(self) -> list[AnnotatedSlice]:
        """The annotated slices as they were last sent to the engine."""
        return self._run.folder.read_slices()

    @property
    def options(self):
        """The options of the run (runfolder.options.Options)."""
        return self._run.folder.options

    @property
    def plan(self) -> dict | None:
        """The engine's plan: device, patch, network and more; None until it is known."""
        return self._run.plan

    @property
    def error(self):
        """The EngineError of a run that failed, else None."""
        return self._run.error

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._run.folder.path

    def observe(self, observer) -> None:
        """Registers `observer(event)`, which `poll` and `wait` call with each event."""
        self._run.observe(observer)

    def poll(self) -> str:
        """Processes the engine's new events without waiting; returns the state."""
        return self._settled(self._run.poll())

    def wait(self, timeout: float | None = None) -> str:
        """Waits for the end of the run.

        Args:
            timeout: Seconds to wait at most; None waits without limit.

        Returns:
            The state.
        """
        return self._settled(self._run.wait(timeout))

    def stop(self) -> None:
        """Stops training now and keeps the best result so far."""
        self._run.stop()

    def pause(self) -> None:
        """Pauses training and frees the GPU's memory; paused time does not count."""
        self._run.pause()

    def resume(self) -> None:
        """Resumes training after `pause`."""
        self._run.resume()

    def setTimeBudget(self, seconds: float) -> None:
        """Changes the time budget of the whole run while it trains.

        Args:
            seconds: The new budget, from the run's start to its result.
        """
        self._run.set_time_budget(seconds)

    def updateLabels(self, slices: Sequence[AnnotatedSlice] | str | None = None) -> None:
        """Sends the present annotation to the engine, which continues training on it.

        Args:
            slices: The annotated slices. None as at the start: those that were named then, or
                those that belong to the segmentation (listed with it, or detected).

        Raises:
            InputError: If segments were added, removed or moved, the volume's grid was changed,
                or the annotation cannot be trained on.
        """
        if slices is not None:
            self._slices = parse_slices([slices]) if isinstance(slices, str) else list(slices)
        volume, source = self._volume.get(), self._segmentation.get()
        self._checkGrid(volume, "")
        annotation = annotationOf(source, volume, self._slices)
        ids = [s.id for s in self._run.folder.segments]
        if [s.id for s in annotation.segments] != ids:
            raise InputError(
                f"segments of '{source.GetName()}' were added, removed or moved "
                "since the run began: begin a new one."
            )
        self._warnings = annotation.warnings
        self._run.change_labels(annotation.labels, annotation.slices)

    def requestPreview(self, slices: str | None = None) -> None:
        """Requests a new prediction; the event 'preview' reports that `updatePreview` can show it.

        Args:
            slices: The slices to predict, such as 'k:10 j:5'; None for the whole volume.
        """
        self._run.preview(None if slices is None else slices.split())

    def updatePreview(self):
        """Shows the newest prediction in a segmentation node, which each call updates.

        Returns:
            The node, or None while there is no prediction.

        Raises:
            InputError: If volume, segmentation or a segment was removed from the scene, or the
                volume's grid was changed.
        """
        labels = self._run.folder.read_preview()
        if labels is None:
            return None
        volume, source = self._volume.get(), self._segmentation.get()
        self._checkGrid(volume, "")
        if self._preview is None or not self._preview.alive:
            node = self._resultNode(labels, source, volume, f"{self._name} preview")
            self._preview = NodeReference(node, "preview")
        else:
            updateResultNode(
                self._preview.get(), labels, [s.id for s in self._run.folder.segments], volume
            )
        return self._preview.get()

    def cancel(self, wait: bool = True) -> None:
        """Cancels the run without changing the scene; a named run folder keeps its checkpoint.

        Args:
            wait: False returns at once; `poll` then reports the end.
        """
        if wait:
            self._run.cancel()
        else:
            self._run.begin_cancel()
        self._settled(self.state)

    def saveModel(self, path: Path | str) -> Path:
        """Copies the trained model (.safetensors).

        Args:
            path: The file to write.

        Returns:
            The file written.

        Raises:
            InputError: If the run is not done.
        """
        if self.state != "done":
            raise InputError(f"there is no trained model: the run is {self.state}.")
        return Path(shutil.copyfile(self._run.folder.model_path, path))

    @property
    def result(self):
        """The dense segmentation as a new node, created at the first access.

        Raises:
            EngineError: If the run failed.
            InputError: If the run is not done, volume, segmentation or a segment was removed from
                the scene, or the volume's grid was changed.
        """
        kept = f"The result is kept in {self.folder} as long as this run object lives."
        if self._result is not None:
            return self._result.get(kept)
        labels = self._run.result()
        volume, source = self._volume.get(kept), self._segmentation.get(kept)
        self._checkGrid(volume, kept)
        node = self._resultNode(labels, source, volume, f"{self._name} dense")
        self._result = NodeReference(node, "result")
        return node

    @property
    def uncertainty(self):
        """The model's uncertainty as a scalar volume node, created at the first access.

        0 certain, 255 undecided between the two most probable segments; 0 in annotated voxels.
        """
        self._run.result()
        volume = self._volume.get()
        if self._uncertainty is None or not self._uncertainty.alive:
            node = createUncertaintyNode(
                self._run.folder.read_uncertainty(), volume, f"{self._name} uncertainty"
            )
            self._uncertainty = NodeReference(node, "uncertainty volume")
        return self._uncertainty.get()

    @property
    def disagreements(self) -> list[dict]:
        """Regions where the model's prediction disagrees with the annotation, most severe first.

        Each is a dict: voxels (their number), voxel (k, j, i) to look at, drawn and model (names
        of segments, or 'background').
        """
        return self._run.folder.read_disagreements()

    def takeCorrections(self) -> int:
        """Copies the user's corrections of the result into the annotation.

        Voxels that were erased in the result are added to a Background segment of the annotation.

        Returns:
            The number of corrected voxels.

        Raises:
            InputError: If a segment of the result was removed, or there is no result.
        """
        return takeCorrections(
            self.result,
            self._run.result(),
            [s.id for s in self._run.folder.segments],
            self._segmentation.get(),
            self._volume.get(),
            self._geometry,
        )

    def _checkGrid(self, volume, kept: str) -> None:
        if (difference := self._geometry.difference(volumeGeometry(volume))) is not None:
            raise InputError(
                f"the volume '{volume.GetName()}' was changed during training: "
                f"{difference} (then against now). {kept}".strip()
            )

    def _resultNode(self, labels, source, volume, name: str):
        segments = self._run.folder.segments
        missing = [s.name for s in segments if source.GetSegmentation().GetSegment(s.id) is None]
        if missing:
            raise InputError(
                f"the segment '{missing[0]}' was removed from '{source.GetName()}' "
                f"during training. The result is kept in {self.folder}."
            )
        return createResultNode(labels, [s.id for s in segments], source, volume, name)

    def _settled(self, state: str) -> str:
        if self._run.ended:
            _active.discard(self)
        return state
