"""SparseSegNet in Slicer: dense segmentations from a few annotated slices.

From the Python console:

    import SparseSegNet
    run = SparseSegNet.densify(volumeNode, segmentationNode, timeBudget=120)
    run.wait()
    run.result
"""

import os
import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


def densify(volumeNode, segmentationNode, timeBudget=120.0, **options):
    """Learn from the annotated slices and segment the whole volume; returns a run at once.

    See SparseSegNetLib.scene.logic.densify for the options. Slicer's process never loads torch: the
    engine is a process of its own.
    """
    from SparseSegNetLib.scene import logic

    return logic.densify(volumeNode, segmentationNode, timeBudget, **options)


def resume(runFolder, volumeNode, segmentationNode, timeBudget=None, moreTime=0.0, **options):
    """Go on with a run from its last checkpoint, or teach a finished one some more.

    See SparseSegNetLib.scene.logic.resume.
    """
    from SparseSegNetLib.scene import logic

    return logic.resume(runFolder, volumeNode, segmentationNode, timeBudget, moreTime, **options)


def currentRun():
    """The run that was begun last in this session, by the panel or from the console, or None."""
    from SparseSegNetLib.scene import logic

    return logic.currentRun()


class SparseSegNet(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = "SparseSegNet"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["SparseSegNet developers"]
        self.parent.helpText = _(
            "Dense 3D segmentations from a few annotated slices: draw some orthogonal slices with "
            "the Segment Editor, and a 3D network learns the rest of the volume from them."
        )
        self.parent.acknowledgementText = _(
            "The method is the 3D U-Net's (Cicek et al., MICCAI 2016)."
        )
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self):
        """Offer the sample; it is copied from the extension, not downloaded."""
        from SparseSegNetLib.scene.sample import registerSample

        registerSample(self.resourcePath("Sample"), self.resourcePath("Icons/SparseSegNet.png"))


class SparseSegNetWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel; SparseSegNetLib.widget.panel is what it does."""

    def __init__(self, parent=None):
        self.panel = None
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self):
        super().setup()
        from SparseSegNetLib.widget.panel import Panel

        self.logic = SparseSegNetLogic()
        self.panel = Panel(self)
        self.panel.setup()

    def enter(self):
        if self.panel is not None:
            self.panel.enter()

    def exit(self):
        if self.panel is not None:
            self.panel.exit()

    def cleanup(self):
        if self.panel is not None:
            self.panel.cleanup()
            self.panel = None

    def onReload(self):
        """Reload our library too: Slicer itself reloads this file alone."""
        for name in [n for n in sys.modules if n.partition(".")[0] == "SparseSegNetLib"]:
            del sys.modules[name]
        super().onReload()


class SparseSegNetLogic(ScriptedLoadableModuleLogic):
    """For scripts that expect a logic class."""

    def densify(self, volumeNode, segmentationNode, timeBudget=120.0, **options):
        return densify(volumeNode, segmentationNode, timeBudget, **options)


class SparseSegNetTest(ScriptedLoadableModuleTest):
    """Densifies the shipped sample with the real engine; needs torch and safetensors."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_densify()

    def test_densify(self):
        import numpy as np

        from SparseSegNetLib.client.installation import missing
        from SparseSegNetLib.scene.sample import loadSample, sampleTruth
        from SparseSegNetLib.scene.segmentations import mergedSegments

        if missing():
            self.delayDisplay("torch or safetensors is not installed: nothing is tested")
            return
        folder = os.path.join(os.path.dirname(__file__), "Resources", "Sample")
        volume, drawn = loadSample(folder)
        truth = sampleTruth(folder)
        ids = list(drawn.GetSegmentation().GetSegmentIDs())
        run = densify(volume, drawn, timeBudget=25, device="cpu")
        self.assertEqual(run.wait(120), "done")
        found = mergedSegments(run.result.GetSegmentation(), ids, volume)
        # Only voxels that were not annotated count.
        known = mergedSegments(drawn.GetSegmentation(), ids, volume) > 0
        for item in run.slices:
            known[item.selector()] = True
        overlaps = [
            np.mean(
                (found == n)[~known & ((found == n) | (truth == n))]
                & (truth == n)[~known & ((found == n) | (truth == n))]
            )
            for n in range(1, len(ids) + 1)
        ]
        self.assertGreater(min(overlaps), 0.6)
        self.delayDisplay("densified")
