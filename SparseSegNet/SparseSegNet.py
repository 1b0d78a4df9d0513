"""SparseSegNet in Slicer: dense segmentations from a few annotated slices.

From the Python console:

    import SparseSegNet
    run = SparseSegNet.densify(volumeNode, segmentationNode, timeBudget=120)
    run.wait()
    run.result
"""

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


def densify(volumeNode, segmentationNode, timeBudget=120.0, **options):
    """Learn from the annotated slices and segment the whole volume; returns a run at once.

    See SparseSegNetLib.logic.densify for the options. Slicer's process never loads torch: the
    engine is a process of its own.
    """
    from SparseSegNetLib import logic

    return logic.densify(volumeNode, segmentationNode, timeBudget, **options)


class SparseSegNet(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = "SparseSegNet"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["SparseSegNet developers"]
        self.parent.helpText = _(
            "Dense 3D segmentations from a few annotated slices: draw some orthogonal slices with "
            "the Segment Editor, and a 3D network learns the rest of the volume from them.")
        self.parent.acknowledgementText = _(
            "The method is the 3D U-Net's (Cicek et al., MICCAI 2016).")


class SparseSegNetWidget(ScriptedLoadableModuleWidget):
    """Says how to use the extension from the console; the panel is not there yet."""

    def setup(self):
        super().setup()
        import qt

        label = qt.QLabel(_(
            "Draw a few slices of a volume with the Segment Editor, each completely. Then, in the "
            "Python console:"))
        label.wordWrap = True
        self.layout.addWidget(label)
        code = qt.QLabel(
            "import SparseSegNet\n"
            "volume = slicer.util.getNode('name of the volume')\n"
            "drawn = slicer.util.getNode('name of the segmentation')\n"
            "run = SparseSegNet.densify(volume, drawn, timeBudget=120)\n"
            "run.wait()\n"
            "run.result")
        code.textInteractionFlags = qt.Qt.TextSelectableByMouse
        self.layout.addWidget(code)
        self.layout.addStretch(1)


class SparseSegNetLogic(ScriptedLoadableModuleLogic):
    """For scripts that expect a logic class."""

    def densify(self, volumeNode, segmentationNode, timeBudget=120.0, **options):
        return densify(volumeNode, segmentationNode, timeBudget, **options)


class SparseSegNetTest(ScriptedLoadableModuleTest):
    """Densifies a small ball in the scene with the real engine; needs torch and safetensors."""

    def setUp(self):
        import slicer

        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_densify()

    def test_densify(self):
        import importlib.util

        import numpy as np
        import slicer

        if any(importlib.util.find_spec(name) is None for name in ("torch", "safetensors")):
            self.delayDisplay("torch or safetensors is not installed: nothing is tested")
            return
        shape = (24, 28, 32)
        distance = np.sqrt(sum((x - (n - 1) / 2) ** 2
                               for x, n in zip(np.indices(shape), shape, strict=True)))
        truth = (distance < 8).astype(np.uint8)
        noise = np.random.default_rng(0).normal(0, 10, shape)
        volume = slicer.util.addVolumeFromArray((100 * truth + noise).astype(np.int16))
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        segmentation.GetSegmentation().AddEmptySegment("Ball", "Ball")
        drawn = np.zeros_like(truth)
        drawn[12], drawn[:, 14], drawn[:, :, 16] = truth[12], truth[:, 14], truth[:, :, 16]
        slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, segmentation, "Ball", volume)
        run = densify(volume, segmentation, timeBudget=20)
        self.assertEqual(run.wait(120), "done")
        found = slicer.util.arrayFromSegmentBinaryLabelmap(run.result, "Ball", volume) > 0
        self.assertGreater((found & (truth > 0)).sum() / (found | (truth > 0)).sum(), 0.8)
        self.delayDisplay("densified")
