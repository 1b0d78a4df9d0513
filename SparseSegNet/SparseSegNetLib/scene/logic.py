"""Functions for Slicer's Python console and the panel, without qt and torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..annotation.channel_order import reordered
from ..annotation.slices import AnnotatedSlice
from ..client.engine_run import ENDING, EngineRun
from ..errors import InputError
from ..runfolder.changes import Changes
from ..runfolder.compatibility import check_start
from ..runfolder.folder import RunFolder
from ..runfolder.options import Options
from ..runfolder.run_input import RunInput
from ..steps import Steps, finished
from .annotations import readAnnotation, slicesPerCase
from .prior_nodes import priorOf
from .run_case import RunCase
from .run_start import begin, currentRun, newest
from .scene_run import SceneRun
from .volumes import channelNames, readVolume, refuseChanged, volumeGeometry

__all__ = ["currentRun", "densify", "resume"]


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
    prior=None,
    startFrom: Path | str | None = None,
    scanNames: bool = True,
    runFolder: Path | str | None = None,
) -> SceneRun:
    """Trains on the annotated slices of a volume and segments the whole volume; returns at once.

        run = densify(volumeNode, segmentationNode, timeBudget=120)
        run.wait()
        run.result          # a new segmentation node; the annotated one stays as it is

    Args:
        volumeNode: A scalar volume, or a list of volumes on one grid (channels).
        segmentationNode: The segmentation, drawn in a few slices, each completely: voxels of an
            annotated slice that no segment covers are background. A segment called 'Background'
            marks background anywhere.
        timeBudget: Seconds from start to result.
        slices: The annotated slices, such as "k:10,20 i:5" (voxel indices from 0). By default
            those listed with the segmentation; without a list they are detected from what was
            drawn.
        network: 'auto', or a published one ('unet3d', 'fcn3d', 'vnet', 'unet2d') with its published
            settings, of which tile, kernel, width and batchNorm change some.
        device: 'auto', or the device to train on ('cuda', 'mps', 'cpu').
        seed: The random seed.
        maxSteps: Ends training after this number of steps instead of by time (0: by time).
        tile: Input size of the network, voxels along i, j, k.
        kernel: Kernel size of the convolutions, voxels.
        width: Channels of the network's first level.
        batchNorm: False leaves out batch normalisation.
        n4: Corrects the bias field first.
        resample: Spacing of the working grid, mm along i, j, k.
        largestComponent: Keeps of each segment only the largest connected component and the
            components that contain annotated voxels.
        prior: Another tool's result on the volume, which counts as far as the annotation agrees
            with it: a segmentation node or volume nodes, see `priorOf`.
        startFrom: A model file. Its prediction counts as a prior does, beside one if both are
            given.
        scanNames: Stores the names of volumes in the run folder and the model; False stores numbers
            instead, for names may be those of patients.
        runFolder: Folder for inputs, weights and log; a temporary folder by default.

    Returns:
        The run.

    Raises:
        InputError: If volume, segmentation or options cannot be used.
        EngineError: If the engine cannot be started.
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
        save_model=True,
        scan_names=scanNames,
    )
    return finished(
        densification(
            volumes,
            segmentationNode,
            options,
            slices=slices,
            prior=prior,
            startFrom=startFrom,
            runFolder=runFolder,
        )
    )


def densification(
    volumes: Sequence,
    segmentationNode,
    options: Options,
    *,
    slices: Sequence[AnnotatedSlice] | str | None = None,
    prior=None,
    startFrom: Path | str | None = None,
    runFolder: Path | str | None = None,
    known=None,
) -> Steps[SceneRun]:
    """Starts a run as `densify` does, in steps (see `steps`).

    Args:
        volumes: Scalar volumes on one grid (channels).
        segmentationNode: The segmentation.
        options: The options of the run.
        slices: As for `densify`.
        prior: As for `densify`.
        startFrom: As for `densify`.
        runFolder: As for `densify`.
        known: See `segmentations.readLayers`.
    """
    geometry = volumeGeometry(volumes[0] if volumes else None)
    (slices,) = slicesPerCase([slices], 1)
    annotation = yield from readAnnotation(segmentationNode, volumes[0], slices, known=known)
    image = yield from readVolume(volumes)  # before any folder is made: it may refuse
    refuseChanged(volumes[0], geometry)
    if segmentationNode in (prior if isinstance(prior, (list, tuple)) else [prior]):
        raise InputError(
            f"'{segmentationNode.GetName()}' is annotated, and cannot be the prior as well: choose "
            "another tool's result, or none."
        )
    found = None if prior is None else priorOf(prior, volumes[0], annotation.segments)
    name, channels, notes = volumes[0].GetName() or "", channelNames(volumes), annotation.warnings
    if startFrom is not None:
        order, said = yield partial(
            check_start, Path(startFrom), name, image, geometry, channels, annotation.segments
        )
        notes = [*notes, *said]
        image, channels = yield partial(reordered, image, channels, order)
    case = RunCase(
        1, volumes[0], segmentationNode, geometry, [s.id for s in annotation.segments], slices
    )
    run = yield from begin(
        runFolder,
        [
            RunInput(
                image,
                annotation.labels,
                geometry,
                annotation.slices,
                channels,
                name=name,
                prior=None if found is None else found.probabilities,
                prior_classes=() if found is None else found.classes,
                prior_known=None if found is None else found.known,
            )
        ],
        annotation.segments,
        options,
        [case],
        notes if found is None else [*notes, *found.notes],
        name=name,
        model=startFrom,
        named_slices=slices is not None,
    )
    return newest(run)


