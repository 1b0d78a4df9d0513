"""Stand-ins for Slicer's and CTK's own widget classes, on real Qt.

Each public name of a stand-in is one that Slicer's class has: test_stand_ins.py compares them
with what PythonQt exposes in Slicer 5.12.3 (shared/slicer-qt-api.json).
"""

from itertools import pairwise

import slicer
import slicer.util
from collapsing import ctkCollapsibleButton, ctkCollapsibleGroupBox
from PySide6.QtCore import Property, QMargins, QSettings, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPen
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)


class _Connecting:
    """PythonQt's connect by signature, for signals with several overloads."""

    def connect(self, signature, receiver):
        self._signals[signature].append(receiver)

    def disconnect(self, signature, receiver):
        self._signals[signature].remove(receiver)

    def _emit(self, signature, *values):
        for receiver in list(self._signals[signature]):
            receiver(*values)


class qMRMLWidget(QWidget):
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene):
        self._scene = scene
        for child in self.findChildren(QWidget):  # the connections of the .ui file
            if isinstance(child, qMRMLNodeComboBox):
                child.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return self._scene


class qMRMLNodeComboBox(QComboBox):
    """Lists the scene's nodes of its types, after '(none)'."""

    checkedNodesChanged = None
    currentNodeChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._types, self._nodes, self._tags = None, [], [None], []
        self._none, self._filling = "None", False
        self._flags = dict.fromkeys(
            ("showChildNodeTypes", "addEnabled", "removeEnabled", "renameEnabled", "noneEnabled"),
            True,
        )
        self.currentIndexChanged.connect(self._changed)

    def _types_(self):
        return self._types

    def _setTypes(self, types):
        self._types = list(types)

    def _noneText(self):
        return self._none

    def _setNoneText(self, text):
        self._none = text
        self._fill()

    nodeTypes = Property("QStringList", _types_, _setTypes)
    noneDisplay = Property(str, _noneText, _setNoneText)
    for _name in (
        "showChildNodeTypes",
        "addEnabled",
        "removeEnabled",
        "renameEnabled",
        "noneEnabled",
    ):
        locals()[_name] = Property(
            bool,
            lambda self, n=_name: self._flags[n],
            lambda self, value, n=_name: self._flags.__setitem__(n, value),
        )
    del _name

    def setMRMLScene(self, scene):
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene, self._tags = scene, []
        if scene is not None:
            for event in (
                scene.NodeAddedEvent,
                scene.NodeRemovedEvent,
                scene.EndCloseEvent,
                scene.EndImportEvent,
            ):
                self._tags.append(scene.AddObserver(event, lambda *_: self._fill()))
        self._fill()

    def currentNode(self):
        index = self.currentIndex
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def setCurrentNode(self, node):
        self._fill()
        self.currentIndex = self._nodes.index(node) if node in self._nodes else 0

    def _fill(self):
        if self._filling:
            return
        self._filling = True
        before = self.currentNode()
        found = (
            []
            if self._scene is None
            else [
                n
                for kind in self._types
                for n in slicer.util.getNodesByClass(kind)
                if not n.GetHideFromEditors()
                and (self._flags["showChildNodeTypes"] or n.GetClassName() == kind)
            ]
        )
        self._nodes = [None, *found]
        self.clear()
        self.addItems([self._none, *(n.GetName() or "" for n in found)])
        self._filling = False
        self.currentIndex = self._nodes.index(before) if before in self._nodes else 0
        if before is not None and before not in self._nodes:
            self._changed()

    def _changed(self, _index=0):
        if not self._filling:
            self.currentNodeChanged.emit(self.currentNode())


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    checkedNodesChanged = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self._checked, self._fixed = [], []

    def checkedNodes(self):
        return [n for n in self._nodes if n in self._checked]

    def checkState(self, node):
        return Qt.Checked if node in self._checked else Qt.Unchecked

    def setCheckState(self, node, state):
        if (node in self._checked) != (state == Qt.Checked):
            (self._checked.append if state == Qt.Checked else self._checked.remove)(node)
            self.checkedNodesChanged.emit()

    def setUserCheckable(self, node, userCheckable):
        (
            self._fixed.remove
            if userCheckable and node in self._fixed
            else self._fixed.append
            if not userCheckable and node not in self._fixed
            else id
        )(node)


