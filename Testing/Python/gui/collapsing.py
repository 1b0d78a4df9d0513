"""Stand-ins for CTK's widgets that fold their content, see stand_ins.py."""

from PySide6.QtCore import Property, Signal
from PySide6.QtGui import QColor, QPainter
from PySide6.QtWidgets import QAbstractButton, QGroupBox


class ctkCollapsibleButton(QAbstractButton):
    contentsCollapsed = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._closed = False
        self.setContentsMargins(0, 26, 0, 4)
        self.clicked.connect(lambda: self._setCollapsed(not self._closed))

    def _collapsed_(self):
        return self._closed

    def _setCollapsed(self, collapsed):
        changed, self._closed = collapsed != self._closed, collapsed
        self.maximumHeight = 26 if collapsed else 16777215
        if changed:
            self.contentsCollapsed.emit(collapsed)

    collapsed = Property(bool, _collapsed_, _setCollapsed)

    def showEvent(self, event):
        self._setCollapsed(self._closed)

    def paintEvent(self, event):
        painter = QPainter(self)
        painter.fillRect(0, 2, self.width, 20, QColor(208, 214, 222))
        painter.setPen(QColor(30, 30, 30))
        painter.drawText(8, 17, ("▸ " if self._closed else "▾ ") + self.text)
        painter.end()


class ctkCollapsibleGroupBox(QGroupBox):
    """As CTK's: a check mark, drawn as an arrow, opens and closes it."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.checkable = True
        self.toggled.connect(self.showEvent)
        self.setContentsMargins(0, 20, 0, 0)

    collapsed = Property(
        bool,
        lambda self: not self.checked,
        lambda self, collapsed: setattr(self, "checked", not collapsed),
    )

    def showEvent(self, _event):
        self.maximumHeight = 16777215 if self.checked else 22

    def paintEvent(self, event):
        painter = QPainter(self)
        painter.setPen(QColor(30, 30, 30))
        painter.drawText(2, 15, ("▾ " if self.checked else "▸ ") + self.title)
        painter.end()
