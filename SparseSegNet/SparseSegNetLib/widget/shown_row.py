"""The row that shows and hides annotation, preview, result and uncertainty."""

from __future__ import annotations

from ..scene.shown_layers import arrange, hideEarlierResults, isOverlaid, isShown, setShown


class ShownRow:
    """One button for each of what lies over the volume, in one place.

    Args:
        panel: The panel.
    """

    def __init__(self, panel):
        self.panel, self.ui = panel, panel.ui
        self._buttons = {
            "segmentation": self.ui.annotationButton,
            "preview": self.ui.previewButton,
            "result": self.ui.resultButton,
        }
        for name, button in self._buttons.items():
            button.clicked.connect(lambda *args, name=name: self.onClicked(name))

    def update(self) -> None:
        """Shows which of them are there, and which are shown."""
        parameters = self.panel.parameters
        for name, button in self._buttons.items():
            node = None if parameters is None else getattr(parameters, name)
            button.enabled = node is not None
            button.checked = isShown(node)
        uncertainty = None if parameters is None else parameters.uncertainty
        self.ui.uncertaintyButton.checked = isOverlaid(uncertainty)

    def onClicked(self, name: str) -> None:
        """Shows or hides the node of a parameter."""
        node = getattr(self.panel.parameters, name)
        if node is not None:
            setShown(node, not isShown(node))
        self.arrange()

    def predictionCame(self, node) -> None:
        """Shows a new preview or result instead of earlier results.

        Args:
            node: Its segmentation node.
        """
        if node is self.panel.parameters.result:
            self.ui.resultSection.collapsed = False
        hideEarlierResults(self.panel.parameters.volume, node)
        setShown(node, True)
        self.arrange()

    def arrange(self) -> None:
        """Draws outlines where something filled would hide what lies below."""
        parameters = self.panel.parameters
        if parameters is not None:
            arrange(
                parameters.segmentation,
                [parameters.preview, parameters.result],
                isOverlaid(parameters.uncertainty),
            )
        self.update()