class qMRMLSegmentsTableView(qMRMLWidget):
    """A table of the segments' colours and names."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.objectName = "SegmentsTableView"
        self._table = QTableWidget(0, 2)
        self._table.setHorizontalHeaderLabels(["", "Name"])
        self._table.verticalHeader().visible = False
        self._table.horizontalHeader().stretchLastSection = True
        layout = QVBoxLayout(self)
        layout.contentsMargins = QMargins(0, 0, 0, 0)
        layout.addWidget(self._table)

    segmentCount = Property(int, lambda self: self._table.rowCount)

    def tableWidget(self):
        return self._table

    def setSegmentationNode(self, node):
        segmentation = None if node is None else node.GetSegmentation()
        ids = [] if segmentation is None else segmentation.GetSegmentIDs()
        self._table.rowCount = len(ids)
        for row, segment in enumerate(map(segmentation.GetSegment, ids) if ids else ()):
            colour = QTableWidgetItem("")
            colour.setBackground(QColor.fromRgbF(*segment.GetColor()))
            self._table.setItem(row, 0, colour)
            self._table.setItem(row, 1, QTableWidgetItem(segment.GetName()))
        self._table.resizeColumnToContents(0)


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Looks a little like the editor, and keeps what it is told."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._editorNode = self._segmentation = self._source = self._effect = None
        self._order, self._unordered, self._keys, self._observing = [], True, False, False
        self._columns = 2
        self._label = QLabel("", self)
        self._label.wordWrap = True
        box = QFrame(self)
        box.frameShape = QFrame.StyledPanel
        inner = QVBoxLayout(box)
        frame = QWidget(box)  # a ctkExpandableWidget in Slicer
        self._segments = qMRMLSegmentsTableView(frame)
        QVBoxLayout(frame).addWidget(self._segments)
        frame.layout().contentsMargins = QMargins(0, 0, 0, 0)
        inner.addWidget(frame)
        inner.addWidget(self._label)
        layout = QVBoxLayout(self)
        layout.contentsMargins = QMargins(0, 0, 0, 0)
        layout.addWidget(box)

    def _unordered_(self):
        return self._unordered

    def _setUnordered(self, visible):
        self._unordered = visible

    unorderedEffectsVisible = Property(bool, _unordered_, _setUnordered)
    effectColumnCount = Property(int, lambda self: self._columns, lambda self, n: self._set(n))

    def _set(self, columns):
        self._columns = columns

    def setMRMLSegmentEditorNode(self, node):
        self._editorNode = node

    def mrmlSegmentEditorNode(self):
        return self._editorNode

    def setSegmentationNode(self, node):
        self._segmentation = node
        self.updateWidgetFromMRML()

    def segmentationNode(self):
        return self._segmentation

    def setSourceVolumeNode(self, node):
        self._source = node

    def sourceVolumeNode(self):
        return self._source

    def setMaximumNumberOfUndoStates(self, count):
        pass

    def setEffectNameOrder(self, names):
        self._order = list(names)

    def effectNameOrder(self):
        return self._order

    def setSegmentationNodeSelectorVisible(self, visible):
        pass

    def setSourceVolumeNodeSelectorVisible(self, visible):
        pass

    def setSwitchToSegmentationsButtonVisible(self, visible):
        pass

    def setActiveEffect(self, effect):
        self._effect = effect

    def setActiveEffectByName(self, name):
        self._effect = name

    def installKeyboardShortcuts(self, parent=None):
        self._keys = True

    def uninstallKeyboardShortcuts(self):
        self._keys = False

    def setupViewObservations(self):
        self._observing = True

    def removeViewObservations(self):
        self._observing = False

    def updateEffectList(self):
        pass

    def saveStateForUndo(self):
        self._saved = self._segmentation

    def updateWidgetFromMRML(self):
        self._segments.setSegmentationNode(self._segmentation)
        name = "" if self._segmentation is None else self._segmentation.GetName()
        self._label.text = (
            f"<b>Segment Editor</b> · {name}<br><small>{' · '.join(self._order)}</small>"
        )


class qMRMLSegmentationShow3DButton(QPushButton):
    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None

    def setSegmentationNode(self, node):
        self._node = node

    def segmentationNode(self):
        return self._node


class qMRMLPlotWidget(qMRMLWidget):
    """Draws the first series of the chart, from the real nodes."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._view, self._controller = None, QToolButton(self)

    def setMRMLPlotViewNode(self, node):
        self._view = node
        self.update()

    def mrmlPlotViewNode(self):
        return self._view

    def controllerWidget(self):
        return self._controller

    def paintEvent(self, event):
        chart = None if self._view is None else self._view.GetPlotChartNode()
        if chart is None:
            return
        painter = QPainter(self)
        width, height = self.width, self.height
        painter.fillRect(0, 0, width, height, QColor("white"))
        painter.drawText(6, 14, chart.GetYAxisTitle())
        painter.drawText(width - 60, height - 4, chart.GetXAxisTitle())
        painter.setPen(QColor(180, 180, 180))
        painter.drawRect(30, 20, width - 40, height - 40)
        series = chart.GetNthPlotSeriesNode(0)
        table = series.GetTableNode().GetTable()
        points = [
            (table.GetValue(r, 0).ToDouble(), table.GetValue(r, 1).ToDouble())
            for r in range(table.GetNumberOfRows())
        ]
        most = max((x for x, _ in points), default=1.0) or 1.0
        place = [(30 + (width - 40) * x / most, 20 + (height - 40) * (1 - y)) for x, y in points]
        painter.setPen(QPen(QColor.fromRgbF(*series.GetColor()), 2))
        for a, b in pairwise(place):
            painter.drawLine(round(a[0]), round(a[1]), round(b[0]), round(b[1]))
        for x, y in place:
            painter.drawEllipse(round(x) - 2, round(y) - 2, 4, 4)
        painter.end()


