"""The learning curve in the panel: a Slicer plot view of our own."""

from __future__ import annotations

import slicer

from ..scene.score_curve import ScoreCurve

HEIGHT = 160  # pixels


class CurveView:
    """A plot widget that is made when there is something to show."""

    def __init__(self, frame):
        self._frame = frame
        self._curve: ScoreCurve | None = None
        self._widget = None
        frame.visible = False

    @property
    def points(self) -> list:
        """(seconds, Dice) as shown."""
        return [] if self._curve is None else self._curve.points

    @property
    def visible(self) -> bool:
        return self._frame.visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._frame.visible = visible

    def show(self, metrics: list[dict], ownerNode) -> None:
        """Show the scores among these ``metrics`` events. ownerNode: of the plot view."""
        if not any(m.get("held_out_dice") is not None for m in metrics):
            return
        scene = slicer.mrmlScene
        if self._curve is None or not self._curve.alive:
            self._curve = ScoreCurve(scene)
            self._plot(self._curve.plotView(scene, ownerNode))
        self._curve.show(metrics)

    def _plot(self, viewNode) -> None:
        if self._widget is None:
            self._widget = slicer.qMRMLPlotWidget()
            self._widget.setMRMLScene(slicer.mrmlScene)
            self._widget.minimumHeight = self._widget.maximumHeight = HEIGHT
            controller = self._widget.controllerWidget()
            if controller is not None:
                controller.visible = False
            self._frame.layout().addWidget(self._widget)
        self._widget.setMRMLPlotViewNode(viewNode)

    def clear(self) -> None:
        """Forget the curve: the scene closes, or a new run begins."""
        if self._curve is not None:
            self._curve.remove()
        self._curve = None
        self._frame.visible = False

    def cleanup(self) -> None:
        self.clear()
        if self._widget is not None:
            self._widget.setMRMLPlotViewNode(None)
            self._widget.setMRMLScene(None)
            self._widget = None
