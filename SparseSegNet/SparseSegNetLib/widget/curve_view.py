"""The validation curve in the panel, in a plot view of its own."""

from __future__ import annotations

import slicer

from ..scene.score_curve import ScoreCurve

HEIGHT = 160  # pixels


class CurveView:
    """A plot widget that is created with the first score.

    Args:
        frame: The QFrame that holds it.
    """

    def __init__(self, frame):
        self._frame = frame
        self._curve: ScoreCurve | None = None
        self._widget = None
        frame.visible = False

    @property
    def points(self) -> list:
        """The points (seconds, Dice) as shown."""
        return [] if self._curve is None else self._curve.points

    @property
    def visible(self) -> bool:
        """True if the curve is shown."""
        return self._frame.visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._frame.visible = visible

    def show(self, metrics: list[dict], ownerNode) -> None:
        """Shows the scores among `metrics` events.

        Args:
            metrics: The events.
            ownerNode: The parent layout node of the plot view.
        """
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
        """Removes the curve, before the scene closes or a new run begins."""
        if self._curve is not None:
            self._curve.remove()
        self._curve = None
        self._frame.visible = False

    def cleanup(self) -> None:
        """Removes the curve and disconnects the widget from the scene."""
        self.clear()
        if self._widget is not None:
            self._widget.setMRMLPlotViewNode(None)
            self._widget.setMRMLScene(None)
            self._widget = None
