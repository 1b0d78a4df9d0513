"""The table of annotated slices."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from ..annotation.slices import AnnotatedSlice
from ..scene.views import axisNames
from .table_height import heightForRows

SWATCH = 12  # pixels
LEAST_ROWS, MOST_ROWS = 3, 6  # that are seen at once


class SliceTable:
    """Annotated slices in a QTableWidget: slice, segments in it, extent that counts.

    Args:
        table: The QTableWidget.
        onChosen: Called with the slice that the user selected, or None.
    """

    def __init__(self, table, onChosen):
        self._table, self._onChosen = table, onChosen
        table.setHorizontalHeaderLabels([_("Slice"), _("Segments"), _("Extent")])
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(self._onSelection)
        self._slices: list[AnnotatedSlice] = []
        self._filling = False

    @property
    def current(self) -> AnnotatedSlice | None:
        """The selected slice, None without a selection."""
        row = selectedRow(self._table)
        return None if row is None else self._slices[row]

    def select(self, item: AnnotatedSlice | None) -> None:
        """Selects a slice, which shows it in its views."""
        if item in self._slices:
            self._table.selectRow(self._slices.index(item))

    def show(self, rows, segmentation, volumeNode) -> None:
        """Fills the table.

        Args:
            rows: The annotated slices, scene.annotation_session.Row each.
            segmentation: The vtkSegmentation with names and colours.
            volumeNode: The volume, or None.
        """
        chosen = self.current
        self._filling = True
        self._slices = [row.slice for row in rows]
        self._table.rowCount = len(rows)
        names = axisNames(volumeNode) if volumeNode is not None else {}
        for number, row in enumerate(rows):
            segments = [segmentation.GetSegment(i) for i in row.voxels]
            segments = [s for s in segments if s is not None]
            cells = (
                f"{names[row.slice.axis]} {row.slice.axis} {row.slice.index}",
                ", ".join(s.GetName() or "?" for s in segments) or _("empty"),
                _("part") if row.slice.box else _("whole"),
            )
            for column, text in enumerate(cells):
                cell = qt.QTableWidgetItem(text)
                if column == 1:
                    cell.setIcon(swatches([s.GetColor() for s in segments]))
                self._table.setItem(number, column, cell)
        self._table.resizeColumnToContents(0)
        self._table.resizeColumnToContents(2)
        seen = min(max(LEAST_ROWS, len(rows)), MOST_ROWS)
        self._table.setFixedHeight(heightForRows(self._table, seen))
        if chosen in self._slices:
            self._table.selectRow(self._slices.index(chosen))
        self._filling = False

    def _onSelection(self) -> None:
        if not self._filling:
            self._onChosen(self.current)


def selectedRow(table) -> int | None:
    """The selected row of a table; None unless exactly one is selected."""
    rows = {item.row() for item in table.selectedItems()}
    return rows.pop() if len(rows) == 1 else None


def swatches(colors):
    """An icon with a square of each colour, at most six."""
    colors = list(colors)[:6]
    pixmap = qt.QPixmap(max(1, len(colors)) * SWATCH, SWATCH)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    painter = qt.QPainter()
    painter.begin(pixmap)
    for number, (red, green, blue) in enumerate(colors):
        painter.fillRect(
            number * SWATCH,
            1,
            SWATCH - 2,
            SWATCH - 2,
            qt.QColor(round(255 * red), round(255 * green), round(255 * blue)),
        )
    painter.end()
    return qt.QIcon(pixmap)
