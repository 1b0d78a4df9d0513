"""A model file to choose: a list of those chosen in this session, a button that opens others."""

from __future__ import annotations

from pathlib import Path

import qt
from slicer.i18n import tr as _


class ModelChoice:
    """Keeps a file name among the panel's parameters.

    Args:
        panel: The panel.
        combo: The list.
        button: The button that opens a file.
        parameter: Name of the parameter.
        none: The list's entry for no file.
    """

    def __init__(self, panel, combo, button, parameter: str, none: str):
        self.panel, self.combo, self.button = panel, combo, button
        self._parameter, self._none = parameter, none
        self._files: list[str] = []  # chosen in this session
        self._showing = False
        combo.currentIndexChanged.connect(self.onChosen)
        button.clicked.connect(self.onOpen)

    def show(self, parameters) -> None:
        """Shows the chosen file."""
        self._showing, combo = True, self.combo
        chosen = "" if parameters is None else getattr(parameters, self._parameter)
        if chosen and chosen not in self._files:
            self._files.append(chosen)
        texts = [self._none, *(Path(file).name for file in self._files)]
        if [combo.itemText(n) for n in range(combo.count)] != texts:
            combo.clear()
            for text, file in zip(texts, ["", *self._files], strict=True):
                combo.addItem(text, file)
        combo.currentIndex = max(0, combo.findData(chosen))
        self._showing = False

    def onChosen(self, index: int) -> None:
        """Stores the chosen file."""
        if not self._showing and self.panel.parameters is not None:
            setattr(self.panel.parameters, self._parameter, self.combo.itemData(index) or "")

    def onOpen(self) -> None:
        """Asks for a model file."""
        chosen = qt.QFileDialog.getOpenFileName(
            self.button, _("Open model"), "", _("Models (*.safetensors)")
        )
        path = chosen[0] if isinstance(chosen, tuple) else chosen
        if path and self.panel.parameters is not None:
            setattr(self.panel.parameters, self._parameter, str(path))
