"""A table with check marks in its first column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import qt

ROOM = 28  # pixels of a table beside its rows


@dataclass(frozen=True)
class CheckRow:
    """One row.

    Attributes:
        key: What it is known by.
        cells: The texts of its columns.
        checked: True with a check mark.
        fixed: True if the user cannot change the check mark.
        tip: The whole text of a cell that may be cut off.
    """

    key: object
    cells: tuple[str, ...]
    checked: bool
    fixed: bool = False
    tip: str = ""


class CheckTable:
    """Rows with check marks in a QTableWidget.

    Args:
        table: The QTableWidget.
        headers: The titles of its columns; the first one is as wide as possible.
        onChecked: Called with a key and True or False when the user changes a check mark.
    """

    def __init__(self, table, headers: Sequence[str], onChecked: Callable[[object, bool], None]):
        self._table, self._onChecked = table, onChecked
        table.setHorizontalHeaderLabels(list(headers))
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.itemChanged.connect(self._onItem)
        self._rows: list[CheckRow] = []
        self._filling = False

    def show(self, rows: Sequence[CheckRow]) -> None:
        """Shows these rows."""
        rows = list(rows)
        if rows == self._rows:
            return
        self._filling, before = True, self._rows
        self._rows = rows
        self._table.rowCount = len(rows)
        for number, row in enumerate(rows):
            if number >= len(before) or before[number] != row:
                self._fill(number, row)
        for column in range(1, self._table.columnCount):
            self._table.resizeColumnToContents(column)
        fitHeight(self._table)
        self._filling = False

    def _fill(self, number: int, row: CheckRow) -> None:
        for column, text in enumerate(row.cells):
            cell = qt.QTableWidgetItem(text)
            flags = qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable
            if column == 0:
                cell.setCheckState(qt.Qt.Checked if row.checked else qt.Qt.Unchecked)
                if not row.fixed:
                    flags = flags | qt.Qt.ItemIsUserCheckable
            cell.setFlags(flags)
            cell.setToolTip(row.tip or text)
            self._table.setItem(number, column, cell)

    def _onItem(self, item) -> None:
        number = item.row()
        if self._filling or item.column() != 0 or number >= len(self._rows):
            return
        row, checked = self._rows[number], item.checkState() == qt.Qt.Checked
        if checked != row.checked:
            # As it is on the screen now, so that `show` compares with that.
            self._rows[number] = CheckRow(row.key, row.cells, checked, row.fixed, row.tip)
            self._onChecked(row.key, checked)


def fitHeight(table, most: int = 8) -> None:
    """Makes a table as high as its rows, of which at most some are seen at once."""
    rows = min(most, max(2, table.rowCount))
    table.setFixedHeight(table.verticalHeader().defaultSectionSize * rows + ROOM)
