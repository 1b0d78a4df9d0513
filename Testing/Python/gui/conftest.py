"""The real panel on real Qt (offscreen), the real scene and the real engine."""

import ctypes
import importlib
import os
import sys
import time
import types
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("slicer.util", reason="slicer-core without slicer.util")
pytest.importorskip("PySide6.QtUiTools", reason="PySide6 is not installed")

import SparseSegNetLib

ROOT = Path(__file__).resolve().parents[3]
MODULE = Path(SparseSegNetLib.__file__).parents[1] / "SparseSegNet.py"
PICTURES = ROOT / "demo" / "gui"
WIDTH = 430  # pixels, of Slicer's module panel


def qtModule(customWidgets):
    """One module with all of Qt, as Slicer's `qt`, with properties as in PythonQt."""
    from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

    qt = types.ModuleType("qt")
    for part in (QtCore, QtGui, QtWidgets, QtUiTools):
        for name in dir(part):
            if not name.startswith("_"):
                setattr(qt, name, getattr(part, name))

    def loader():
        made = QtUiTools.QUiLoader()
        for widget in customWidgets:
            made.registerCustomWidget(widget)
        return made

    qt.QUiLoader = loader
    return qt


def useProperties(*names):
    """Qt's properties as attributes in these modules, as PythonQt has them everywhere."""
    import PySide6.QtCore  # noqa: F401

    # It looks into every module that is loaded, and torch's lazy ones do not bear that.
    hidden = {n: sys.modules.pop(n) for n in list(sys.modules) if n.partition(".")[0] == "torch"}
    try:
        for name in names:  # true_property, for modules that do not ask for it themselves
            sys.modules["__feature__"].set_selection(0x02, name)
    finally:
        sys.modules.update(hidden)


@pytest.fixture(scope="session")
def qtApplication():
    from PySide6 import QtWidgets

    # PythonQt's other word for it, by which slicer.util finds widgets.
    QtWidgets.QWidget.name = property(lambda widget: widget.objectName)
    if sys.version_info < (3, 12):
        # PySide6 6.12 gives back a reference too many to None, True or False with each property
        # that is set or read by true_property; from Python 3.12 on these are immortal.
        for value in (None, True, False):
            ctypes.c_ssize_t.from_address(id(value)).value += 1 << 40
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication([])


@pytest.fixture
def slicerApplication(qtApplication, tmp_path, monkeypatch, request):
    """The modules and attributes that Slicer's application adds to slicer-core."""
    from PySide6 import QtWidgets

    library = MODULE.parent / "SparseSegNetLib"
    useProperties(
        "SparseSegNet",
        "conftest",
        "collapsing",
        "stand_ins",
        "slicer_python",
        "slicer.util",
        __name__,
        request.module.__name__,
        "SparseSegNetLib.client.qprocess_transport",
        *(f"SparseSegNetLib.widget.{p.stem}" for p in library.glob("widget/*.py")),
    )
    import slicer_python
    import stand_ins
    from mrml_scene import sceneWithLogics

    scene, modules, _application = sceneWithLogics()
    # Without these a scene cannot be opened from an .mrb.
    cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    (tmp_path / "cache").mkdir()
    cache.SetRemoteCacheDirectory(str(tmp_path / "cache"))
    manager.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(manager)
    app = stand_ins.qSlicerApplication(str(tmp_path / "settings" / "Slicer.ini"))
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    monkeypatch.setattr(slicer, "app", app, raising=False)
    monkeypatch.setattr(slicer, "modules", modules, raising=False)
    for widget in stand_ins.ALL:
        monkeypatch.setattr(slicer, widget.__name__, widget, raising=False)
    monkeypatch.setitem(sys.modules, "qt", qtModule(stand_ins.CUSTOM))
    for name, members in (
        ("i18n", ("tr", "translate")),
        ("parameterNodeWrapper", ("parameterNodeWrapper", "WithinRange")),
        (
            "ScriptedLoadableModule",
            (
                "ScriptedLoadableModule",
                "ScriptedLoadableModuleWidget",
                "ScriptedLoadableModuleLogic",
                "ScriptedLoadableModuleTest",
            ),
        ),
    ):
        module = types.ModuleType(f"slicer.{name}")
        for member in members:
            setattr(module, member, getattr(slicer_python, member))
        monkeypatch.setitem(sys.modules, f"slicer.{name}", module)
    # PythonQt calls an object's name `name`.
    monkeypatch.setattr(
        slicer.util,
        "childWidgetVariables",
        lambda widget: types.SimpleNamespace(
            **{w.objectName: w for w in widget.findChildren(QtWidgets.QWidget) if w.objectName}
        ),
    )
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: True)
    slicer_python.ScriptedLoadableModuleWidget.path = str(MODULE)
    (tmp_path / "settings").mkdir()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal")):
        view = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        view.SetSingletonTag(name)
        view.SetLayoutName(name)
        view.SetOrientation(orientation)
        view.SetMappedInLayout(1)
        scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode").SetLayoutName(name)
    forgetOurs()
    # A test may reload the library: others must not get a second copy of it.
    before = {n: m for n, m in sys.modules.items() if n.startswith("SparseSegNetLib")}
    yield app
    for name in [n for n in sys.modules if n.startswith("SparseSegNetLib")]:
        del sys.modules[name]
    sys.modules.update(before)
    forgetOurs()
    scene.Clear(1)