def resume(
    runFolder: Path | str,
    volumeNode,
    segmentationNode,
    timeBudget: float | None = None,
    moreTime: float = 0.0,
    *,
    slices: Sequence[AnnotatedSlice] | str | None = None,
) -> SceneRun:
    """Resumes a run from its last checkpoint, or continues the training of a finished one.

        run = resume(run.folder, volumeNode, segmentationNode, moreTime=60)

    The run uses the annotation as it is now. If an engine of this run is just ending, the new one
    waits for it, some seconds, without blocking the caller. If another engine works on the folder,
    the run fails as 'locked' and nothing there is changed.

    Args:
        runFolder: The run's folder.
        volumeNode: The (first) volume that the run began with.
        segmentationNode: The segmentation that the run began with.
        timeBudget: Seconds in all. Without timeBudget and moreTime the run takes what was left of
            its budget.
        moreTime: Seconds in addition to those that the run has taken already.
        slices: The annotated slices as for `densify`; by default those that were named when the
            run began, if any were.

    Returns:
        The run.

    Raises:
        InputError: If the nodes are not those that the run began with, or the folder cannot be
            used.
        EngineError: If the engine cannot be started.
    """
    return finished(
        resumption(runFolder, volumeNode, segmentationNode, timeBudget, moreTime, slices=slices)
    )


def resumption(
    runFolder: Path | str,
    volumeNode,
    segmentationNode,
    timeBudget: float | None = None,
    moreTime: float = 0.0,
    *,
    slices: Sequence[AnnotatedSlice] | str | None = None,
    known=None,
) -> Steps[SceneRun]:
    """Resumes a run as `resume` does, in steps (see `steps`).

    Args:
        runFolder: As for `resume`.
        volumeNode: As for `resume`.
        segmentationNode: As for `resume`.
        timeBudget: As for `resume`.
        moreTime: As for `resume`.
        slices: As for `resume`.
        known: See `segmentations.readLayers`.
    """
    folder = RunFolder.open(runFolder)
    if folder.task != "densify":
        raise InputError(
            f"the run {folder.path} is no densification of one volume: train again, or resume it "
            f"with 'sparsesegnet resume \"{folder.path}\"'."
        )
    geometry = volumeGeometry(volumeNode)
    stored = yield partial(folder.read_input, mapped=True)
    if (other := stored.geometry.difference(geometry)) is not None:
        raise InputError(
            f"the run {folder.path} was begun with another volume than "
            f"'{volumeNode.GetName()}': {other}."
        )
    if slices is None and folder.named_slices:
        slices = folder.read_slices()
    (slices,) = slicesPerCase([slices], 1)
    annotation = yield from readAnnotation(segmentationNode, volumeNode, slices, known=known)
    if [s.id for s in annotation.segments] != [s.id for s in folder.segments]:
        raise InputError(
            f"the segments of '{segmentationNode.GetName()}' have changed since "
            "the run began: begin a new one."
        )
    if moreTime:
        timeBudget = secondsTaken(folder) + moreTime
    if timeBudget is not None:
        folder.options = replace(folder.options, time_budget=timeBudget, max_steps=0)
    changes = yield Changes(folder.options, annotation.labels, annotation.slices).handed
    run = EngineRun(folder, changes=changes, patience=ENDING)
    ids = [s.id for s in annotation.segments]
    case = RunCase(1, volumeNode, segmentationNode, geometry, ids, slices)
    return newest(SceneRun(run, [case], temporary=False, warnings=annotation.warnings))


def secondsTaken(folder: RunFolder) -> float:
    """The seconds that a run has taken so far, by its last recorded metrics."""
    return max((m.get("seconds") or 0.0 for m in folder.read_metrics()), default=0.0)