class qSlicerSegmentEditorEffectFactory(_Connecting):
    _one = None

    def __init__(self):
        self._signals = {"effectRegistered(QString)": []}

    @classmethod
    def instance(cls):
        cls._one = cls._one or cls()
        return cls._one


class qSlicerExtensionsManagerModel:
    def __init__(self):
        self._asked = []

    def installExtensionFromServer(self, name, restart=True, update=False):
        self._asked.append(name)


class qSlicerApplication(_Connecting):
    """What is used of slicer.app, without a main window unless a test makes one."""

    def __init__(self, settings):
        self._signals = {"aboutToQuit()": [], "startupCompleted()": []}
        self._settings, self._manager = settings, qSlicerExtensionsManagerModel()
        self._windows = []

    @property
    def slicerUserSettingsFilePath(self):
        return self._settings

    def userSettings(self):
        return QSettings(self._settings, QSettings.IniFormat)

    def layoutManager(self):
        return None

    def topLevelWidgets(self):
        return self._windows

    def extensionsManagerModel(self):
        return self._manager


CUSTOM = [
    qMRMLWidget,
    qMRMLNodeComboBox,
    qMRMLCheckableNodeComboBox,
    ctkCollapsibleButton,
    ctkCollapsibleGroupBox,
    qMRMLSegmentEditorWidget,
    qMRMLSegmentsTableView,
    qMRMLSegmentationShow3DButton,
]
ALL = [
    *CUSTOM,
    qMRMLPlotWidget,
    qSlicerSegmentEditorEffectFactory,
    qSlicerExtensionsManagerModel,
    qSlicerApplication,
]
