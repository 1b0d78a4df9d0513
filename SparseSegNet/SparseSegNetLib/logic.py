"""What Slicer's Python console calls and the panel drives. Plain methods, no qt, no torch."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from .annotation.composition import check_trainable, compose_labels
from .annotation.cover import cover_slices
from .annotation.geometry import Geometry
from .annotation.slices import AnnotatedSlice, parse_slices
from .client.run import Run
from .errors import InputError
from .nodes.held import HeldNode
from .nodes.results import createResultNode
from .nodes.segmentations import drawnSegments
from .nodes.volumes import volumeArray, volumeGeometry
from .run.folder import RunFolder, RunInput
from .run.options import Options

# Runs that go on although nobody holds them: in the console the result of a call is easily not
# assigned, and a run that is collected takes its engine with it.
_active: set[NodeRun] = set()


def densify(volumeNode, segmentationNode, timeBudget: float = 120.0, *,
            slices: Sequence[AnnotatedSlice] | str | None = None, network: str = "auto",
            device: str = "auto", seed: int = 0, maxSteps: int = 0,
            tile: Sequence[int] | None = None, kernel: int | None = None,
            width: int | None = None, batchNorm: bool = True, n4: bool = False,
            resample: Sequence[float] | None = None,
            runFolder: Path | str | None = None) -> NodeRun:
    """Learn from the annotated slices of a volume and segment all of it. Returns at once.

        run = densify(volumeNode, segmentationNode, timeBudget=120)
        run.wait()
        run.result          # a new segmentation node; the one that was drawn stays as it is

    volumeNode: a scalar volume, or a list of volumes on one grid (channels).
    segmentationNode: drawn in a few slices, each completely: what no segment covers in an
    annotated slice is background. A segment called 'Background' marks background anywhere.
    slices: the annotated slices, such as "k:10,20 i:5" (voxel indices from 0); found from what
    was drawn when left out.  timeBudget: seconds from start to result.  maxSteps: end after so
    many steps instead.
    network: 'auto', or a published one ('unet3d', 'fcn3d', 'vnet', 'unet2d'), as published unless
    tile (voxels along i, j, k), kernel, width (channels of its first level) or batchNorm=False
    say otherwise.  n4: correct the bias field first.  resample: mm along i, j, k to work at.
    runFolder: where to keep inputs, weights and log; a temporary folder otherwise.
    Raises InputError when volume, segmentation or options cannot be used.
    """
    volumes = list(volumeNode) if isinstance(volumeNode, (list, tuple)) else [volumeNode]
    options = Options(network, timeBudget, device, seed, maxSteps,
                      None if tile is None else tuple(tile), kernel, width, batchNorm, n4,
                      None if resample is None else tuple(resample))
    geometry = volumeGeometry(volumes[0] if volumes else None)
    drawn = drawnSegments(segmentationNode, volumes[0])
    if slices is None:
        chosen = cover_slices(drawn.labelmap > 0)
    else:
        chosen = parse_slices([slices]) if isinstance(slices, str) else list(slices)
    labels = compose_labels(drawn.labelmap, chosen, drawn.background)
    check_trainable(labels, [s.name for s in drawn.segments])
    image = volumeArray(volumes)  # before any folder is made: it may refuse
    folder = RunFolder.create(
        runFolder or tempfile.mkdtemp(prefix="sparsesegnet-"),
        [RunInput(image, labels, geometry, chosen,
                  [node.GetName() for node in volumes])],
        drawn.segments, options, name=volumes[0].GetName())
    return NodeRun(Run(folder), volumes[0], segmentationNode, geometry,
                   temporary=runFolder is None)


class NodeRun:
    """A run that began in the scene and ends there.

    Nodes are held weakly: they may be gone, or changed, when the result comes.
    """

    def __init__(self, run: Run, volumeNode, segmentationNode, geometry: Geometry,
                 temporary: bool):
        self._run = run
        self._volume = HeldNode(volumeNode, "volume")
        self._segmentation = HeldNode(segmentationNode, "segmentation")
        self._geometry = geometry
        self._name = segmentationNode.GetName()
        self._result: HeldNode | None = None
        self._discard = weakref.finalize(self, shutil.rmtree, str(run.folder.path), True) \
            if temporary else None
        _active.add(self)

    @property
    def state(self) -> str:
        """preparing, training, finishing, done, failed or cancelled."""
        return self._run.state

    @property
    def progress(self) -> dict:
        """The newest progress: step, loss, seconds, remaining (seconds), fraction, phase."""
        return self._run.progress

    @property
    def metrics(self) -> list[dict]:
        """Scores on held-out slices so far."""
        return self._run.metrics

    @property
    def error(self):
        """EngineError when the run failed, else None."""
        return self._run.error

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._run.folder.path

    def observe(self, observer) -> None:
        """Have `observer(event)` called with each event from within `poll` and `wait`."""
        self._run.observe(observer)

    def poll(self) -> str:
        """Take in what the engine has said, without waiting. Returns the state."""
        return self._settled(self._run.poll())

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the end, at most `timeout` seconds. Returns the state."""
        return self._settled(self._run.wait(timeout))

    def stop(self) -> None:
        """End training now and keep the best result so far."""
        self._run.stop()

    def cancel(self) -> None:
        """Give up; nothing in the scene changes."""
        self._run.cancel()
        self._settled(self.state)

    def saveModel(self, path: Path | str) -> Path:
        """Copy the trained model (.safetensors) to `path`."""
        if self.state != "done":
            raise InputError(f"there is no trained model: the run is {self.state}.")
        return Path(shutil.copyfile(self._run.folder.model_path, path))

    @property
    def result(self):
        """The dense segmentation as a node of its own, made when first asked for.

        Raises the run's error when it failed; InputError when it is not done, or when the
        volume or the segmentation has gone from the scene.
        """
        kept = f"The result is kept in {self.folder} as long as this run object lives."
        if self._result is not None:
            return self._result.get(kept)
        labels = self._run.result()
        volume, source = self._volume.get(kept), self._segmentation.get(kept)
        if (difference := self._geometry.difference(volumeGeometry(volume))) is not None:
            raise InputError(f"the volume '{volume.GetName()}' was changed while it was learnt: "
                             f"{difference} (then against now). {kept}")
        ids = [s.id for s in self._run.folder.segments]
        missing = [s.name for s in self._run.folder.segments
                   if source.GetSegmentation().GetSegment(s.id) is None]
        if missing:
            raise InputError(f"the segment '{missing[0]}' was removed from '{source.GetName()}' "
                             f"while it was learnt. The result is kept in {self.folder}.")
        node = createResultNode(labels, ids, source, volume, f"{self._name} dense")
        self._result = HeldNode(node, "result")
        return node

    def _settled(self, state: str) -> str:
        if self._run.ended:
            _active.discard(self)
        return state
