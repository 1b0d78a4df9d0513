"""Slicer's Segment Editor, embedded with an editor node of our own."""

from __future__ import annotations

import slicer

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


class Editor:
    """Wraps a qMRMLSegmentEditorWidget, in the order of calls that it needs.

    Its own editor node leaves the user's settings in the Segment Editor module alone.
    """

    def __init__(self, widget):
        self.widget = widget
        self.node = None
        widget.setMaximumNumberOfUndoStates(20)
        self.selectNode()  # before the scene, so that its own choices are kept in this node
        widget.setMRMLScene(slicer.mrmlScene)
        widget.setEffectNameOrder(EFFECTS)
        widget.unorderedEffectsVisible = False
        widget.setSegmentationNodeSelectorVisible(False)
        widget.setSourceVolumeNodeSelectorVisible(False)
        widget.setSwitchToSegmentationsButtonVisible(False)
        # Effects of other modules may be registered after this panel was made.
        self._factory = slicer.qSlicerSegmentEditorEffectFactory.instance()
        self._factory.connect("effectRegistered(QString)", self._onEffect)

    def selectNode(self) -> None:
        """Use the scene's editor node of ours; make it where there is none."""
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
        """Draw into this segmentation, on this volume."""
        if self.node is None:
            return
        if self.widget.segmentationNode() is not segmentationNode:
            self.widget.setSegmentationNode(segmentationNode)
        if self.widget.sourceVolumeNode() is not volumeNode:
            self.widget.setSourceVolumeNode(volumeNode)

    def saveStateForUndo(self) -> None:
        """Before the segmentation in the editor is written to by us."""
        if self.widget.segmentationNode() is not None:
            self.widget.saveStateForUndo()

    @property
    def sphere(self) -> bool:
        """Whether a 3D brush is chosen."""
        return self.node is not None and self.node.GetAttribute("BrushSphere") == "1"

    def enter(self) -> None:
        self.selectNode()
        self.widget.setupViewObservations()
        self.widget.installKeyboardShortcuts()
        self.widget.updateWidgetFromMRML()

    def exit(self) -> None:
        self.widget.setActiveEffect(None)
        self.widget.uninstallKeyboardShortcuts()
        self.widget.removeViewObservations()

    def release(self) -> None:
        """Before the scene closes."""
        self.widget.setActiveEffect(None)
        self.widget.setSegmentationNode(None)
        self.widget.removeViewObservations()
        self.node = None

    def cleanup(self) -> None:
        self._factory.disconnect("effectRegistered(QString)", self._onEffect)
        self.widget.setSegmentationNode(None)
        self.widget.setMRMLScene(None)
        self.node = None

    def _onEffect(self, _name: str = "") -> None:
        self.widget.updateEffectList()
