"""Stand-ins for the parts of Slicer's Python that need its application: i18n, parameter nodes,
ScriptedLoadableModule. Written for these tests after Slicer's documented behaviour."""

import json
import os
import typing
import unittest

import slicer
import slicer.util


def tr(text):
    assert isinstance(text, str) and "{" not in text.replace("{{", "").split("}")[-1]
    return text


def translate(context, text):
    return text


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent

    def resourcePath(self, name):
        return os.path.join(os.path.dirname(self.parent.path), "Resources", name)


class ScriptedLoadableModuleWidget:
    path = ""  # of the module file, which Slicer knows by itself

    def __init__(self, parent=None):
        super().__init__()
        self.parent = parent
        self.layout = parent.layout()

    def setup(self):
        pass

    def resourcePath(self, name):
        return os.path.join(os.path.dirname(self.path), "Resources", name)

    def onReload(self):
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message):
        pass


class WithinRange:
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum


def parameterNodeWrapper(cls):
    """Typed attributes kept in a real parameter node: nodes as references, the rest as text."""
    hints = typing.get_type_hints(cls)
    defaults = {name: getattr(cls, name, None) for name in hints}

    def nodeClasses(kind):
        kinds = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
        return [k for k in kinds if isinstance(k, type) and issubclass(k, slicer.vtkMRMLNode)]

    def isNode(kind):
        return bool(nodeClasses(kind))

    def prop(name, kind):
        def read(self):
            node = self.parameterNode
            if isNode(kind):
                return node.GetNodeReference(name)
            if typing.get_origin(kind) is list:
                return [
                    node.GetNthNodeReference(name, n)
                    for n in range(node.GetNumberOfNodeReferences(name))
                ]
            text = node.GetParameter(name)
            return defaults[name] if text == "" else kind(json.loads(text))

        def write(self, value):
            node = self.parameterNode
            if isNode(kind):
                assert value is None or isinstance(value, kind), (name, value)
                node.SetNodeReferenceID(name, None if value is None else value.GetID())
            elif typing.get_origin(kind) is list:
                node.RemoveNodeReferenceIDs(name)
                for item in value:
                    node.AddNodeReferenceID(name, item.GetID())
            else:
                assert isinstance(value, kind), (name, value)
                node.SetParameter(name, json.dumps(value))

        return property(read, write)

    def init(self, parameterNode):
        self.parameterNode = parameterNode
        self._guis, self._updating = {}, False

    def connectGui(self, gui):
        tag = len(self._guis) + 1
        pairs = {
            w.property("SlicerParameterName"): w
            for w in vars(gui).values()
            if hasattr(w, "property") and w.property("SlicerParameterName")
        }
        slots = []

        def show(caller=None, event=None):
            if self._updating:
                return
            self._updating = True
            for name, widget in pairs.items():
                _write(widget, getattr(self, name))
            self._updating = False

        for name, widget in pairs.items():
            if isNode(hints[name]):  # as Slicer does: the type says what can be chosen
                widget.nodeTypes = [k.__name__.rpartition(".")[2] for k in nodeClasses(hints[name])]

            def changed(*_, name=name, widget=widget):
                if not self._updating:
                    setattr(self, name, _read(widget))

            signal = _signal(widget)
            signal.connect(changed)
            slots.append((signal, changed))
        show()
        observer = self.parameterNode.AddObserver("ModifiedEvent", show)
        self._guis[tag] = (slots, observer)
        return tag

    def disconnectGui(self, tag):
        slots, observer = self._guis.pop(tag)
        for signal, changed in slots:
            signal.disconnect(changed)
        self.parameterNode.RemoveObserver(observer)

    for name, kind in hints.items():
        setattr(cls, name, prop(name, kind))
    cls.__init__, cls.connectGui, cls.disconnectGui = init, connectGui, disconnectGui
    return cls


def _signal(widget):
    for name in ("currentNodeChanged", "stateChanged", "valueChanged"):
        if hasattr(widget, name):
            return getattr(widget, name)
    raise RuntimeError(f"no connector for {type(widget).__name__}")


def _read(widget):
    if hasattr(widget, "currentNode"):
        return widget.currentNode()
    return widget.checked if hasattr(widget, "checked") else widget.value


def _write(widget, value):
    if hasattr(widget, "setCurrentNode"):
        widget.setCurrentNode(value)
    elif hasattr(widget, "checked"):
        widget.checked = value
    else:
        widget.value = value
