"""The list of annotated slices."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from ..annotation.slices import AnnotatedSlice
from ..scene.views import axisNames

SWATCH = 12  # pixels


class SliceTable:
    """Rows of annotated slices in a QTableWidget: which, what is in it, how it counts."""

    def __init__(self, table, onChosen):
        self._table, self._onChosen = table, onChosen
        table.setHorizontalHeaderLabels([_("Slice"), _("What is in it"), _("Counts")])
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(self._onSelection)
        self._slices: list[AnnotatedSlice] = []
        self._filling = False

    @property
    def current(self) -> AnnotatedSlice | None:
        """The selected slice."""
        row = selectedRow(self._table)
        return None if row is None else self._slices[row]

    def select(self, item: AnnotatedSlice | None) -> None:
        """Select a slice, which shows it."""
        if item in self._slices:
            self._table.selectRow(self._slices.index(item))

    def show(self, rows, segmentation, volumeNode) -> None:
        """rows: of annotating.Row.  segmentation: the vtkSegmentation with names and colours."""
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
                ", ".join(s.GetName() or "?" for s in segments) or _("nothing here"),
                _("a part") if row.slice.box else _("all of it"),
            )
            for column, text in enumerate(cells):
                cell = qt.QTableWidgetItem(text)
                if column == 1:
                    cell.setIcon(swatches([s.GetColor() for s in segments]))
                self._table.setItem(number, column, cell)
        self._table.resizeColumnToContents(0)
        self._table.resizeColumnToContents(2)
        if chosen in self._slices:
            self._table.selectRow(self._slices.index(chosen))
        self._filling = False

    def _onSelection(self) -> None:
        if not self._filling:
            self._onChosen(self.current)


def selectedRow(table) -> int | None:
    """The selected row of a table of which one can be selected."""
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
