"""The section Use a model: other scans are segmented with a trained model."""

from __future__ import annotations

import html
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from ..runfolder.compatibility import ACCEPTABLE
from ..runfolder.model_description import ModelDescription
from ..scene.annotated_pairs import annotatedPairs, sceneVolumes
from ..scene.scans import Scan, SceneScan, scansIn
from ..scene.sequence_scans import scansOf
from ..units import clock
from .check_table import CheckRow, CheckTable
from .help_link import showLink
from .model_card import card
from .model_choice import ModelChoice
from .model_queue import ModelQueue
from .review_list import ReviewList
from .run_controller import RunController
from .run_store import finished

SCENE, FOLDER, SEQUENCE = "scene", "folder", "sequence"


class ModelSection:
    """Choice of a model and of scans, their progress, and the results to review.

    Args:
        panel: The panel.
        controller: The run's controller.
    """

    def __init__(self, panel, controller: RunController):
        self.panel, self.controller, self.ui = panel, controller, panel.ui
        self.queue = ModelQueue(controller.followToItsEnd)
        ui = self.ui
        self._table = CheckTable(ui.scanTable, [_("Scan"), _("State")], self.onChecked)
        self.review = ReviewList(panel, self.say)
        self.choice = ModelChoice(
            panel, ui.modelCombo, ui.openModelButton, "modelFile", _("Result of this training")
        )
        for source, text in (
            (SCENE, _("In the scene")),
            (FOLDER, _("In a folder")),
            (SEQUENCE, _("In a sequence")),
        ):
            ui.sourceCombo.addItem(text, source)
        ui.sourceCombo.currentIndexChanged.connect(self.onSource)
        ui.folderButton.clicked.connect(self.onFolder)
        ui.sequenceSelector.currentNodeChanged.connect(self.onSource)
        ui.segmentButton.clicked.connect(self.onSegment)
        ui.cancelSegmentButton.clicked.connect(self.onCancel)
        ui.anywayButton.clicked.connect(self.onAnyway)
        ui.modelSection.contentsCollapsed.connect(self.onFolded)
        self._folder, self._message = "", ""
        self._scans: dict[object, Scan] = {}
        self._checked: dict[object, bool] = {}
        self._about: ModelDescription | None = None  # of the chosen model, if it can be used
        self._read: tuple = (None, None, "")  # file with its time, description, fault
        self._wasActive = False

    def say(self, text: str) -> None:
        """Shows a message in this section."""
        self._message = text[:1].upper() + text[1:]
        self.update()

    def tick(self) -> None:
        """Follows the queue; called by the timer."""
        if self.queue.poll() or self._wasActive:
            if self._wasActive and not self.queue.active:
                self._message = self._summary()
                for entry in self.queue.batch:
                    if entry.state == "done":
                        self._checked[entry.scan.key] = False  # else it would be done again
            self._wasActive = self.queue.active
            self.update()

    def leave(self) -> None:
        """Lets go of the scene's nodes; the running engine is ended."""
        self.queue.leave()
        self.review.clear()
        self._scans, self._checked, self._message, self._wasActive = {}, {}, "", False

    def update(self) -> None:
        """Shows model, scans and progress; nothing is looked up while the section is folded."""
        ui, parameters = self.ui, self.panel.parameters
        if ui.modelSection.collapsed:
            return
        active = self.queue.active
        if not active:  # else nothing of it can be changed
            self.choice.show(parameters)
            self._about = self._described(self._model(parameters))
            self._showSource()
            self._look(self._source, self._about)
        about = self._about
        ready = self.panel.torchCard.state in ("ready", "checking", "unknown")
        self._showScans()
        usable = about is not None and ready and not active and not self.controller.active
        ui.segmentButton.enabled = usable and any(self._isChecked(s) for s in self._scans.values())
        ui.cancelSegmentButton.enabled = active
        refused = [e for e in self.queue.batch if e.state == "refused"]
        ui.anywayButton.visible = bool(refused) and not active
        ui.anywayButton.enabled = usable
        for widget in (ui.modelCombo, ui.openModelButton, ui.sourceCombo, ui.folderButton):
            widget.enabled = not active
        ui.sequenceSelector.enabled = not active
        self._showProgress(active)
        self.review.show(self.queue.entries.values())

    def _model(self, parameters) -> Path | None:
        """The chosen model file: the user's, or that of the newest result."""
        if parameters is None:
            return None
        if parameters.modelFile:
            return Path(parameters.modelFile)
        folder = finished(parameters.runFolder)
        return None if folder is None or not folder.model_path.is_file() else folder.model_path

    @property
    def _source(self) -> str:
        return self.ui.sourceCombo.itemData(self.ui.sourceCombo.currentIndex)

    def _showSource(self) -> None:
        ui, source = self.ui, self._source
        ui.folderButton.visible = source == FOLDER
        ui.folderButton.text = Path(self._folder).name or _("Choose…")
        ui.folderButton.toolTip = self._folder or _("The folder of the scans")
        ui.sequenceSelector.visible = source == SEQUENCE
        ui.placeTitle.visible = source != SCENE
        ui.placeTitle.text = _("Folder:") if source == FOLDER else _("Sequence:")

    def _described(self, path: Path | None) -> ModelDescription | None:
        """The model's description; its card, or why it cannot be used, is shown."""
        label = self.ui.modelLabel
        if path is None:
            label.text = _("Train first, or open a model that was saved.")
            return None
        try:
            stamp = path, path.stat().st_mtime_ns
        except OSError:
            stamp = path, 0
        if self._read[0] != stamp:
            try:
                self._read = stamp, ModelDescription.read(path), ""
            except InputError as error:
                self._read = stamp, None, str(error)
        about, fault = self._read[1:]
        if about is None:
            label.text, label.toolTip = html.escape(fault[:1].upper() + fault[1:]), ""
        else:
            label.text, label.toolTip = card(about), about.scored
        return about

    def _look(self, source: str, about: ModelDescription | None) -> None:
        """Finds the scans; those that are known stay, with their results."""
        parameters, found, fault = self.panel.parameters, [], ""
        try:
            if source == FOLDER and self._folder:
                found = scansIn(self._folder)
            elif source == SEQUENCE and self.ui.sequenceSelector.currentNode() is not None:
                found = scansOf(self.ui.sequenceSelector.currentNode())
            elif source == SCENE and parameters is not None:
                volumes = [[node] for node in sceneVolumes()]
                if about is not None and len(about.channels) > 1 and parameters.volume is not None:
                    volumes = [[parameters.volume, *parameters.channels]]
                found = [SceneScan(nodes) for nodes in volumes]
        except InputError as error:
            fault = str(error)
        known = self._scans
        self._scans = {}
        for scan in found:
            old = known.get(scan.key)
            same = old is not None and old.name == scan.name and old.matches(scan)
            self._scans[scan.key] = old if same else scan
        if source == SCENE:
            annotated = {pair.volume.GetID() for pair in annotatedPairs()}
            for key in self._scans:
                self._checked.setdefault(key, key not in annotated)
        if fault:
            self._message = fault[:1].upper() + fault[1:]

    def _isChecked(self, scan: Scan) -> bool:
        return not scan.done and self._checked.get(scan.key, True)

    def _showScans(self) -> None:
        rows = []
        for key, scan in self._scans.items():
            entry = self.queue.entries.get(key)
            text = self.queue.about(entry) if entry is not None else ""
            if not text and scan.done:
                text = _("Segmented before")
            rows.append(
                CheckRow(
                    key,
                    (scan.name, text.partition(":")[0]),
                    self._isChecked(scan),
                    fixed=scan.done or self.queue.active,
                    tip=f"{scan.name}\n{text}".strip(),
                )
            )
        self._table.show(rows)
        self.ui.scanTable.visible = bool(rows)

    def _showProgress(self, active: bool) -> None:
        ui, batch = self.ui, self.queue.batch
        ui.segmentProgress.visible = active
        if active:
            ui.segmentProgress.maximum = len(batch)
            ui.segmentProgress.value = self.queue.finished
            text = _("{number} of {count}").format(
                number=min(self.queue.finished + 1, len(batch)), count=len(batch)
            )
            remaining = self.queue.remaining
            if remaining is not None:
                text += ", " + _("{time} left").format(time=clock(remaining))
            ui.segmentProgress.format = text
        text = self._message or self._hint()
        failed = [e for e in batch if e.state in ("failed", "refused")]
        if failed:
            text = f"{text}\n{failed[-1].namedReason}".strip()
        run = failed[-1].run if failed else None
        showLink(ui.modelHelpLabel, None if run is None else run.error)
        ui.modelStatusLabel.text = text
        ui.modelStatusLabel.visible = bool(text)

    def _hint(self) -> str:
        source = self._source
        if self.queue.active:
            return ""
        if source == FOLDER:
            return (
                _(
                    "Results are written beside the scans (NAME.seg.nrrd); existing ones are "
                    "kept. Nothing stays loaded."
                )
                if self._scans
                else _("Choose a folder of NRRD, NIfTI or MetaImage files.")
            )
        if not self._scans:
            return (
                _("Choose a sequence of scans.")
                if source == SEQUENCE
                else _("Load the scans to segment.")
            )
        return ""

    def _summary(self) -> str:
        batch = self.queue.batch
        done = sum(e.state == "done" for e in batch)
        return _("{done} of {count} scans segmented.").format(done=done, count=len(batch))

    def onSource(self, *_unused) -> None:
        """Shows the scans of the chosen source."""
        self.say("")

    def onFolder(self) -> None:
        """Asks for a folder of scans."""
        path = qt.QFileDialog.getExistingDirectory(
            self.ui.folderButton, _("Folder of scans"), self._folder
        )
        if path:
            self._folder = str(path)
            self.say("")

    def onFolded(self, *_unused) -> None:
        """Shows the content once the section is opened."""
        self.update()

    def onChecked(self, key, checked: bool) -> None:
        """Notes a check mark."""
        self._checked[key] = checked
        self.update()

    def onSegment(self) -> None:
        """Segments the scans with a check mark."""
        self._begin([scan for scan in self._scans.values() if self._isChecked(scan)], ())

    def onAnyway(self) -> None:
        """Segments the scans that were refused, if the user accepts their differences."""
        refused = [e for e in self.queue.batch if e.state == "refused"]
        reasons = "\n".join(f"• {e.namedReason}" for e in refused[:5])
        question = _("The result may be wrong without a sign of it:")
        if slicer.util.confirmOkCancelDisplay(f"{question}\n{reasons}", _("Segment anyway")):
            self._begin([e.scan for e in refused], ACCEPTABLE)

    def _begin(self, scans: list[Scan], accept) -> None:
        path = self._model(self.panel.parameters)
        if path is not None and scans and not self.controller.active:
            self._message = ""
            self.queue.begin(path, scans, self.panel.parameters.device, accept)
            self._wasActive = True
            self.update()

    def onCancel(self) -> None:
        """Cancels; scans that are segmented already keep their results."""
        self.queue.cancel()
        self.update()
