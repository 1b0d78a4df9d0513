"""The panel's parameters: a typed parameter node, saved with the scene."""

from __future__ import annotations

from typing import Annotated, Union

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLVectorVolumeNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

TIMES = (20, 30, 60, 120, 300, 600, 1200, 1800, 2700, 3600, 5400, 7200)  # seconds


@parameterNodeWrapper
class Parameters:
    """volume, channels, segmentation: what is annotated.  result, preview, uncertainty: what
    came of it.  timeBudget: seconds.  runFolder: of the newest run, empty without one.

    The annotated slices are kept with the segmentation (nodes.slice_list), so that each
    segmentation has its own and the console knows them too. The volume's classes are named one by
    one since they become the node types of its selector, which shows no derived ones.
    """

    volume: Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode, None]  # noqa: UP007
    channels: list[vtkMRMLScalarVolumeNode]
    segmentation: vtkMRMLSegmentationNode
    result: vtkMRMLSegmentationNode
    preview: vtkMRMLSegmentationNode
    uncertainty: vtkMRMLScalarVolumeNode
    timeBudget: float = 120.0
    device: str = "auto"
    network: str = "auto"
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    largestComponent: bool = False
    livePreview: bool = True
    followEdits: bool = True
    runFolder: str = ""
