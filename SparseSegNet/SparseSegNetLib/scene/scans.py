"""Scans to segment with a model, and where their results go: the scene, a folder, a sequence."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import slicer
import slicer.util

from ..errors import InputError
from ..runfolder.file_retries import remove, replace
from .node_reference import NodeReference
from .results import markResult
from .scene_run import SceneRun
from .shown_layers import setShown

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
RESULT_ENDING = ".seg.nrrd"


class Scan:
    """One scan to segment.

    Attributes:
        key: What it is known by.
        name: Its name for the user.
        correction: The segmentation in which the user corrects the result, None without one.
    """

    key: object
    name: str
    correction: NodeReference | None = None

    @property
    def done(self) -> bool:
        """True if there is a result of an earlier time, which is never replaced."""
        return False

    def open(self) -> list:
        """The volume nodes (channels) in the scene; what is not there is loaded.

        Raises:
            InputError: If it is gone or cannot be read.
        """
        raise NotImplementedError

    def keep(self, run: SceneRun) -> None:
        """Stores the result of a run that is done.

        Raises:
            InputError: If it cannot be stored.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Removes from the scene what `open` loaded."""

    def shown(self) -> tuple:
        """Volume and result as nodes of the scene, to look at or to correct.

        Raises:
            InputError: If they are gone.
        """
        raise NotImplementedError

    def channels(self) -> list:
        """Further volume nodes of the scan, beside the first."""
        return []

    def matches(self, other: Scan) -> bool:
        """True if another scan of the same key is made of the same."""
        return True


class SceneScan(Scan):
    """A volume of the scene; its result stays in the scene.

    Args:
        volumes: The volume, and further channels on its grid.
    """

    def __init__(self, volumes: Sequence):
        self.key, self.name = volumes[0].GetID(), volumes[0].GetName() or "volume"
        self._volumes = [NodeReference(node, f"volume '{node.GetName()}'") for node in volumes]
        self._result: NodeReference | None = None

    def open(self) -> list:
        """The volume nodes."""
        return [reference.get() for reference in self._volumes]

    def keep(self, run: SceneRun) -> None:
        """Leaves the result in the scene, hidden: several would cover each other in the views."""
        self._result = NodeReference(hidden(run.result), "result")

    def shown(self) -> tuple:
        """Volume and result."""
        assert self._result is not None
        return self._volumes[0].get(), self._result.get()

    def channels(self) -> list:
        """Further volumes."""
        return [reference.get() for reference in self._volumes[1:]]

    def matches(self, other: Scan) -> bool:
        """True if the volumes are the same, and in the scene."""
        assert isinstance(other, SceneScan)
        return all(reference.alive for reference in self._volumes) and self.open() == other.open()


class FileScan(Scan):
    """A file; its result is written beside it, and nothing stays in the scene.

    Twenty scans would fill the memory, and their files are where the results are looked for.

    Args:
        path: The image file.
    """

    def __init__(self, path: Path):
        self.path, self.key, self.name = path, str(path), path.name
        ending = next(e for e in ENDINGS if path.name.lower().endswith(e))
        self.output = path.with_name(path.name[: -len(ending)] + RESULT_ENDING)
        self._loaded: list[NodeReference] = []

    @property
    def done(self) -> bool:
        """True if the result's file is there."""
        return self.output.exists()

    def open(self) -> list:
        """Loads the file."""
        if self.done:
            raise InputError(
                f"there is a result already, {self.output.name}, which is not replaced: move it "
                "elsewhere to segment this scan again."
            )
        return [self._load(slicer.util.loadVolume, self.path, {"show": False, "singleFile": True})]

    def keep(self, run: SceneRun) -> None:
        """Writes the result beside the file, and removes it from the scene."""
        node = run.result
        try:
            writeNew(node, self.output)
        finally:
            removed(node)

    def close(self) -> None:
        """Removes the loaded nodes from the scene."""
        for reference in self._loaded:
            if reference.alive:
                removed(reference.get())
        self._loaded = []

    def shown(self) -> tuple:
        """Loads file and result again, unless they are in the scene still."""
        if len(self._loaded) != 2 or not all(reference.alive for reference in self._loaded):
            self.close()
            volume = self._load(
                slicer.util.loadVolume, self.path, {"show": False, "singleFile": True}
            )
            result = self._load(slicer.util.loadSegmentation, self.output, {})
            result.SetReferenceImageGeometryParameterFromVolumeNode(volume)
            markResult(result)
        volume, result = (reference.get() for reference in self._loaded)
        return volume, result

    def _load(self, load, path: Path, properties: dict):
        try:
            node = load(str(path), properties)
        except (RuntimeError, OSError) as error:
            raise InputError(f"{path.name} cannot be read: is it a scan?") from error
        self._loaded.append(NodeReference(node, path.name))
        return node


def scansIn(folder: Path | str) -> list[FileScan]:
    """The image files in a folder, in order, without segmentations.

    Raises:
        InputError: If the folder cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be read ({error.strerror or error})."
        ) from error
    return [
        FileScan(Path(folder) / name)
        for name in names
        if name.lower().endswith(ENDINGS)
        and not name.lower().endswith(RESULT_ENDING)
        and not name.startswith(".")
    ]


def writeNew(segmentationNode, path: Path) -> None:
    """Writes a segmentation to a file that does not exist yet, whole or not at all.

    Raises:
        InputError: If it cannot be written, or the file exists.
    """
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(temporary))
    storage.UseCompressionOn()
    try:
        if not storage.WriteData(segmentationNode) or not endsWhole(temporary):
            raise InputError(
                f"{path.name} cannot be written: is there space, and may you write to "
                f"{path.parent}?"
            )
        if path.exists():
            raise InputError(f"{path.name} has come meanwhile, and is not replaced.")
        replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path.name} cannot be written ({error.strerror or error}).") from error
    finally:
        remove(temporary)


def endsWhole(path: Path) -> bool:
    """True if a packed NRRD file is there to its end; its writer says nothing of the last bytes."""
    try:
        with path.open("rb") as file:
            while file.readline().strip():  # the header
                pass
            with gzip.open(file) as voxels:
                while voxels.read(1 << 20):
                    pass
    except (OSError, EOFError, zlib.error):
        return False
    return True


def hidden(segmentationNode):
    """The node, not shown in the views."""
    setShown(segmentationNode, False)
    return segmentationNode


def removed(node) -> None:
    """Removes a node and what was made for it alone from its scene."""
    scene = node.GetScene()
    if scene is None:
        return
    own = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())] + [
        node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())
    ]
    for other in own:
        if other is not None and other.GetScene() is scene:
            scene.RemoveNode(other)
    scene.RemoveNode(node)
