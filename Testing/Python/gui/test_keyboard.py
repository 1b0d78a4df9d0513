"""The panel by keyboard, and how much room its lists take."""

from scenes import addVolume, annotated, paintSlices


def reached(user):
    """The names of the panel's widgets that Tab reaches, in their order, beginning at the first."""
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest
    from PySide6.QtWidgets import QApplication

    user.window.activateWindow()
    user.panel.ui.volumeSelector.setFocus()
    user.turn()
    names = []
    for _ in range(300):
        widget = QApplication.focusWidget()
        while widget is not None and not widget.objectName:  # such as a combo box's own parts
            widget = widget.parentWidget()
        name = "" if widget is None else widget.objectName
        if names and name == names[0] and len(names) > 1:
            return names
        if not names or names[-1] != name:
            names.append(name)
        QTest.keyClick(QApplication.focusWidget(), Qt.Key_Tab)
    raise AssertionError(f"Tab does not come back to the first: {names[-10:]}")


def test_tab_reaches_everything_that_can_be_pressed(user):
    from PySide6.QtWidgets import QAbstractButton, QAbstractItemView, QComboBox, QSlider, QSpinBox

    annotated(user)
    for name in ("data", "annotate", "learn", "result", "model"):
        getattr(user.ui, f"{name}Section").collapsed = False
    user.ui.advancedGroup.collapsed = False
    user.panel.update()
    user.turn()
    kinds = (QAbstractButton, QComboBox, QSlider, QSpinBox, QAbstractItemView)
    ours = {name for name in vars(user.ui) if not name.startswith("_")}
    wanted = {
        widget.objectName
        for kind in kinds
        for widget in user.window.findChildren(kind)
        if widget.objectName in ours and widget.visible and widget.enabled
    }
    names = reached(user)
    assert wanted - set(names) == set()
    assert {"sliceTable", "trainButton", "markButton", "timeSlider", "deviceCombo"} <= wanted
    # In the order of work, the bar with the run's buttons last.
    order = [n for n in names if n in ("volumeSelector", "markButton", "timeSlider", "trainButton")]
    assert order == ["volumeSelector", "markButton", "timeSlider", "trainButton"]


def test_the_list_of_segments_is_as_high_as_its_rows(user):
    from PySide6.QtWidgets import QWidget

    volume, truth = addVolume()
    user.panel.parameters.volume = volume
    user.click("newSegmentationButton")
    segmentation = user.panel.parameters.segmentation.GetSegmentation()
    heights = {}
    view = user.window.findChild(QWidget, "SegmentsTableView")
    for count in (2, 5, 10, 11):
        while segmentation.GetNumberOfSegments() < count:
            segmentation.AddEmptySegment()
        user.ui.segmentEditor.updateWidgetFromMRML()
        user.panel.update()
        heights[count] = view.parent().maximumHeight
    row = view.tableWidget().verticalHeader().defaultSectionSize
    assert heights[5] - heights[2] == 3 * row and heights[10] - heights[2] == 8 * row
    assert heights[11] > 10000, "with many the user chooses it"
    table, heights = user.ui.sliceTable, []
    for slices in ((("k", 8), ("k", 2)), (("k", 12),), (("k", 14), ("j", 9)), (("j", 3), ("i", 3))):
        paintSlices(user, truth, slices)
        heights.append((table.rowCount, table.height))
    assert [rows for rows, _ in heights] == [2, 3, 5, 7]
    row = table.rowHeight(0)
    assert [height - heights[0][1] for _, height in heights] == [0, 0, 2 * row, 3 * row]
