"""The panel's parameters, a typed parameter node that is saved with the scene."""

from __future__ import annotations

from typing import Annotated, Union

from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLVectorVolumeNode,
)
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

TIMES = (20, 30, 60, 120, 300, 600, 1200, 1800, 2700, 3600, 5400, 7200)  # seconds


@parameterNodeWrapper
class Parameters:
    """The panel's choices and the nodes of the newest run.

    The annotated slices are stored with the segmentation (scene.slice_list), so that each
    segmentation has its own and the console can read them too. The volume's classes are listed one
    by one since they become the node types of its selector, which shows no derived ones; so are the
    prior's.

    Attributes:
        volume: The volume that is annotated.
        channels: Further volumes on the same grid.
        segmentation: The segmentation with the annotation.
        result: The dense segmentation.
        preview: The newest prediction during training.
        uncertainty: The uncertainty of the result.
        timeBudget: Seconds from start to result.
        device: 'auto', or the device to train on.
        network: 'auto', or a published network.
        seed: The random seed.
        largestComponent: True removes components without annotation except the largest.
        scanNames: True stores the names of scans in run folders and models.
        livePreview: True shows predictions during training.
        followEdits: True updates training with new annotations.
        trainingSet: Segmentations of further scans to train on.
        prior: Another tool's result on the volume, a prior of the training.
        startFile: The model to start the training from, empty for none.
        modelFile: The model to use on other scans, empty for that of the newest run.
        runFolder: The folder of the newest run, empty without one.
    """

    volume: Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode, None]  # noqa: UP007
    channels: list[vtkMRMLScalarVolumeNode]
    segmentation: vtkMRMLSegmentationNode
    result: vtkMRMLSegmentationNode
    preview: vtkMRMLSegmentationNode
    uncertainty: vtkMRMLScalarVolumeNode
    trainingSet: list[vtkMRMLSegmentationNode]
    prior: Union[  # noqa: UP007
        vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, None
    ]
    timeBudget: float = 120.0
    device: str = "auto"
    network: str = "auto"
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    largestComponent: bool = False
    scanNames: bool = True
    livePreview: bool = True
    followEdits: bool = True
    startFile: str = ""
    modelFile: str = ""
    runFolder: str = ""

    @property
    def runName(self) -> str:
        """The name of a run on the volume, without the volume's own if names are not stored."""
        return (self.volume.GetName() if self.scanNames else "") or "volume"
