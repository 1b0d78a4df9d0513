"""The section Data: volume, further channels and segmentation."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from ..annotation.segments import PALETTE
from ..errors import InputError
from ..scene.volumes import volumeGeometry
from ..units import duration
from .parameters import TIMES

# From the accuracy benchmark: on two cores, whose test convolution processes 1.7 million voxels a
# second, accuracy rose little after 10 s, and next to nothing after 30 s, on volumes of a million
# voxels. A slower computer has done in 30 s what these did in 10.
USUAL_SECONDS, USUAL_VOXELS, USUAL_SPEED = 30.0, 1e6, 1.7e6
LEAST, MOST = 0.3, 10.0  # times the usual voxels: larger volumes are worked on more coarsely


class DataSection:
    """Selectors of volume and segmentation, with the volume's size and the usual training time.

    Args:
        panel: The panel.
    """

    def __init__(self, panel):
        self.panel, self.ui = panel, panel.ui
        self.ui.newSegmentationButton.clicked.connect(self.onNewSegmentation)
        self.ui.channelSelector.checkedNodesChanged.connect(self.onChannels)
        self._showing = False

    def update(self) -> None:
        """Shows the chosen nodes."""
        parameters = self.panel.parameters
        volume = None if parameters is None else parameters.volume
        self.ui.newSegmentationButton.enabled = volume is not None
        self.ui.channelSelector.enabled = volume is not None
        self._showChannels(parameters)
        text = self.panel.problem
        if volume is None:
            text = _(
                "Load a scan and choose it above. 'Sample Data' has one to try: SparseSegNetKidney."
            )
        elif not text:
            text = self._about(volume)
        self.ui.dataInfoLabel.text = text

    def _showChannels(self, parameters) -> None:
        """Checks the further channels in their selector; the volume itself cannot be checked."""
        self._showing = True
        chosen = [] if parameters is None else list(parameters.channels)
        selector = self.ui.channelSelector
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            selector.setCheckState(node, qt.Qt.Checked if node in chosen else qt.Qt.Unchecked)
            selector.setUserCheckable(
                node, node is not parameters.volume if parameters is not None else True
            )
        self._showing = False

    def _about(self, volume) -> str:
        try:
            grid = volumeGeometry(volume)
        except InputError as error:
            return str(error)
        voxels = grid.size[0] * grid.size[1] * grid.size[2]
        text = _("{size} voxels ({millions} million), {spacing} mm.").format(
            size=" × ".join(map(str, grid.size)),
            millions=f"{voxels / 1e6:.2g}",
            spacing=" × ".join(f"{s:.3g}" for s in grid.spacing),
        )
        speed = self.panel.torchCard.speed
        if speed:
            text += " " + _("Training usually takes about {time} on this computer.").format(
                time=duration(suggestedTime(voxels, speed))
            )
        return text

    def onNewSegmentation(self) -> None:
        """Adds a segmentation with two named, coloured segments, and chooses it."""
        parameters = self.panel.parameters
        volume = parameters.volume
        node = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLSegmentationNode",
            slicer.mrmlScene.GenerateUniqueName(_("{name} drawn").format(name=volume.GetName())),
        )
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for number, name in enumerate((_("Structure 1"), _("Structure 2"))):
            node.GetSegmentation().AddEmptySegment("", name, PALETTE[number])
        parameters.segmentation = node

    def onChannels(self) -> None:
        """Stores the further channels that the user checked."""
        parameters = self.panel.parameters
        if self._showing or parameters is None:
            return
        parameters.channels = [
            n for n in self.ui.channelSelector.checkedNodes() if n is not parameters.volume
        ]


def suggestedTime(voxels: int, speed: float) -> float:
    """The time budget that usually suffices.

    Args:
        voxels: Number of voxels of the volume.
        speed: Voxels per second of the doctor's convolution, the most that this computer reached.

    Returns:
        Seconds, one of the slider's times.
    """
    size = min(max(LEAST, voxels / USUAL_VOXELS), MOST)
    seconds = USUAL_SECONDS * size * min(1.0, USUAL_SPEED / speed)
    return next((t for t in TIMES if t >= seconds), TIMES[-1])
