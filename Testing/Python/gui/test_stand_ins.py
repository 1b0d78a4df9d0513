"""The stand-ins offer nothing that Slicer's own classes do not have."""

import json
import re
from pathlib import Path

import pytest

API = Path(__file__).resolve().parents[4] / "shared" / "slicer-qt-api.json"
QT = {
    "QWidget",
    "QObject",
    "QComboBox",
    "QPushButton",
    "QAbstractButton",
    "QGroupBox",
    "QApplication",
}
# Overridden to look like something; Qt's own.
EVENTS = {"paintEvent", "showEvent", "resizeEvent"}
# Signals that PythonQt takes by name or by signature.
OF_QT = {"aboutToQuit", "topLevelWidgets"}


def names(api, cls):
    """Everything a class has in Slicer: properties with their setters, slots, methods, signals."""
    found = set()
    while cls in api:
        entry = api[cls]
        found |= set(entry["properties"])
        found |= {f"set{p[0].upper()}{p[1:]}" for p in entry["properties"]}
        for kind in ("slots", "invokables", "signals"):
            found |= {re.match(r"\w+", text)[0] for text in entry[kind]}
        cls = entry["base"]
    return found


@pytest.fixture(scope="module")
def api():
    if not API.is_file():
        pytest.skip(f"{API} is not here: what PythonQt exposes cannot be compared")
    return json.loads(API.read_text(encoding="utf-8"))


def test_no_stand_in_has_a_name_of_its_own(slicerApplication, api):
    import stand_ins

    for cls in stand_ins.ALL:
        known = names(api, cls.__name__) | OF_QT | {"connect", "disconnect"}
        ours = {
            n
            for base in cls.__mro__
            if base.__module__ in ("stand_ins", "collapsing")
            for n in vars(base)
            if not n.startswith("_")
        } - EVENTS
        of_bases = {"checkedNodesChanged", "staticMetaObject"}
        assert ours - known - of_bases == set(), cls.__name__


def test_the_ui_file_uses_known_widgets_and_properties(api):
    import xml.etree.ElementTree as ElementTree

    path = Path(__file__).resolve().parents[3] / "SparseSegNet/Resources/UI/SparseSegNet.ui"
    root = ElementTree.parse(path).getroot()
    for widget in root.iter("widget"):
        cls = widget.get("class")
        assert cls.startswith("Q") or cls in api, cls
        if cls not in api:
            continue
        known = names(api, cls) | {
            "toolTip",
            "text",
            "title",
            "checkable",
            "enabled",
            "visible",
            "SlicerParameterName",
        }
        given = {p.get("name") for p in widget.findall("property")}
        assert given <= known, f"{widget.get('name')}: {given - known}"
    for kind in root.iter("customwidget"):
        assert kind.find("class").text in api


def test_every_control_says_what_it_does():
    import xml.etree.ElementTree as ElementTree

    path = Path(__file__).resolve().parents[3] / "SparseSegNet/Resources/UI/SparseSegNet.ui"
    for widget in ElementTree.parse(path).getroot().iter("widget"):
        given = {p.get("name") for p in widget.findall("property")}
        plain = widget.get("class") == "QLabel" and widget.get("name") in (
            "volumeLabel",
            "channelLabel",
            "segmentationLabel",
            "timeTitle",
            "deviceTitle",
            "networkLabel",
            "priorLabel",
            "startLabel",
            "seedLabel",
            "runsLabel",
            "runsLimitLabel",
            "engineLabel",
            "installWhereLabel",
        )
        frames = ("SparseSegNet", "sectionsArea", "sectionsWidget", "runBar", "shownLabel")
        if not plain and widget.get("name") not in frames:
            assert "toolTip" in given, widget.get("name")


def test_what_the_panel_calls_of_slicers_widgets_exists(api):
    """Names called on the segment editor in our code are Slicer's: the stand-in is not asked."""
    library = Path(__file__).resolve().parents[3] / "SparseSegNet" / "SparseSegNetLib" / "widget"
    editor = (library / "editor.py").read_text(encoding="utf-8")
    called = set(re.findall(r"(?:self\.)?widget\.(\w+)", editor))
    assert called and called <= names(api, "qMRMLSegmentEditorWidget")
    curve = (library / "curve_view.py").read_text(encoding="utf-8")
    called = set(re.findall(r"self\._widget\.(\w+)", curve))
    assert called <= names(api, "qMRMLPlotWidget") | {"minimumHeight", "maximumHeight"}
    everything = "\n".join(p.read_text(encoding="utf-8") for p in library.glob("*.py"))
    of_app = set(re.findall(r"slicer\.app\.(\w+)", everything))
    known = names(api, "qSlicerApplication") | {"connect", "disconnect"}
    assert of_app <= known, of_app - known
    for signature in re.findall(r'connect\("(\w+\([^"]*\))"', everything):
        offered = [
            s
            for cls in ("qSlicerApplication", "qSlicerSegmentEditorEffectFactory")
            for s in api[cls]["signals"]
        ] + ["aboutToQuit()"]
        assert any(re.match(r"\w+", s)[0] == re.match(r"\w+", signature)[0] for s in offered)
