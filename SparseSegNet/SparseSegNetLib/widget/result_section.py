"""The section Result: segmentation, uncertainty, disagreements, corrections."""

from __future__ import annotations

import shutil

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from ..scene.corrections import takeCorrections
from ..scene.results import createUncertaintyNode, resultNumber
from ..scene.shown_layers import OPACITY, isOverlaid
from ..scene.views import jumpToVoxel
from .run_controller import RunController
from .run_store import finished
from .slice_table import selectedRow


class ResultSection:
    """Shows the result of the newest run, and continues training on corrections of it.

    Works from the run folder, so that it also serves a scene that was saved and opened.

    Args:
        panel: The panel.
        controller: The run's controller.
    """

    def __init__(self, panel, controller: RunController):
        self.panel, self.controller, self.ui = panel, controller, panel.ui
        table = self.ui.disagreementTable
        table.setHorizontalHeaderLabels([_("Annotation"), _("Prediction"), _("Voxels")])
        for column in (0, 1):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(self.onDisagreement)
        self.ui.uncertaintyButton.clicked.connect(self.onUncertainty)
        self.ui.saveModelButton.clicked.connect(self.onSaveModel)
        self.ui.correctButton.clicked.connect(self.onCorrect)
        self.ui.continueButton.clicked.connect(self.onContinue)
        self._regions: list[dict] = []
        self._shown = None  # the run folder, and its input, whose disagreements are listed

    def update(self) -> None:
        """Shows the result and enables the buttons that apply."""
        ui, parameters = self.ui, self.panel.parameters
        folder = None if parameters is None else finished(parameters.runFolder)
        result = None if parameters is None else parameters.result
        usable = folder is not None and result is not None and self.panel.session is not None
        alone = folder is None or folder.task == "densify"
        ui.show3DButton.enabled = result is not None
        ui.show3DButton.setSegmentationNode(result)
        ui.saveModelButton.enabled = folder is not None and folder.model_path.is_file()
        ui.uncertaintyButton.enabled = usable
        ui.correctButton.visible = ui.continueButton.visible = alone
        ui.correctButton.enabled = usable
        ui.continueButton.enabled = usable and not self.controller.active
        if not usable or not alone:
            ui.correctButton.checked = False
        if result is None:
            ui.resultLabel.text = _("The dense segmentation appears here after training.")
        else:
            score = self.panel.learn.score()
            ui.resultLabel.text = (
                _("{name}: all annotated voxels are as you drew them. {score}")
                .format(name=result.GetName(), score=score)
                .strip()
            )
            details = self.controller.score.partition("\n")[2]
            if details:
                ui.resultLabel.text += "\n" + details
            if not alone:
                ui.resultLabel.text += " " + _(
                    "To improve it, annotate more slices in any of the scans and press Train."
                )
        self._showDisagreements(folder if usable else None, result)

    def _showDisagreements(self, folder, result) -> None:
        ui, shown = self.ui, None
        if folder is not None:
            number = min(resultNumber(result), folder.count)
            shown = folder.path, number
        if shown != self._shown:
            self._shown = shown
            self._regions = [] if shown is None else folder.read_disagreements(number)
            table = ui.disagreementTable
            table.rowCount = len(self._regions)
            for row, region in enumerate(self._regions):
                for column, text in enumerate(
                    (region["drawn"], region["model"], str(region["voxels"]))
                ):
                    table.setItem(row, column, qt.QTableWidgetItem(text))
            table.resizeColumnToContents(2)
        ui.disagreementTable.visible = bool(self._regions)
        ui.disagreementLabel.visible = folder is not None
        ui.disagreementLabel.text = (
            _("Where the prediction disagrees with your annotation:")
            if self._regions
            else _("The prediction agrees with your annotation.")
        )

    def onDisagreement(self) -> None:
        """Shows the selected disagreement in all views."""
        row, volume = selectedRow(self.ui.disagreementTable), self.panel.parameters.volume
        if row is not None and volume is not None:
            jumpToVoxel(volume, tuple(self._regions[row]["voxel"]))

    def onUncertainty(self) -> None:
        """Shows the uncertainty as an overlay on the slices, or hides it."""
        parameters = self.panel.parameters
        if isOverlaid(parameters.uncertainty):
            slicer.util.setSliceViewerLayers(foreground=None)
        else:
            node = parameters.uncertainty
            if node is None:
                try:
                    folder = finished(parameters.runFolder)
                    number = min(resultNumber(parameters.result), folder.count)
                    uncertainty = folder.read_uncertainty(number)
                except InputError as error:
                    self.controller.showMessage(str(error))
                    self.panel.shown.update()
                    return
                node = createUncertaintyNode(
                    uncertainty,
                    parameters.volume,
                    _("{name} uncertainty").format(name=parameters.segmentation.GetName()),
                )
                parameters.uncertainty = node
            slicer.util.setSliceViewerLayers(
                background=parameters.volume, foreground=node, foregroundOpacity=OPACITY
            )
        self.panel.shown.arrange()

    def onSaveModel(self) -> None:
        """Asks for a file, and copies the trained model there."""
        folder = finished(self.panel.parameters.runFolder)
        chosen = qt.QFileDialog.getSaveFileName(
            self.ui.saveModelButton,
            _("Save model"),
            "model.safetensors",
            _("Models (*.safetensors)"),
        )
        path = chosen[0] if isinstance(chosen, tuple) else chosen
        if not path or folder is None:
            return
        try:
            shutil.copyfile(folder.model_path, path)
        except OSError as error:
            self.controller.showMessage(
                _("The model cannot be written to {path}: {why}. Choose another folder.").format(
                    path=path, why=error.strerror or error
                )
            )
            return
        self.controller.showMessage(_("The model was saved as {path}.").format(path=path))

    def onCorrect(self) -> None:
        """Opens the result in the editor, or the annotation again."""
        self.panel.correcting = self.ui.correctButton.checked
        self.panel.annotate.update()
        self.controller.showMessage(
            _("Correct the result with the editor above, then press Continue training.")
            if self.panel.correcting
            else ""
        )

    def onContinue(self) -> None:
        """Copies corrections into the annotation, and continues training."""
        parameters = self.panel.parameters
        folder = finished(parameters.runFolder)
        self.ui.correctButton.checked = False
        self.panel.correcting = False
        self.panel.annotate.update()
        self.panel.annotate.editor.saveStateForUndo()
        try:
            count = takeCorrections(
                parameters.result,
                folder.read_result(),
                [s.id for s in folder.segments],
                parameters.segmentation,
                parameters.volume,
                folder.geometry(),
            )
        except InputError as error:
            self.controller.showMessage(str(error))
            return
        self.controller.continueRun(
            folder.path,
            moreTime=parameters.timeBudget,
            message=_("{count} corrected voxels were added to the annotation.").format(count=count)
            if count
            else "",
        )
