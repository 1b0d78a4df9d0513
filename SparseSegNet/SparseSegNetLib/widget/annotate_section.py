"""The section Annotate: the editor and the annotated slices."""

from __future__ import annotations

import time

import qt
import slicer
from slicer.i18n import tr as _

from ..annotation.slices import AnnotatedSlice
from ..errors import InputError
from ..scene import views
from ..scene.annotation_changes import PaintChanges
from ..steps import Overtaken
from .editor import Editor
from .next_slice import NextSlice
from .run_controller import RunController
from .slice_table import SliceTable
from .stepped_task import SteppedTask

QUIET = 0.3  # seconds without a change until painting is read
VIEWS_EVERY = 0.5  # seconds between two checks of the views
# In the 3D U-Net paper the score rose up to (5, 5, 3) slices, 8.9 % of the voxels (Table 2).
ENOUGH = 0.05


class AnnotateSection:
    """The editor, the table of annotated slices, and warnings of strokes across slices.

    Args:
        panel: The panel.
        controller: The run's controller.

    Attributes:
        planes: The voxel plane that each view shows, None where it shows none.
    """

    def __init__(self, panel, controller: RunController):
        self.panel, self.controller, self.ui = panel, controller, panel.ui
        self.planes: dict[str, AnnotatedSlice | None] = {}
        self.editor = Editor(self.ui.segmentEditor)
        self.table = SliceTable(self.ui.sliceTable, self.onChosen)
        self.ui.alignButton.clicked.connect(self.onAlign)
        self.ui.markButton.clicked.connect(self.onMark)
        self.ui.unmarkButton.clicked.connect(self.onUnmark)
        self.ui.boxButton.clicked.connect(self.onBox)
        self.ui.previousButton.clicked.connect(self.onPrevious)
        self.ui.nextButton.clicked.connect(self.onNext)
        self.next = NextSlice(panel, controller, self)
        self._shortcuts = []
        self._strokeWarning = ""  # of the last stroke
        self._viewsAt = 0.0
        self._turned: list[str] = []  # views that are not aligned with the volume
        self._reading: SteppedTask | None = None  # what was painted

    def enter(self) -> None:
        """Activates the editor and keyboard shortcuts, and aligns the views with the volume."""
        self.editor.enter()
        window = slicer.util.mainWindow()
        if window is not None and not self._shortcuts:
            for keys, act in (
                ("Ctrl+Shift+M", self.onMarkUnderMouse),
                ("Ctrl+Shift+Left", self.onPrevious),
                ("Ctrl+Shift+Right", self.onNext),
                ("Ctrl+Shift+N", self.next.onNext),
            ):
                shortcut = qt.QShortcut(qt.QKeySequence(keys), window)
                shortcut.activated.connect(act)
                self._shortcuts.append(shortcut)
        self.update()
        self.onAlign()

    def exit(self) -> None:
        """Deactivates the editor and keyboard shortcuts."""
        self.editor.exit()
        for shortcut in self._shortcuts:
            shortcut.enabled = False
            shortcut.deleteLater()
        self._shortcuts = []

    def update(self) -> None:
        """Shows the annotation of the chosen nodes."""
        session = self.panel.session
        for name in ("markButton", "viewCombo", "segmentEditor", "previousButton", "nextButton"):
            getattr(self.ui, name).enabled = session is not None
        if session is None:
            self.editor.edit(None, None)
            self.table.show([], None, None)
            self.ui.sliceTable.visible = False
            self.ui.countLabel.text = ""
            self.ui.annotateHint.text = _("Choose a volume and a segmentation first.")
            self.ui.annotateHint.visible = True
        else:
            parameters = self.panel.parameters
            self.editor.edit(self.panel.edited, parameters.volume)
            self._showSlices(session, parameters)
        self._updateButtons()
        self.next.update()
        self.panel.learn.showWhatNow()

    def tick(self) -> bool:
        """Checks views and painting.

        Returns:
            True if labels or slices changed.
        """
        session, now = self.panel.session, time.monotonic()
        if session is None:
            return False
        if now - self._viewsAt > VIEWS_EVERY:
            self._viewsAt = now
            self._lookAtViews()
        self.next.tick()
        if self._reading is None:
            since = session.dirtySince
            if since is None or now - since < QUIET:
                return False
            self._reading = SteppedTask(session.looking(self.shownPlanes()))
        if not self._reading.poll():
            return False
        reading, self._reading = self._reading, None
        if isinstance(reading.error, Overtaken):
            return False  # painting goes on
        if reading.error is not None:
            raise reading.error
        return self.take(reading.result)

    @property
    def reading(self) -> bool:
        """True while it reads, from tick to tick, what was painted."""
        return self._reading is not None

    def forget(self) -> None:
        """Stops reading what was painted, before the session changes or to read at once."""
        if self._reading is not None:
            self._reading.giveUp()
            self._reading = None

    def look(self) -> bool:
        """Reads at once what was painted.

        Returns:
            True if labels or slices changed.
        """
        self.forget()
        return self.take(self.panel.session.look(self.shownPlanes()))

    def shownPlanes(self) -> list[AnnotatedSlice]:
        """The voxel planes that the views show."""
        return [p for p in self.planes.values() if p is not None]

    def take(self, changes: PaintChanges) -> bool:
        """Shows what was painted; returns True if labels or slices changed."""
        if changes.added:  # the nodes are chosen: the room is for drawing
            self.ui.dataSection.collapsed = True
        self._strokeWarning = changes.warning
        self.update()
        self._showWarning()
        return changes.changed

    def _showSlices(self, session, parameters) -> None:
        rows = session.rows()
        self.table.show(rows, parameters.segmentation.GetSegmentation(), parameters.volume)
        self.ui.sliceTable.visible = bool(rows)
        share = session.share()
        hint = session.warning
        if not rows and not hint and session.predicted:
            hint = _(
                "This is a prediction: correct it in some slices. Only slices that you correct, "
                "or mark as complete, are trained on."
            )
        elif not rows and not hint:
            hint = _(
                "Draw each segment completely in a few slices: two or three of each "
                "direction, spread over the structure. The rest of such a slice counts as "
                "background."
            )
        self.ui.annotateHint.text = hint
        self.ui.annotateHint.visible = bool(hint)
        directions = {row.slice.axis for row in rows}
        text = (
            _("1 slice, {share} % of the volume.")
            if len(rows) == 1
            else _("{count} slices, {share} % of the volume.")
        ).format(count=len(rows), share=f"{100 * share:.1f}")
        if not rows:
            text = ""
        elif len(directions) < 3:
            text += " " + _("Annotate slices of all three directions: they complement each other.")
        elif share < ENOUGH and len(rows) < 13:
            text += " " + _(
                "5 to 13 slices are usually enough; add them where the prediction is wrong."
            )
        else:
            text += " " + _("This is usually enough. Add slices where the prediction is wrong.")
        self.ui.countLabel.text = text

    def _lookAtViews(self) -> None:
        volume = self.panel.parameters.volume
        self.planes = views.shownPlanes(volume)
        texts = [
            f"{name}: {plane.axis} {plane.index}"
            if plane
            else _("{view}: not aligned").format(view=name)
            for name, plane in self.planes.items()
        ]
        combo = self.ui.viewCombo
        if [combo.itemText(n) for n in range(combo.count)] != texts:
            chosen = combo.currentIndex
            combo.clear()
            combo.addItems(texts)
            combo.currentIndex = min(max(0, chosen), len(texts) - 1)
        self._turned = [
            n.GetName() for n in views.mappedNodes(volume) if views.shownAxis(n, volume) is None
        ]
        self._showWarning()

    def chooseView(self, item: AnnotatedSlice) -> None:
        """Chooses the view that shows a slice, so that it is the one that is marked."""
        self._lookAtViews()
        for number, plane in enumerate(self.planes.values()):
            if plane is not None and plane.place == item.place:
                self.ui.viewCombo.currentIndex = number
                return

    def _showWarning(self) -> None:
        text = self._strokeWarning
        if self._turned:
            text = _(
                "The view {names} is not aligned with the volume: strokes in it spread over "
                "several slices."
            ).format(names=", ".join(self._turned))
        elif self.editor.sphere:
            text = _("The 3D sphere brush paints across slices: its strokes mark no slice.")
        self.ui.alignButton.visible = bool(self._turned)
        self.ui.viewWarningLabel.text = text
        self.ui.viewWarning.visible = bool(text)

    def _updateButtons(self) -> None:
        current = self.table.current
        self.ui.unmarkButton.enabled = current is not None
        self.ui.boxButton.enabled = current is not None
        self.ui.boxButton.checked = current is not None and current.box is not None

    def onChosen(self, item) -> None:
        """Shows the slice of the selected row."""
        if item is not None and self.panel.session is not None:
            views.jumpToSlice(self.panel.parameters.volume, item)
        self._updateButtons()

    def onAlign(self) -> None:
        """Aligns the views with the volume's voxel planes, and fits it into them."""
        volume = None if self.panel.parameters is None else self.panel.parameters.volume
        if volume is not None and self.panel.session is not None:
            views.alignViews(volume)
            manager = slicer.app.layoutManager()
            if manager is not None:  # there is none without a main window
                with views.sameSlices(volume):
                    manager.resetSliceViews()
            self._viewsAt = 0.0

    def onMark(self) -> None:
        """Marks the slice in the chosen view as complete."""
        self._lookAtViews()
        names = list(self.planes)
        if names:
            self._mark(names[max(0, self.ui.viewCombo.currentIndex)])

    def onMarkUnderMouse(self) -> None:
        """Marks the slice in the view under the mouse as complete."""
        if self.panel.session is None:
            return
        self._lookAtViews()
        name = views.viewUnderMouse(slicer.mrmlScene)
        if name in self.planes:
            self._mark(name)
        else:
            self.onMark()

    def _mark(self, name: str) -> None:
        plane = self.planes[name]
        if plane is None:
            self.controller.showMessage(
                _(
                    "The view {name} is not aligned with the volume or outside of it: align "
                    "the views, or scroll into the volume."
                ).format(name=name)
            )
            return
        self._changed(lambda: self.panel.session.mark(plane))
        self.table.select(plane)

    def onUnmark(self) -> None:
        """Removes the selected slice from the annotated ones."""
        current = self.table.current
        if current is not None:
            self._changed(lambda: self.panel.session.unmark(current))

    def onBox(self) -> None:
        """Restricts the selected slice to the visible part, or lets the whole slice count again."""
        current, volume = self.table.current, self.panel.parameters.volume
        if current is None:
            return
        box = None
        if current.box is None:
            box = self._boxShown(current, volume)
            if box is None:
                self.controller.showMessage(
                    _(
                        "The whole slice {slice} is visible: zoom in until its view shows only "
                        "the part that you annotated."
                    ).format(slice=current)
                )
                self._updateButtons()
                return
        restricted = []
        self._changed(lambda: restricted.append(self.panel.session.restrict(current, box)))
        if restricted:
            self.table.select(restricted[0])
        self._updateButtons()

    def _boxShown(self, item, volume):
        for node in views.sliceNodes(slicer.mrmlScene):
            plane = views.shownPlane(node, volume)
            if plane is not None and plane.place == item.place:
                return views.visibleBox(node, volume)
        return None

    def onPrevious(self) -> None:
        """Shows the previous annotated slice."""
        self._step(-1)

    def onNext(self) -> None:
        """Shows the next annotated slice."""
        self._step(1)

    def _step(self, step: int) -> None:
        if self.panel.session is not None:
            self.table.select(self.panel.session.next(self.table.current, step))

    def _changed(self, act) -> None:
        try:
            act()
        except InputError as error:
            self.controller.showMessage(str(error))
            return
        self.update()
        self.controller.labelsChanged()
