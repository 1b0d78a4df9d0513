"""The list of results to review, the most uncertain first."""

from __future__ import annotations

from collections.abc import Iterable

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from ..scene.node_reference import NodeReference
from ..scene.prediction_start import annotationFrom
from ..scene.scans import Scan, hidden
from ..scene.shown_layers import setShown
from .check_table import fitHeight
from .model_queue import Entry
from .slice_table import selectedRow


class ReviewList:
    """Shows results of a model, and opens one in the editor to be corrected.

    Args:
        panel: The panel.
        say: Called with a message for the user.
    """

    def __init__(self, panel, say):
        self.panel, self.ui, self._say = panel, panel.ui, say
        table = self.ui.reviewTable
        table.setHorizontalHeaderLabels([_("Scan"), _("Uncertain")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(self._buttons)
        self.ui.showScanButton.clicked.connect(self.onShow)
        self.ui.correctScanButton.clicked.connect(self.onCorrect)
        self._entries: list[Entry] = []
        self._listed: list[tuple] = []
        self._shown: NodeReference | None = None

    def show(self, entries: Iterable[Entry]) -> None:
        """Lists those of the entries that are done."""
        done = sorted((e for e in entries if e.state == "done"), key=lambda e: -e.doubt)
        self._entries = done
        listed = [(e.scan.name, self._share(e)) for e in done]
        table = self.ui.reviewTable
        if listed != self._listed:
            self._listed = listed
            table.clearSelection()
            table.rowCount = len(listed)
            for row, texts in enumerate(listed):
                for column, text in enumerate(texts):
                    cell = qt.QTableWidgetItem(text)
                    cell.setToolTip("\n".join([text, *done[row].notes]) if column == 0 else text)
                    table.setItem(row, column, cell)
            table.resizeColumnToContents(1)
            fitHeight(table)
        for name in ("reviewLabel", "reviewTable", "showScanButton", "correctScanButton"):
            getattr(self.ui, name).visible = bool(done)
        self._buttons()

    def clear(self) -> None:
        """Empties the list."""
        self._shown = None
        self.show([])

    def _share(self, entry: Entry) -> str:
        if entry.doubt >= 1:
            return _("nothing found")
        text = f"{100 * entry.doubt:.1f} %"
        correction = entry.scan.correction
        if correction is not None and correction.alive:
            return _("{share}, being corrected").format(share=text)
        return text

    def _buttons(self) -> None:
        chosen = selectedRow(self.ui.reviewTable) is not None
        self.ui.showScanButton.enabled = chosen
        self.ui.correctScanButton.enabled = chosen and not self.panel.controller.active

    def _chosen(self) -> Scan | None:
        row = selectedRow(self.ui.reviewTable)
        return None if row is None else self._entries[row].scan

    def onShow(self) -> None:
        """Shows the selected scan and its result in the views."""
        scan = self._chosen()
        if scan is not None:
            self._show(scan)

    def _show(self, scan: Scan) -> tuple | None:
        try:
            volume, result = scan.shown()
        except InputError as error:
            self._say(str(error))
            return None
        if self._shown is not None and self._shown.alive and self._shown.get() is not result:
            hidden(self._shown.get())
        setShown(result, True)
        self._shown = NodeReference(result, "result")
        slicer.util.setSliceViewerLayers(background=volume, foreground=None, fit=True)
        self._say("")
        return volume, result

    def onCorrect(self) -> None:
        """Opens the selected result in the editor, as the start of an annotation.

        The result stays as it is. The scan joins those to train on.
        """
        scan = self._chosen()
        nodes = None if scan is None else self._show(scan)
        if scan is None or nodes is None:
            return
        volume, result = nodes
        if scan.correction is None or not scan.correction.alive:
            name = _("{name} corrected").format(name=volume.GetName())
            scan.correction = NodeReference(annotationFrom(result, volume, name), "correction")
        hidden(result)  # else it would lie over what is corrected
        parameters, node = self.panel.parameters, scan.correction.get()
        previous = parameters.segmentation
        # Those that were annotated before stay in the training set, too.
        if self.panel.session is not None and self.panel.session.slices:
            self.panel.training.add(previous)
        self.panel.training.add(node)
        channels = scan.channels()
        self.panel.ui.correctButton.checked = False
        self.panel.correcting = False
        parameters.segmentation = None
        parameters.volume, parameters.channels = volume, channels
        parameters.segmentation = node
        self.panel.ui.annotateSection.collapsed = False
        self._say(
            _(
                "{name} is open in Annotate: correct some slices of it. Only the slices that you "
                "correct, or mark as complete, are trained on."
            ).format(name=scan.name)
        )
