"""The table of slices to draw next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt
from slicer.i18n import tr as _

from ..annotation.slices import AnnotatedSlice
from ..scene.views import axisNames
from .slice_table import selectedRow
from .table_height import heightForRows

PADDING = 6  # pixels between the texts of two rows


class SuggestionTable:
    """Slices with reasons in a QTableWidget, as high as its rows.

    Args:
        table: The QTableWidget.
        onChosen: Called with the slice that the user selected.
    """

    def __init__(self, table, onChosen: Callable[[AnnotatedSlice], None]):
        self._table, self._onChosen = table, onChosen
        table.setHorizontalHeaderLabels([_("Slice"), _("Reason")])
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(self._onSelection)
        self._rows: list[tuple[AnnotatedSlice, str]] = []
        self._width, self._filling = 0, False

    def show(self, rows: Sequence[tuple[AnnotatedSlice, str]], volumeNode) -> None:
        """Shows slices, each with a reason."""
        rows, table = list(rows), self._table
        if rows == self._rows:
            self._fit()
            return
        self._filling, self._rows, self._width = True, rows, 0
        table.clearSelection()
        table.rowCount = len(rows)
        for number, (item, reason) in enumerate(rows):
            for column, text in enumerate((sliceName(item, volumeNode), reason)):
                cell = qt.QTableWidgetItem(text)
                cell.setToolTip(reason)
                table.setItem(number, column, cell)
        table.resizeColumnToContents(0)
        table.visible = bool(rows)
        self._filling = False
        self._fit()

    def select(self, item: AnnotatedSlice) -> None:
        """Selects a slice, which calls `onChosen`; again if it is selected already."""
        places = [n for n, (each, _reason) in enumerate(self._rows) if each == item]
        if not places:
            return
        self._filling = True
        self._table.selectRow(places[0])
        self._filling = False
        self._onChosen(item)

    def _fit(self) -> None:
        """Rows as high as their text, anew where the table's width has changed."""
        table = self._table
        if table.width == self._width:
            return
        self._width = table.width
        table.resizeRowsToContents()
        for row in range(table.rowCount):  # lines of neighbouring rows would touch
            table.setRowHeight(row, table.rowHeight(row) + PADDING)
        table.setFixedHeight(heightForRows(table, table.rowCount))

    def _onSelection(self) -> None:
        row = selectedRow(self._table)
        if not self._filling and row is not None:
            self._onChosen(self._rows[row][0])


def sliceName(item: AnnotatedSlice, volumeNode) -> str:
    """A slice as the panel names it: 'axial k 12'."""
    return f"{axisNames(volumeNode)[item.axis]} {item.axis} {item.index}"
