"""Images of a sequence as scans; the results become a sequence of segmentations."""

from __future__ import annotations

import slicer
import slicer.util

from ..errors import InputError
from .node_reference import NodeReference
from .results import markResult
from .scans import Scan, hidden, removed
from .scene_run import SceneRun


def scansOf(sequenceNode) -> list[SequenceScan]:
    """The volumes of a sequence, in its order; items of another kind are left out."""
    output = _Output(sequenceNode)
    found = []
    for index in range(sequenceNode.GetNumberOfDataNodes()):
        item = sequenceNode.GetNthDataNode(index)
        if item is not None and item.IsA("vtkMRMLScalarVolumeNode"):
            found.append(SequenceScan(sequenceNode, index, output))
    return found


class _Output:
    """The sequence of the results, made with the first of them.

    Without Slicer's Sequences module, which shows a sequence in step with another, each result is
    a node of its own.
    """

    def __init__(self, sequenceNode):
        self._source = NodeReference(sequenceNode, "sequence")
        self._sequence: NodeReference | None = None

    @staticmethod
    def logic():
        module = getattr(slicer.modules, "sequences", None)
        return None if module is None else module.logic()

    def put(self, node, value: str) -> None:
        """Copies a result into the sequence, at an index value."""
        if self._sequence is None or not self._sequence.alive:
            self._sequence = NodeReference(self._made(), "sequence of the results")
        self._sequence.get().SetDataNodeAtValue(node, value)
        source = self._source.get()
        browser = self.logic().GetFirstBrowserNodeForSequenceNode(source)
        sequence = self._sequence.get()
        if browser is not None and not browser.IsSynchronizedSequenceNode(sequence, True):
            browser.AddSynchronizedSequenceNode(sequence)
            self.logic().UpdateProxyNodesFromSequences(browser)

    def at(self, value: str):
        return self._sequence.get().GetDataNodeAtValue(value)

    def _made(self):
        source = self._source.get()
        scene = source.GetScene()
        name = scene.GenerateUniqueName(f"{source.GetName()} segmentation")
        node = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        node.SetIndexName(source.GetIndexName())
        node.SetIndexUnit(source.GetIndexUnit())
        node.SetIndexType(source.GetIndexType())
        return node


class SequenceScan(Scan):
    """One image of a sequence.

    Args:
        sequenceNode: The sequence.
        index: The image's place, from 0.
        output: Takes the results of all images of the sequence.
    """

    def __init__(self, sequenceNode, index: int, output: _Output):
        self._sequence = NodeReference(sequenceNode, "sequence")
        self._value, self._output = sequenceNode.GetNthIndexValue(index), output
        self.key = (sequenceNode.GetID(), self._value)
        unit = f" {sequenceNode.GetIndexUnit()}" if sequenceNode.GetIndexUnit() else ""
        self.name = f"{sequenceNode.GetName()} {self._value}{unit}"
        self._volume: NodeReference | None = None
        self._result: NodeReference | None = None

    def open(self) -> list:
        """A copy of the image as a node of the scene."""
        self._volume = NodeReference(self._copied(self._item(), self.name), "volume")
        volume = self._volume.get()
        volume.SetHideFromEditors(True)
        return [volume]

    def keep(self, run: SceneRun) -> None:
        """Moves the result into the sequence of results, or leaves it in the scene without one."""
        node = run.result
        if self._output.logic() is None:
            self._result = NodeReference(hidden(node), "result")
            self._volume.get().SetHideFromEditors(False)
            return
        try:
            self._output.put(node, self._value)
        finally:
            removed(node)

    def close(self) -> None:
        """Removes the copy from the scene, unless a result in the scene belongs to it."""
        if self._result is None and self._volume is not None and self._volume.alive:
            removed(self._volume.get())
            self._volume = None

    def shown(self) -> tuple:
        """Copies of image and result, so that the sequences stay as they are."""
        if self._result is None or not self._result.alive:
            volume = self._copied(self._item(), self.name)
            result = self._copied(self._output.at(self._value), f"{self.name} segmentation", volume)
            self._volume = NodeReference(volume, "volume")
            self._result = NodeReference(result, "result")
        return self._volume.get(), self._result.get()

    def _item(self):
        item = self._sequence.get().GetDataNodeAtValue(self._value)
        if item is None:
            raise InputError(f"the image {self._value} is no longer in the sequence.")
        return item

    def _copied(self, node, name: str, volume=None):
        scene = self._sequence.get().GetScene()
        copy = scene.AddNewNodeByClass(node.GetClassName(), scene.GenerateUniqueName(name))
        given = copy.GetName()
        copy.CopyContent(node, True)
        copy.SetName(given)
        copy.CreateDefaultDisplayNodes()
        if volume is not None:
            copy.SetReferenceImageGeometryParameterFromVolumeNode(volume)
            markResult(copy)
        return copy
