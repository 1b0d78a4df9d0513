"""The shipped sample: kidney-like tubules, a few slices of them annotated. Needs no network."""

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
    """Offer the sample in Slicer's Sample Data module and to `SampleData.downloadSample`.

    folder: where its files lie. They are "downloaded" from there by file URIs, since Slicer asks a
    downloader of ours only in its panel, not in scripts. The checksums replace an older copy in
    Slicer's cache.
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
    """Load it into the scene; returns the volume and the segmentation drawn in eight slices.

    Raises RuntimeError when a file cannot be read.
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
    """The dense truth, uint8 (k, j, i), 1 for the wall and 2 for the lumen."""
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
