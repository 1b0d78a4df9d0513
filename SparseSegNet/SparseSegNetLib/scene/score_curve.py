"""The validation score as a Slicer plot: table, series and chart, extended during training."""

from __future__ import annotations

import math

import vtk

NAME = "SparseSegNet validation Dice"
COLOR = (0.10, 0.50, 0.35)


class ScoreCurve:
    """A plot of Dice on validation slices against seconds.

    The nodes are not saved with the scene: the run folder keeps the scores.

    Args:
        scene: The MRML scene.

    Attributes:
        chart: The plot chart node.
        points: (seconds, Dice) as shown.
    """

    def __init__(self, scene):
        self._table = _node(scene, "vtkMRMLTableNode", NAME)
        for title in ("Seconds", "Dice"):
            column = vtk.vtkFloatArray()
            column.SetName(title)
            self._table.AddColumn(column)
        self._series = _node(scene, "vtkMRMLPlotSeriesNode", "Validation Dice")
        self._series.SetAndObserveTableNodeID(self._table.GetID())
        self._series.SetXColumnName("Seconds")
        self._series.SetYColumnName("Dice")
        self._series.SetPlotType(self._series.PlotTypeScatter)
        self._series.SetColor(*COLOR)
        self._series.SetLineWidth(2)
        self.chart = _node(scene, "vtkMRMLPlotChartNode", NAME)
        self.chart.AddAndObservePlotSeriesNodeID(self._series.GetID())
        self.chart.SetTitleVisibility(False)
        self.chart.SetLegendVisibility(False)
        self.chart.SetXAxisTitle("seconds")
        self.chart.SetYAxisTitle("Dice")  # longer ones do not fit beside so low a plot
        self.chart.SetXAxisRangeAuto(False)
        self.chart.SetYAxisRangeAuto(False)
        self.points: list[tuple[float, float]] = []

    def show(self, metrics: list[dict]) -> None:
        """Shows `metrics` events; those without a score are left out."""
        points = [
            (m["seconds"], m["held_out_dice"])
            for m in metrics
            if m.get("held_out_dice") is not None
        ]
        if points == self.points or not self.alive:
            return
        self.points = points
        table = self._table.GetTable()
        table.SetNumberOfRows(len(points))
        for row, point in enumerate(points):
            for column, value in enumerate(point):
                table.SetValue(row, column, vtk.vtkVariant(float(value)))
        table.Modified()
        self._table.Modified()
        if points:
            self.chart.SetXAxisRange(0.0, max(1.0, max(seconds for seconds, _ in points)))
            self.chart.SetYAxisRange(lowest(min(dice for _, dice in points)), 1.0)

    @property
    def alive(self) -> bool:
        """True if the plot's nodes are still in the scene."""
        return self.chart.GetScene() is not None and self._table.GetScene() is not None

    def remove(self) -> None:
        """Removes the nodes from the scene."""
        for node in (self.chart, self._series, self._table):
            if node.GetScene() is not None:
                node.GetScene().RemoveNode(node)

    def plotView(self, scene, ownerNode):
        """The plot view node of the panel's plot widget, created if it does not exist.

        Args:
            scene: The MRML scene.
            ownerNode: The parent layout node, because of which Slicer's own layouts ignore the
                view.

        Returns:
            The view node, showing this chart.
        """
        view = scene.GetSingletonNode("SparseSegNet", "vtkMRMLPlotViewNode")
        if view is None:
            view = scene.CreateNodeByClass("vtkMRMLPlotViewNode")
            view.UnRegister(None)
            view.SetName("SparseSegNet")
            view.SetSingletonTag("SparseSegNet")
            view.SetLayoutName("SparseSegNet")
            view.SetSaveWithScene(False)
            view.SetAndObserveParentLayoutNodeID(ownerNode.GetID())
            view = scene.AddNode(view)
        view.SetPlotChartNodeID(self.chart.GetID())
        return view


def lowest(dice: float) -> float:
    """Lower end of the scale for scores from `dice` to 1: a multiple of 0.1 well below it."""
    return max(0.0, math.floor(10 * (dice - 0.02)) / 10)


def _node(scene, kind: str, name: str):
    node = scene.CreateNodeByClass(kind)
    node.UnRegister(None)
    node.SetName(name)
    node.SetSaveWithScene(False)
    node.HideFromEditorsOn()
    return scene.AddNode(node)
