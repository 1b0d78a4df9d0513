"""A run on nodes of the scene, without qt and torch."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..annotation.slices import AnnotatedSlice
from ..client.engine_run import EngineRun
from ..errors import InputError
from ..runfolder.atomic import atomic_path
from ..runfolder.file_retries import remove_tree
from ..steps import Steps, finished
from ..suggestion.suggested_slice import SuggestedSlice
from .annotations import NodeAnnotation, slicesPerCase
from .corrections import takeCorrections
from .run_case import RunCase
from .run_outcome import RunOutcome
from .segmentations import KnownLayers

# Keeps runs alive that nobody refers to: in the console the result of a call is easily not
# assigned, and a run that is garbage-collected ends its engine.
_active: set[SceneRun] = set()


class SceneRun(RunOutcome):
    """A run on volumes of the scene: it trains on one or several, or applies a model to one.

    Args:
        run: The run of the engine.
        cases: The volumes with their nodes, in the order of the run's inputs.
        temporary: True deletes the run folder when this object is garbage-collected.
        warnings: Warnings about the annotation.
    """

    def __init__(
        self,
        run: EngineRun,
        cases: Sequence[RunCase],
        temporary: bool,
        warnings: Sequence[str] = (),
    ):
        self._run, self._cases = run, list(cases)
        self._warnings = list(warnings)
        for case in self._cases:
            case.temporary = temporary
        self._discard = (
            weakref.finalize(self, remove_tree, str(run.folder.path), True) if temporary else None
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
        return self._cases[0].volumeNode

    @property
    def segmentationNode(self):
        """The (first) annotated segmentation; None without one, or if it was removed."""
        return self._cases[0].segmentationNode

    @property
    def volumeNodes(self) -> list:
        """The (first) volume of each case; None for those removed from the scene."""
        return [case.volumeNode for case in self._cases]

    @property
    def slices(self) -> list[AnnotatedSlice]:
        """The annotated slices of the first volume as they were last sent to the engine."""
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

    def updateLabels(self, slices: Sequence | str | None = None, segmentationNode=None) -> None:
        """Sends the present annotation to the engine, which continues training on it.

        Args:
            slices: The annotated slices; for a run of several volumes a list with those of each.
                None as at the start: those that were named then, or those that belong to the
                segmentation (listed with it, or detected).
            segmentationNode: The only segmentation that has changed; None looks at all.

        Raises:
            InputError: If segments were added, removed or moved, the volume's grid was changed,
                or the annotation cannot be trained on.
            EngineError: If the run folder cannot be written.
        """
        finished(self.updatingLabels(slices, segmentationNode))

    def updatingLabels(
        self, slices: Sequence | str | None = None, segmentationNode=None, known: KnownLayers = None
    ) -> Steps[None]:
        """Sends the present annotation in steps (see `steps`), as `updateLabels`.

        Args:
            slices: As for `updateLabels`.
            segmentationNode: As for `updateLabels`.
            known: See `segmentations.readLayers`.
        """
        alone = len(self._cases) == 1
        given = slicesPerCase([slices] if alone else slices, len(self._cases))
        found = []
        for case, named in zip(self._cases, given, strict=True):
            if segmentationNode in (None, case.segmentationNode):
                annotation = yield from case.readAnnotation(named, alone, known)
                if annotation is not None:
                    found.append((case.number, annotation))
        if segmentationNode is None or alone:
            self._warnings = [text for _, annotation in found for text in annotation.warnings]
        for number, annotation in found:
            if alone or (yield partial(self._differs, annotation, number)):
                yield from self._run.changing_labels(annotation.labels, annotation.slices, number)

    def _differs(self, annotation: NodeAnnotation, number: int) -> bool:
        folder = self._run.folder
        return annotation.differs(folder.read_labels(number), folder.read_slices(number))

    @property
    def takesLabels(self) -> bool:
        """True once the engine is there, so that changed labels are sent to it at once."""
        return self._run.takes_labels

    def requestPreview(self, slices: str | None = None, volumeNode=None) -> None:
        """Requests a new prediction; the event 'preview' reports that `updatePreview` can show it.

        Args:
            slices: The slices to predict, such as 'k:10 j:5'; None for the whole volume.
            volumeNode: A volume of the run; None for the first one.
        """
        case = self._case(volumeNode)
        self._run.preview(None if slices is None else slices.split(), case.number)

    def updatePreview(self, volumeNode=None):
        """Shows the newest prediction in a node, which each call updates.

        Args:
            volumeNode: A volume of the run; None for the first one.

        Returns:
            The segmentation node, or None while there is no prediction.

        Raises:
            InputError: If volume, segmentation or a segment was removed from the scene, or the
                volume's grid was changed.
        """
        return finished(self.updatingPreview(volumeNode))

    def updatingPreview(self, volumeNode=None) -> Steps:
        """Shows the newest prediction in steps (see `steps`), as `updatePreview`."""
        return self._case(volumeNode).showingPreview(self._run)

    def suggestSlices(self, n: int = 3, volumeNode=None) -> list[SuggestedSlice]:
        """Suggests slices to draw next, for the annotation as it is now, most useful first.

        Args:
            n: Number of slices at most.
            volumeNode: A volume of the run; None for the first one.

        Raises:
            InputError: If the annotation cannot be used.
        """
        return self._case(volumeNode).suggestions(self._run.folder, n)

    def _case(self, volumeNode) -> RunCase:
        for case in self._cases:
            if volumeNode is None or case.volumeNode is volumeNode:
                return case
        raise InputError(f"the run does not know the volume '{volumeNode.GetName()}'.")

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

    @property
    def modelFile(self) -> Path:
        """The file of the trained or applied model, in the run folder.

        Raises:
            InputError: If the run is not done.
        """
        if self.state != "done":
            raise InputError(f"there is no trained model: the run is {self.state}.")
        folder = self._run.folder
        given = folder.given_model if folder.task == "segment" else None
        path = given or folder.model_path
        if not path.is_file():
            raise InputError(f"the run {folder.path} has kept no model: train again to get one.")
        return path

    def saveModel(self, path: Path | str) -> Path:
        """Copies the trained model (.safetensors).

        Args:
            path: The file to write.

        Returns:
            The file written.

        Raises:
            InputError: If the run is not done, or the file cannot be written.
        """
        source = self.modelFile
        try:
            with atomic_path(path) as temporary:
                shutil.copyfile(source, temporary)
        except OSError as error:
            raise InputError(
                f"the model cannot be written to {path} ({error.strerror or error}): choose "
                "another folder."
            ) from error
        return Path(path)

    def takeCorrections(self) -> int:
        """Copies the user's corrections of the result into the annotation.

        Voxels that were erased in the result are added to a Background segment of the annotation.

        Returns:
            The number of corrected voxels.

        Raises:
            InputError: If a segment of the result was removed, or there is no result, or the run
                is no densification of one volume.
        """
        folder = self._run.folder
        if folder.task != "densify":
            raise InputError(
                "corrections are taken over from the result of a run on one volume: correct the "
                "annotation of the volumes itself, and begin a new run."
            )
        return takeCorrections(
            self.result,
            self._run.result(),
            [s.id for s in folder.segments],
            self.segmentationNode,
            self.volumeNode,
            folder.geometry(),
        )

    def _settled(self, state: str) -> str:
        if self._run.ended:
            _active.discard(self)
        return state
