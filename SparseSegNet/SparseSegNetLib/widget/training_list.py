"""The list of scans to train on at once."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..scene.annotated_pairs import AnnotatedPair, annotatedPairs
from .check_table import CheckRow, CheckTable


class TrainingList:
    """The annotated scans of the scene; those with a check mark are trained on.

    The present scan is always one of them.

    Args:
        panel: The panel.
    """

    def __init__(self, panel):
        self.panel, self.ui = panel, panel.ui
        self._table = CheckTable(
            self.ui.trainingTable, [_("Scan"), _("Segmentation"), _("Slices")], self.onChecked
        )
        self.ui.severalGroup.toggled.connect(self.update)

    def update(self, *_unused) -> None:
        """Shows the annotated scans; nothing is looked up while the list is folded."""
        ui, parameters = self.ui, self.panel.parameters
        count = 1 if parameters is None else 1 + len(self._further())
        ui.severalGroup.title = (
            _("Train on several scans ({count} chosen)").format(count=count)
            if count > 1
            else _("Train on several scans")
        )
        active = self.panel.controller.active
        ui.trainingTable.enabled = not active
        if parameters is None or ui.severalGroup.collapsed:
            return
        found = annotatedPairs()
        present = parameters.segmentation
        found.sort(key=lambda pair: pair.segmentation is not present)
        ui.trainingTable.visible = len(found) > 1
        ui.severalLabel.text = (
            _(
                "Scans with a check mark are trained on together. The same structure must have "
                "the same name in each; a structure that a scan does not have counts as unknown "
                "there."
            )
            if len(found) > 1
            else _(
                "There is no other annotated scan yet: load one, choose it in Data and annotate "
                "some slices of it."
            )
        )
        chosen = self._further()
        self._table.show(
            [
                CheckRow(
                    pair.segmentation.GetID(),
                    (
                        pair.volume.GetName() or "",
                        pair.segmentation.GetName() or "",
                        _("as drawn") if pair.slices is None else str(pair.slices),
                    ),
                    pair.segmentation is present or pair.segmentation in chosen,
                    fixed=pair.segmentation is present,
                )
                for pair in found
            ]
        )

    def pairs(self) -> list[AnnotatedPair]:
        """The scans to train on, the present one first."""
        parameters = self.panel.parameters
        chosen = self._further()
        present = AnnotatedPair(parameters.volume, parameters.segmentation, None)
        return [present, *(p for p in annotatedPairs() if chosen and p.segmentation in chosen)]

    def add(self, segmentationNode) -> None:
        """Adds a scan by its segmentation."""
        parameters = self.panel.parameters
        if segmentationNode not in parameters.trainingSet:
            parameters.trainingSet = [*parameters.trainingSet, segmentationNode]

    def _further(self) -> list:
        """The chosen segmentations other than the present one."""
        parameters = self.panel.parameters
        return [
            node
            for node in parameters.trainingSet
            if node is not None and node is not parameters.segmentation
        ]

    def onChecked(self, key, checked: bool) -> None:
        """Adds a scan to the training set, or takes it out."""
        parameters = self.panel.parameters
        node = parameters.parameterNode.GetScene().GetNodeByID(key)
        if node is None:
            return
        if checked:
            self.add(node)
        else:
            parameters.trainingSet = [n for n in parameters.trainingSet if n is not node]
