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
    """Trains on the annotated slices and segments the whole volume; returns at once.

    Slicer's process never loads torch: the engine is a process of its own.

    Args:
        volumeNode: A scalar volume, or a list of volumes on one grid (channels).
        segmentationNode: The segmentation, drawn in a few slices, each completely.
        timeBudget: Seconds from start to result.
        **options: Further options, see SparseSegNetLib.scene.logic.densify.

    Returns:
        The run, a SparseSegNetLib.scene.scene_run.SceneRun.

    Raises:
        InputError: If volume, segmentation or options cannot be used.
        EngineError: If the engine cannot be started.
    """
    from SparseSegNetLib.scene import logic

    return logic.densify(volumeNode, segmentationNode, timeBudget, **options)


def resume(runFolder, volumeNode, segmentationNode, timeBudget=None, moreTime=0.0, **options):
    """Resumes a run from its last checkpoint, or continues the training of a finished one.

    Args:
        runFolder: The run's folder.
        volumeNode: The (first) volume that the run began with.
        segmentationNode: The segmentation that the run began with.
        timeBudget: Seconds in all; without timeBudget and moreTime what was left of the budget.
        moreTime: Seconds in addition to those that the run has taken already.
        **options: Further options, see SparseSegNetLib.scene.logic.resume.

    Returns:
        The run, as `densify`.
    """
    from SparseSegNetLib.scene import logic

    return logic.resume(runFolder, volumeNode, segmentationNode, timeBudget, moreTime, **options)


def currentRun():
    """The newest run of this session, started by the panel or the console; None without one."""
    from SparseSegNetLib.scene import logic

    return logic.currentRun()


class SparseSegNet(ScriptedLoadableModule):
    """The module's description, and registration of the sample.

    Args:
        parent: Slicer's module object.
    """

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
    """The module's widget, implemented by SparseSegNetLib.widget.panel.

    Args:
        parent: The parent widget.
    """

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
        run = densify(volume, drawn, timeBudget=15, device="cpu")
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
