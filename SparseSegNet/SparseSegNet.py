"""SparseSegNet in Slicer: dense segmentations from a few annotated slices.

From the Python console:

    import SparseSegNet
    run = SparseSegNet.densify(volumeNode, segmentationNode, timeBudget=120)
    run.wait()
    run.result

and for several scans:

    run = SparseSegNet.train([(volume1, segmentation1), (volume2, segmentation2)], 300, wait=True)
    SparseSegNet.segment(run, newVolumeNode, wait=True).result
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
    """Trains on the annotated slices and segments the whole volume; returns the run at once.

    Slicer's process never loads torch: the engine is a process of its own.

    Args:
        volumeNode: A scalar volume, or a list of volumes on one grid (channels).
        segmentationNode: The segmentation, drawn in a few slices, each completely.
        timeBudget: Seconds from start to result.
        **options: See SparseSegNetLib.scene.logic.densify.
    """
    from SparseSegNetLib.scene import logic

    return logic.densify(volumeNode, segmentationNode, timeBudget, **options)


def resume(runFolder, volumeNode, segmentationNode, timeBudget=None, moreTime=0.0, **options):
    """Resumes a run of `densify`, or continues a finished one: see scene.logic.resume."""
    from SparseSegNetLib.scene import logic

    return logic.resume(runFolder, volumeNode, segmentationNode, timeBudget, moreTime, **options)


def train(pairs, timeBudget=120.0, **options):
    """Trains one model on several scans and segments them: see scene.training_set.train."""
    from SparseSegNetLib.scene import training_set

    return training_set.train(pairs, timeBudget, **options)


def segment(model, volumeNode, **options):
    """Segments a volume with a trained model; returns the run at once.

    Args:
        model: A model file, or a finished run.
        volumeNode: A scalar volume, or a list of volumes on one grid (channels).
        **options: See SparseSegNetLib.scene.model_use.segment.
    """
    from SparseSegNetLib.scene import model_use

    return model_use.segment(model, volumeNode, **options)


def currentRun():
    """The newest training of this session, from panel or console; None without one."""
    from SparseSegNetLib.scene import logic

    return logic.currentRun()


def useAnotherComputer(ssh, python="python3"):
    """Has the next runs compute on another computer: see scene.other_computer."""
    from SparseSegNetLib.scene import other_computer

    other_computer.useAnotherComputer(ssh, python)


class SparseSegNet(ScriptedLoadableModule):
    """The module's description, and registration of the sample."""

    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = "SparseSegNet"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["SparseSegNet developers"]
        self.parent.helpText = _(
            "Dense 3D segmentations from a few annotated slices: draw some orthogonal slices with "
            "the Segment Editor; a 3D network is trained on them and segments the whole volume."
        )
        self.parent.acknowledgementText = _(
            "The method is that of the 3D U-Net (Cicek et al., MICCAI 2016)."
        )
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self):
        """Registers the sample; it is copied from the extension, not downloaded."""
        from SparseSegNetLib.scene.sample import registerSample

        registerSample(self.resourcePath("Sample"), self.resourcePath("Icons/SparseSegNet.png"))


class SparseSegNetWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's widget, implemented by SparseSegNetLib.widget.panel."""

    def __init__(self, parent=None):
        self.panel = None
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self):
        """Creates the panel."""
        super().setup()
        from SparseSegNetLib.widget.panel import Panel

        self.logic = SparseSegNetLogic()
        self.panel = Panel(self)
        self.panel.setup()

    def enter(self):
        """Prepares the panel when the module is shown."""
        if self.panel is not None:
            self.panel.enter()

    def exit(self):
        """Releases views and keyboard when another module is shown."""
        if self.panel is not None:
            self.panel.exit()

    def cleanup(self):
        """Ends processes, timers and observers of the panel."""
        if self.panel is not None:
            self.panel.cleanup()
            self.panel = None

    def onReload(self):
        """Reloads SparseSegNetLib too: Slicer itself reloads this file alone."""
        for name in [n for n in sys.modules if n.partition(".")[0] == "SparseSegNetLib"]:
            del sys.modules[name]
        super().onReload()


class SparseSegNetLogic(ScriptedLoadableModuleLogic):
    """The logic class, for scripts that expect one."""

    def densify(self, volumeNode, segmentationNode, timeBudget=120.0, **options):
        """Calls the module's `densify`."""
        return densify(volumeNode, segmentationNode, timeBudget, **options)


class SparseSegNetTest(ScriptedLoadableModuleTest):
    """Densifies the shipped sample with the real engine; needs torch and safetensors."""

    def setUp(self):
        """Clears the scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Runs the test from the module's developer section."""
        self.setUp()
        self.test_densify()

    def test_densify(self):
        """Compares the result with the ground truth on voxels that were not annotated."""
        import numpy as np

        from SparseSegNetLib.client.interpreter import THIS, chosen, missing
        from SparseSegNetLib.scene.sample import loadSample, sampleTruth
        from SparseSegNetLib.scene.segmentations import mergedSegments

        if chosen().kind == THIS and missing():
            self.delayDisplay("torch or safetensors is not installed: nothing is tested")
            return
        folder = os.path.join(os.path.dirname(__file__), "Resources", "Sample")
        volume, drawn = loadSample(folder)
        truth = sampleTruth(folder)
        ids = list(drawn.GetSegmentation().GetSegmentIDs())
        run = densify(volume, drawn, timeBudget=15, device="cpu")
        self.assertEqual(run.wait(120), "done")
        found = mergedSegments(run.result.GetSegmentation(), ids, volume)
        # Only voxels that were not annotated count.
        known = mergedSegments(drawn.GetSegmentation(), ids, volume) > 0
        for item in run.slices:
            known[item.selector()] = True
        overlaps = []
        for n in range(1, len(ids) + 1):
            ours, theirs = (found == n)[~known], (truth == n)[~known]
            overlaps.append(np.sum(ours & theirs) / np.sum(ours | theirs))
        self.assertGreater(min(overlaps), 0.6)
        self.delayDisplay("densified")
