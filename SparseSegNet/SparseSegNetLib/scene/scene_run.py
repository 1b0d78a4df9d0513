"""A training run that began in the scene and ends there. No qt, no torch."""

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

# Runs that go on although nobody holds them: in the console the result of a call is easily not
# assigned, and a run that is collected takes its engine with it.
_active: set[SceneRun] = set()


class SceneRun:
    """A run that began in the scene and ends there.

    Nodes are held weakly: they may be gone, or changed, when the result comes.
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
        """preparing, training, paused, finishing, done, failed or cancelled; as of now."""
        return self.poll()

    @property
    def progress(self) -> dict:
        """The newest progress: step, loss, seconds, remaining (seconds), fraction, phase."""
        self.poll()
        return self._run.progress

    @property
    def metrics(self) -> list[dict]:
        """Scores on held-out slices so far."""
        self.poll()
        return self._run.metrics

    @property
    def warnings(self) -> list[str]:
        """What was noticed about the annotation, and what the engine has warned of so far."""
        self.poll()
        return [*self._warnings, *self._run.warnings, *self._run.folder.notes]

    @property
    def volumeNode(self):
        """The (first) volume; None when it has gone from the scene."""
        return self._volume.get() if self._volume.alive else None

    @property
    def segmentationNode(self):
        """The segmentation that was drawn; None when it has gone from the scene."""
        return self._segmentation.get() if self._segmentation.alive else None

    @property
    def slices(self) -> list[AnnotatedSlice]:
        """The slices that count as annotated, as the engine was told last."""
        return self._run.folder.read_slices()

    @property
    def options(self):
        """The options of the run (run.options.Options)."""
        return self._run.folder.options

    @property
    def plan(self) -> dict | None:
        """The engine's plan once it is known: device, patch, network and more."""
        return self._run.plan

    @property
    def error(self):
        """EngineError when the run failed, else None."""
        return self._run.error

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._run.folder.path

    def observe(self, observer) -> None:
        """Have `observer(event)` called with each event from within `poll` and `wait`."""
        self._run.observe(observer)

    def poll(self) -> str:
        """Take in what the engine has said, without waiting. Returns the state."""
        return self._settled(self._run.poll())

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the end, at most `timeout` seconds. Returns the state."""
        return self._settled(self._run.wait(timeout))

    def stop(self) -> None:
        """End training now and keep the best result so far."""
        self._run.stop()

    def pause(self) -> None:
        """Let the engine rest and free the GPU's memory; its time stands still."""
        self._run.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._run.resume()

    def setTimeBudget(self, seconds: float) -> None:
        """Change the time that the run may take in all, while it trains."""
        self._run.set_time_budget(seconds)

    def updateLabels(self, slices: Sequence[AnnotatedSlice] | str | None = None) -> None:
        """Train on what is drawn in the segmentation now, without beginning anew.

        slices: the annotated slices now; None as at the beginning: those that were named then, or
        found from what is drawn. Raises InputError when segments were added or removed, or when
        nothing could be learnt.
        """
        if slices is not None:
            self._slices = parse_slices([slices]) if isinstance(slices, str) else list(slices)
        volume, source = self._volume.get(), self._segmentation.get()
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
        """Ask for the newest prediction, of slices ('k:10 j:5') or of everything. An event
        'preview' tells when `updatePreview` will show it."""
        self._run.preview(None if slices is None else slices.split())

    def updatePreview(self):
        """The newest dense prediction as a segmentation node, which each call brings up to date;
        None while there is none."""
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
        """Give up; nothing in the scene changes, and a run folder that was named keeps its
        checkpoint. wait=False: `poll` sees it end."""
        if wait:
            self._run.cancel()
        else:
            self._run.begin_cancel()
        self._settled(self.state)

    def saveModel(self, path: Path | str) -> Path:
        """Copy the trained model (.safetensors) to `path`."""
        if self.state != "done":
            raise InputError(f"there is no trained model: the run is {self.state}.")
        return Path(shutil.copyfile(self._run.folder.model_path, path))

    @property
    def result(self):
        """The dense segmentation as a node of its own, made when first asked for.

        Raises the run's error when it failed; InputError when it is not done, or when the
        volume or the segmentation has gone from the scene.
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
        """How sure the model is, as a scalar volume node of its own, made when first asked for:
        0 certain, 255 undecided between the two likeliest segments; 0 where it was drawn."""
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
        """Where the model says otherwise than was drawn, the most conspicuous first: voxels,
        voxel (k, j, i) to look at, drawn and model (names of segments, or 'background')."""
        return self._run.folder.read_disagreements()

    def takeCorrections(self) -> int:
        """Draw into the annotation what was changed in the result since it came; how many voxels.

        What was erased in the result becomes a Background segment of the annotation.
        """
        return takeCorrections(
            self.result,
            self._run.result(),
            [s.id for s in self._run.folder.segments],
            self._segmentation.get(),
            self._volume.get(),
        )

    def _checkGrid(self, volume, kept: str) -> None:
        if (difference := self._geometry.difference(volumeGeometry(volume))) is not None:
            raise InputError(
                f"the volume '{volume.GetName()}' was changed while it was learnt: "
                f"{difference} (then against now). {kept}".strip()
            )

    def _resultNode(self, labels, source, volume, name: str):
        segments = self._run.folder.segments
        missing = [s.name for s in segments if source.GetSegmentation().GetSegment(s.id) is None]
        if missing:
            raise InputError(
                f"the segment '{missing[0]}' was removed from '{source.GetName()}' "
                f"while it was learnt. The result is kept in {self.folder}."
            )
        return createResultNode(labels, [s.id for s in segments], source, volume, name)

    def _settled(self, state: str) -> str:
        if self._run.ended:
            _active.discard(self)
        return state
