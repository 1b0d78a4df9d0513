"""What Slicer's Python console calls and the panel drives. Plain methods, no qt, no torch."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..annotation.slices import AnnotatedSlice, parse_slices
from ..client.engine_run import ENDING, EngineRun
from ..errors import InputError
from ..runfolder.changes import Changes
from ..runfolder.folder import RunFolder, RunInput
from ..runfolder.options import Options
from .annotations import annotationOf
from .scene_run import SceneRun
from .volumes import volumeArray, volumeGeometry


def densify(
    volumeNode,
    segmentationNode,
    timeBudget: float = 120.0,
    *,
    slices: Sequence[AnnotatedSlice] | str | None = None,
    network: str = "auto",
    device: str = "auto",
    seed: int = 0,
    maxSteps: int = 0,
    tile: Sequence[int] | None = None,
    kernel: int | None = None,
    width: int | None = None,
    batchNorm: bool = True,
    n4: bool = False,
    resample: Sequence[float] | None = None,
    largestComponent: bool = False,
    runFolder: Path | str | None = None,
) -> SceneRun:
    """Learn from the annotated slices of a volume and segment all of it. Returns at once.

        run = densify(volumeNode, segmentationNode, timeBudget=120)
        run.wait()
        run.result          # a new segmentation node; the one that was drawn stays as it is

    volumeNode: a scalar volume, or a list of volumes on one grid (channels).
    segmentationNode: drawn in a few slices, each completely: what no segment covers in an
    annotated slice is background. A segment called 'Background' marks background anywhere.
    slices: the annotated slices, such as "k:10,20 i:5" (voxel indices from 0); when left out,
    those listed with the segmentation, or else found from what was drawn.  timeBudget: seconds
    from start to result.  maxSteps: end after so many steps instead.
    network: 'auto', or a published one ('unet3d', 'fcn3d', 'vnet', 'unet2d'), as published unless
    tile (voxels along i, j, k), kernel, width (channels of its first level) or batchNorm=False
    say otherwise.  n4: correct the bias field first.  resample: mm along i, j, k to work at.
    largestComponent: of each segment keep only the largest connected piece, and the pieces of
    which something was drawn.
    runFolder: where to keep inputs, weights and log; a temporary folder otherwise.
    Raises InputError when volume, segmentation or options cannot be used.
    """
    volumes = list(volumeNode) if isinstance(volumeNode, (list, tuple)) else [volumeNode]
    options = Options(
        network,
        timeBudget,
        device,
        seed,
        maxSteps,
        None if tile is None else tuple(tile),
        kernel,
        width,
        batchNorm,
        n4,
        None if resample is None else tuple(resample),
        largest_component=largestComponent,
    )
    geometry = volumeGeometry(volumes[0] if volumes else None)
    slices = _listed(slices)
    annotation = annotationOf(segmentationNode, volumes[0], slices)
    image = volumeArray(volumes)  # before any folder is made: it may refuse
    path = runFolder or tempfile.mkdtemp(prefix="sparsesegnet-")
    try:
        folder = RunFolder.create(
            path,
            [
                RunInput(
                    image,
                    annotation.labels,
                    geometry,
                    annotation.slices,
                    [node.GetName() or "" for node in volumes],
                )
            ],
            annotation.segments,
            options,
            name=volumes[0].GetName() or "",
            named_slices=slices is not None,
        )
        run = EngineRun(folder)
    except BaseException:
        if runFolder is None:
            shutil.rmtree(path, ignore_errors=True)
        raise
    return _newest(
        SceneRun(
            run,
            volumes[0],
            segmentationNode,
            geometry,
            temporary=runFolder is None,
            warnings=annotation.warnings,
            slices=slices,
        )
    )


def resume(
    runFolder: Path | str,
    volumeNode,
    segmentationNode,
    timeBudget: float | None = None,
    moreTime: float = 0.0,
    *,
    slices: Sequence[AnnotatedSlice] | str | None = None,
) -> SceneRun:
    """Go on with a run from its last checkpoint, or teach a finished one some more.

        run = resume(run.folder, volumeNode, segmentationNode, moreTime=60)

    The annotation is taken as it is now. slices: as for `densify`; when left out, those that were
    named when the run began, if any were.  timeBudget: seconds in all; moreTime: seconds beside
    those that the run has taken already. Neither: what was left of its budget. An engine of this
    run that is ending is waited for, some seconds, without blocking the caller; where another one
    works on the folder the run fails as 'locked' and nothing there is changed. Raises InputError
    when the nodes are not those that the run began with, or the folder cannot be used.
    """
    folder = RunFolder.open(runFolder)
    geometry = volumeGeometry(volumeNode)
    if (other := folder.read_input(mapped=True).geometry.difference(geometry)) is not None:
        raise InputError(
            f"the run {folder.path} was begun with another volume than "
            f"'{volumeNode.GetName()}': {other}."
        )
    if slices is None and folder.named_slices:
        slices = folder.read_slices()
    slices = _listed(slices)
    annotation = annotationOf(segmentationNode, volumeNode, slices)
    if [s.id for s in annotation.segments] != [s.id for s in folder.segments]:
        raise InputError(
            f"the segments of '{segmentationNode.GetName()}' are others than when "
            "the run began: begin a new one."
        )
    if moreTime:
        timeBudget = secondsTaken(folder) + moreTime
    if timeBudget is not None:
        folder.options = replace(folder.options, time_budget=timeBudget, max_steps=0)
    run = EngineRun(
        folder,
        changes=Changes(folder.options, annotation.labels, annotation.slices),
        patience=ENDING,
    )
    return _newest(
        SceneRun(
            run,
            volumeNode,
            segmentationNode,
            geometry,
            temporary=False,
            warnings=annotation.warnings,
            slices=slices,
        )
    )


def _listed(slices: Sequence[AnnotatedSlice] | str | None) -> list[AnnotatedSlice] | None:
    if slices is None:
        return None
    return parse_slices([slices]) if isinstance(slices, str) else list(slices)


def secondsTaken(folder: RunFolder) -> float:
    """The seconds that a run has worked so far, as far as its reports tell."""
    return max((m.get("seconds") or 0.0 for m in folder.read_metrics()), default=0.0)


def currentRun() -> SceneRun | None:
    """The run that was begun last in this session, by the panel or from the console."""
    return None if _begun is None else _begun()


_begun: weakref.ref | None = None


def _newest(run: SceneRun) -> SceneRun:
    global _begun
    _begun = weakref.ref(run)
    return run
