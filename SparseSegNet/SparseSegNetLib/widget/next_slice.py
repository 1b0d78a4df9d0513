"""The slice to draw next, and its prediction as a start to correct; a part of Annotate."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import qt
from slicer.i18n import tr as _

from ..annotation.slices import AnnotatedSlice
from ..errors import InputError
from ..runfolder.folder import RunFolder
from ..scene import views
from ..scene.next_slices import suggestionTask
from ..scene.prediction_source import PredictionSource, sourceOf
from ..suggestion.suggested_slice import SuggestedSlice
from .background_task import BackgroundTask
from .run_controller import RunController
from .suggestion_table import SuggestionTable, sliceName

COUNT = 3
LOOK_EVERY = 0.5  # seconds between two looks at the run folder


class NextSlice:
    """Suggests slices, shows them, and takes predictions over.

    Suggestions are made in a thread, and only while the section is visible.

    Args:
        panel: The panel.
        controller: The run's controller.
        annotate: The section Annotate, with the editor and the planes that views show.
    """

    def __init__(self, panel, controller: RunController, annotate):
        self.panel, self.controller, self.ui = panel, controller, panel.ui
        self.annotate = annotate
        self.table = SuggestionTable(self.ui.suggestionTable, self.show)
        self.ui.nextSliceButton.clicked.connect(self.onNext)
        self.ui.takeOverButton.clicked.connect(self.onTakeOver)
        self.ui.undoTakeOverButton.clicked.connect(self.onUndo)
        self.ui.viewCombo.currentIndexChanged.connect(self.update)
        self._task: BackgroundTask | None = None
        self._taskOf: tuple = ()  # what the suggestions being made are for
        self._madeOf: tuple = ()  # what those shown are for
        self._found: list[SuggestedSlice] = []
        self._problem = ""
        self._shown: AnnotatedSlice | None = None
        self._jump = False  # to the first suggestion, once there are new ones
        self._opened: RunFolder | None = None
        self._source: PredictionSource | None = None
        self._lookedAt = 0.0

    def tick(self) -> None:
        """Makes suggestions anew where annotation or prediction have changed."""
        now = time.monotonic()
        if now - self._lookedAt > LOOK_EVERY:
            self._lookedAt = now
            self._source = self._findSource()
            self.update()
        busy = self.annotate.reading or self.controller.working
        if self._task is not None and self._task.poll():
            self._take(self._task)
        section = self.ui.annotateSection
        if self._task is None and not busy and section.visible and not section.collapsed:
            self._start()

    def _state(self) -> tuple:
        """All that suggestions depend on."""
        session, source = self.panel.session, self._source
        if session is None:
            return ()
        run = None
        if source is not None:
            folder, number = source.folder, source.number
            run = str(folder.path), number, folder.profiles_written(number)
        return session, session.revision, run

    def _start(self) -> None:
        state = self._state()
        if state in ((), self._madeOf) or self.panel.session.dirtySince is not None:
            return  # what was just painted is read first
        self._taskOf = state
        session, segmentation = self.panel.session, self.panel.parameters.segmentation
        work = suggestionTask(session.snapshot(), segmentation, self._source, COUNT)
        self._task = BackgroundTask(work)

    def _take(self, task: BackgroundTask) -> None:
        """Shows what a task has found, unless it is for other nodes than the present ones."""
        self._task, self._madeOf = None, self._taskOf
        if self.panel.session is not self._madeOf[0]:
            self._madeOf, self._jump = (), False
            return
        self._found, self._problem = list(task.result or []), ""
        if task.error is not None:
            self._problem = str(task.error)
            if not isinstance(task.error, InputError):
                logging.error("SparseSegNet: no suggestions", exc_info=task.error)
        self.update()
        if self._jump and self._madeOf == self._state():
            self._next()

    def _findSource(self) -> PredictionSource | None:
        """The newest run on the chosen volume and segmentation."""
        parameters, run = self.panel.parameters, self.controller.run
        if parameters is None or self.panel.session is None or not parameters.runFolder:
            return None
        path, volume = parameters.runFolder, parameters.volume
        number = None
        if run is not None and str(run.folder) == path:
            if volume not in run.volumeNodes:
                return None
            alone = len(run.volumeNodes) == 1
            if alone and run.segmentationNode is not parameters.segmentation:
                return None
            number = run.volumeNodes.index(volume) + 1
        if self._opened is None or str(self._opened.path) != path:
            try:
                self._opened = RunFolder.open(path)
            except InputError:
                self._opened = None  # Result and Train say so
                return None
        return sourceOf(self._opened, number, volume, parameters.result)

    @property
    def _here(self) -> AnnotatedSlice | None:
        """The slice in the view that 'Complete / empty here' is for."""
        planes = list(self.annotate.planes.values())
        index = self.ui.viewCombo.currentIndex
        return planes[index] if 0 <= index < len(planes) else None

    def update(self, *_unused) -> None:
        """Shows suggestions, and enables the buttons that apply."""
        ui, session, here = self.ui, self.panel.session, self._here
        ui.nextSliceButton.enabled = session is not None
        if session is None:
            self.table.show([], None)
            ui.suggestionTable.visible = ui.takeOverButton.enabled = False
            ui.undoTakeOverButton.enabled = ui.takenOverLabel.visible = False
            ui.suggestionLabel.text = ""
            return
        volume = self.panel.parameters.volume
        current = self._madeOf[:1] == (session,)
        rows = [(one.slice, one.reason) for one in self._found] if current else []
        self.table.show(rows, volume)
        ui.suggestionTable.visible = bool(rows)
        ui.suggestionLabel.text = self._problem if current else ""
        if current and not rows and not self._problem:
            ui.suggestionLabel.text = _("No further slice is suggested.")
        listed = here is not None and any(s.place == here.place for s in session.slices)
        drawing = not self.panel.correcting
        ui.takeOverButton.enabled = (
            drawing
            and here is not None
            and not listed
            and not session.predicted
            and self._source is not None
            and self._source.has(here)
        )
        ui.undoTakeOverButton.enabled = drawing and here in session.unconfirmed
        ui.takenOverLabel.text = self.unconfirmed()
        ui.takenOverLabel.visible = bool(session.unconfirmed)

    def unconfirmed(self) -> str:
        """A text about slices that were taken over and do not count, empty without any."""
        session = self.panel.session
        if session is None or not session.unconfirmed:
            return ""
        volume = self.panel.parameters.volume
        return _(
            "Taken over from the prediction in {slices}: it does not count before you correct it "
            "there or press Complete / empty here."
        ).format(slices=", ".join(sliceName(item, volume) for item in session.unconfirmed))

    def onNext(self) -> None:
        """Shows the slice to draw next."""
        if self.panel.session is None:
            return
        self._read()
        self._source = self._findSource()
        if self._state() == self._madeOf:
            self._next()
        else:
            self._jump = True  # as soon as the suggestions are there
            if self._task is None:
                self._start()

    def _read(self) -> None:
        """Reads what was painted just before."""
        if self.panel.session.dirtySince is not None and self.annotate.look():
            self.controller.labelsChanged()

    def _next(self) -> None:
        self._jump = False
        slices = [one.slice for one in self._found]
        if slices:
            place = slices.index(self._shown) + 1 if self._shown in slices else 0
            self.table.select(slices[place % len(slices)])

    def show(self, item: AnnotatedSlice) -> None:
        """Shows a slice in the view of its direction, with the prediction over it."""
        parameters = self.panel.parameters
        if parameters is None or parameters.volume is None:
            return
        self._shown = item
        self._source = self._findSource()  # a result may just have arrived
        views.showSlice(parameters.volume, item)
        self.annotate.chooseView(item)
        if self._source is not None:
            node = parameters.preview or parameters.result
            display = None if node is None else node.GetDisplayNode()
            if display is not None:
                display.SetVisibility(True)
        self.update()

    def onTakeOver(self) -> None:
        """Draws the prediction of the slice that is shown, as a start to correct."""
        item, source, node = self._here, self._source, self.panel.parameters.segmentation
        if item is None or source is None:
            return
        self._read()
        self.annotate.editor.saveStateForUndo()
        session = self.panel.session
        count = 0
        try:
            with waiting():
                plane = source.plane(item)
                if plane is not None:
                    count = session.takeOver(item, plane, source.segmentIds(node))
        except InputError as error:
            self.controller.showMessage(str(error))
            return
        self.controller.showMessage(
            ""
            if count
            else _("Nothing is predicted in {slice} beside what is drawn there.").format(
                slice=sliceName(item, self.panel.parameters.volume)
            )
        )
        self.annotate.update()

    def onUndo(self) -> None:
        """Removes what was taken over in the slice that is shown."""
        item, session = self._here, self.panel.session
        if item is None or session is None:
            return
        self._read()
        self.annotate.editor.saveStateForUndo()
        try:
            with waiting():
                session.undoTakeOver(item)
        except InputError as error:
            self.controller.showMessage(str(error))
            return
        self.annotate.update()


@contextmanager
def waiting() -> Iterator[None]:
    """Context that shows the wait cursor; unlike slicer.util's it processes no events."""
    qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
    try:
        yield
    finally:
        qt.QApplication.restoreOverrideCursor()
