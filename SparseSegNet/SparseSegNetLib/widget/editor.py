"""Slicer's Segment Editor, embedded with an editor node of its own."""

from __future__ import annotations

import slicer

from .table_height import heightForRows

TAG = "SparseSegNet"
EFFECTS = [
    "Paint",
    "Draw",
    "Erase",
    "Level tracing",
    "Threshold",
    "Scissors",
    "Islands",
    "Smoothing",
    "Margin",
]

COLUMNS = 5  # effects in a row: two rows beside a short list of segments
LEAST_ROWS, MOST_ROWS = 2, 10  # of the list of segments; with more the user chooses its height
UNLIMITED = 16777215  # Qt's largest height


class Editor:
    """Wraps a qMRMLSegmentEditorWidget, in the order of calls that it needs.

    The node of its own leaves the user's settings in the Segment Editor module alone.

    Args:
        widget: The qMRMLSegmentEditorWidget.

    Attributes:
        widget: The widget.
        node: The editor node, None after `release` and `cleanup`.
    """

    def __init__(self, widget):
        self.widget = widget
        self.node = None
        widget.setMaximumNumberOfUndoStates(20)
        self.selectNode()  # before the scene, so that its own choices are kept in this node
        widget.setMRMLScene(slicer.mrmlScene)
        widget.setEffectNameOrder(EFFECTS)
        widget.unorderedEffectsVisible = False
        widget.effectColumnCount = COLUMNS
        for box in slicer.util.findChildren(widget, name="MaskingGroupBox"):
            if hasattr(box, "collapsed"):
                box.collapsed = True  # what is rarely needed is folded
        self._lists = slicer.util.findChildren(widget, name="SegmentsTableView")
        for view in self._lists:
            view.tableWidget().tabKeyNavigation = False  # Tab leaves it for the next widget
        widget.setSegmentationNodeSelectorVisible(False)
        widget.setSourceVolumeNodeSelectorVisible(False)
        widget.setSwitchToSegmentationsButtonVisible(False)
        # Effects of other modules may be registered after this panel was made.
        self._factory = slicer.qSlicerSegmentEditorEffectFactory.instance()
        self._factory.connect("effectRegistered(QString)", self._onEffect)

    def selectNode(self) -> None:
        """Uses the panel's editor node of the scene, created if it does not exist."""
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(TAG)
            node.SetAttribute("BrushSphere", "0")
            node.SetHideFromEditors(True)
            node = scene.AddNode(node)
        if node is not self.node:
            self.node = node
            self.widget.setMRMLSegmentEditorNode(node)

    def edit(self, segmentationNode, volumeNode) -> None:
        """Sets the segmentation that is drawn in and the volume that it is drawn on."""
        if self.node is None:
            return
        if self.widget.segmentationNode() is not segmentationNode:
            self.widget.setSegmentationNode(segmentationNode)
        if self.widget.sourceVolumeNode() is not volumeNode:
            self.widget.setSourceVolumeNode(volumeNode)
        self._fitSegments()

    def saveStateForUndo(self) -> None:
        """Saves the undo state; to be called before the program writes to the segmentation."""
        if self.widget.segmentationNode() is not None:
            self.widget.saveStateForUndo()

    @property
    def sphere(self) -> bool:
        """True if the 3D sphere brush is chosen."""
        return self.node is not None and self.node.GetAttribute("BrushSphere") == "1"

    def enter(self) -> None:
        """Activates views and keyboard shortcuts when the module is shown."""
        self.selectNode()
        self.widget.setupViewObservations()
        self.widget.installKeyboardShortcuts()
        self.widget.updateWidgetFromMRML()

    def exit(self) -> None:
        """Deactivates effect, views and keyboard shortcuts when another module is shown."""
        self.widget.setActiveEffect(None)
        self.widget.uninstallKeyboardShortcuts()
        self.widget.removeViewObservations()

    def release(self) -> None:
        """Lets go of the scene's nodes; to be called before the scene closes."""
        self.widget.setActiveEffect(None)
        self.widget.setSegmentationNode(None)
        self.widget.removeViewObservations()
        self.node = None

    def cleanup(self) -> None:
        """Disconnects the widget from the scene."""
        self._factory.disconnect("effectRegistered(QString)", self._onEffect)
        self.widget.setSegmentationNode(None)
        self.widget.setMRMLScene(None)
        self.node = None

    def _fitSegments(self) -> None:
        """Makes the list of segments as high as its rows; the editor's own height is for many."""
        for view in self._lists:
            table, rows = view.tableWidget(), max(LEAST_ROWS, view.segmentCount)
            # The frame around it can be resized, so it would keep the height of an empty editor.
            frame, around = view.parent(), view.sizeHint.height() - table.sizeHint.height()
            fits = heightForRows(table, rows) + around
            frame.maximumHeight = fits if rows <= MOST_ROWS else UNLIMITED

    def _onEffect(self, _name: str = "") -> None:
        self.widget.updateEffectList()
