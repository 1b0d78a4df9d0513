"""The shipped sample: kidney-like tubules with a few annotated slices; needs no internet."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import numpy as np
import slicer.util

CATEGORY, NAME = "SparseSegNet", "SparseSegNetKidney"
IMAGE, ANNOTATION = "kidney-image.nrrd", "kidney-annotation.seg.nrrd"
VOLUME, DRAWN = "SparseSegNet kidney", "SparseSegNet kidney drawn"


def registerSample(folder: Path | str, icon: Path | str | None = None) -> None:
    """Registers the sample in Slicer's Sample Data module and for `SampleData.downloadSample`.

    The files are "downloaded" by file URIs, since Slicer calls a custom downloader only in its
    panel, not in scripts. The checksums replace an older copy in Slicer's cache.

    Args:
        folder: The folder of the sample's files.
        icon: The thumbnail's file.
    """
    import SampleData

    register = SampleData.SampleDataLogic.registerCustomSampleDataSource
    # Newer versions of Slicer have renamed it.
    types = (
        "loadFileTypes"
        if "loadFileTypes" in inspect.signature(register).parameters
        else "loadFileType"
    )
    paths = [Path(folder).resolve() / name for name in (IMAGE, ANNOTATION)]
    register(
        category=CATEGORY,
        sampleName=NAME,
        uris=[path.as_uri() for path in paths],
        fileNames=[f"SparseSegNet-{path.name}" for path in paths],
        nodeNames=[VOLUME, DRAWN],
        **{types: ["VolumeFile", "SegmentationFile"]},
        checksums=[f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths],
        thumbnailFileName=None if icon is None else str(icon),
    )


def loadSample(folder: Path | str) -> tuple:
    """Loads the sample into the scene.

    Args:
        folder: The folder of the sample's files.

    Returns:
        The volume node and the segmentation node, annotated in eight slices.

    Raises:
        RuntimeError: If a file cannot be read.
    """
    folder, scene = Path(folder), slicer.mrmlScene
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(VOLUME))
    _read("vtkMRMLVolumeArchetypeStorageNode", folder / IMAGE, volume)
    volume.CreateDefaultDisplayNodes()
    drawn = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(DRAWN))
    _read("vtkMRMLSegmentationStorageNode", folder / ANNOTATION, drawn)
    drawn.CreateDefaultDisplayNodes()
    drawn.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return volume, drawn


def sampleTruth(folder: Path | str) -> np.ndarray:
    """The dense ground truth of the sample.

    Args:
        folder: The folder of the sample's files.

    Returns:
        uint8 (k, j, i): 0 background, 1 wall, 2 lumen.

    Raises:
        RuntimeError: If the file cannot be read.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "truth")
    try:
        _read("vtkMRMLVolumeArchetypeStorageNode", Path(folder) / "kidney-labels.nrrd", node)
        return slicer.util.arrayFromVolume(node).astype(np.uint8)
    finally:
        slicer.mrmlScene.RemoveNode(node)


def _read(kind: str, path: Path, node) -> None:
    storage = slicer.mrmlScene.CreateNodeByClass(kind)
    storage.UnRegister(None)
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise RuntimeError(f"{path} cannot be read: install SparseSegNet again.")