def forgetOurs():
    """The library as a new session would load it: with this Qt, or without."""
    for name in [
        n
        for n in sys.modules
        if n.startswith(("SparseSegNetLib.widget", "SparseSegNetLib.client.qprocess"))
    ]:
        del sys.modules[name]
    sys.modules.pop("SparseSegNet", None)


class Driver:
    """A user: sees the panel, clicks, paints, waits."""

    def __init__(self, widget, window):
        self.widget, self.window = widget, window

    @property
    def panel(self):
        return self.widget.panel

    @property
    def qt(self):
        return sys.modules["qt"]

    @property
    def ui(self):
        return self.panel.ui

    def turn(self):
        """One turn of the event loop, the timer's tick included."""
        from PySide6.QtWidgets import QApplication

        QApplication.processEvents()
        time.sleep(0.01)

    def until(self, arrived, timeout=90.0):
        end = time.monotonic() + timeout
        while not arrived() and time.monotonic() < end:
            self.turn()
        assert arrived(), f"it did not come in {timeout} s; shown: {self.ui.statusLabel.text!r}"

    def click(self, name):
        from PySide6.QtCore import Qt
        from PySide6.QtTest import QTest

        button = getattr(self.ui, name)
        assert button.enabled, f"{name} cannot be pressed"
        QTest.mouseClick(button, Qt.LeftButton)
        self.turn()

    def paint(self, segmentId, where, node=None, value=1):
        """Into what is there, as a brush does. where: an index of a (k, j, i) array."""
        import numpy as np

        parameters = self.panel.parameters
        node, volume = node or parameters.segmentation, parameters.volume
        drawn = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume)
        shape = slicer.util.arrayFromVolume(volume).shape
        drawn = np.zeros(shape, np.uint8) if drawn is None else np.array(drawn)
        drawn[where] = value
        slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, segmentId, volume)

    def picture(self, name, height=None):
        """A screenshot in demo/gui. height: of Slicer's module panel, in pixels; all is shown
        without one."""
        for _ in range(3):
            self.turn()
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.window.resize(WIDTH, height or 760)
        for _ in range(3):
            self.turn()
            if height is None:  # what is folded or grows with its text is known only when shown
                hidden = self.ui.sectionsWidget.height - self.ui.sectionsArea.viewport().height
                self.window.resize(WIDTH, self.window.height + hidden)
        self.turn()
        assert self.window.grab().save(str(PICTURES / f"{name}.png"))


@pytest.fixture
def makeUser(slicerApplication):
    """makeUser() -> a Driver of the module, opened as Slicer does."""
    from PySide6.QtWidgets import QVBoxLayout, QWidget

    made = []

    def make():
        window = QWidget()
        window.setLayout(QVBoxLayout())
        window.isEntered = True
        module = importlib.import_module("SparseSegNet")
        widget = module.SparseSegNetWidget(window)
        widget.setup()
        widget.enter()
        window.show()
        made.append(Driver(widget, window))
        return made[-1]

    yield make
    for user in made:
        if user.widget.panel is not None:
            user.widget.exit()
            user.widget.cleanup()
        user.window.close()
        user.window.deleteLater()


@pytest.fixture
def user(makeUser):
    return makeUser()
