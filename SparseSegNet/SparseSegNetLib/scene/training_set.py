"""Training on several annotated volumes at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..annotation.channel_order import channel_order, reordered
from ..annotation.composition import UNLABELLED, check_trainable
from ..annotation.geometry import Geometry
from ..annotation.merging import merge_segments, renumbered
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice
from ..errors import InputError
from ..runfolder.options import Options
from ..runfolder.run_input import RunInput
from ..steps import Steps, finished
from .annotations import readAnnotation, slicesPerCase
from .run_case import RunCase
from .run_start import begin, newest
from .scene_run import SceneRun
from .segmentations import KnownLayers
from .volumes import channelNames, readVolume, refuseChanged, volumeGeometry


def train(
    pairs: Sequence[tuple],
    timeBudget: float = 120.0,
    *,
    slices: Sequence[Sequence[AnnotatedSlice] | str | None] | None = None,
    names: Sequence[str] | None = None,
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
    modality: str = "auto",
    matchHistograms: bool = False,
    scanNames: bool = True,
    runFolder: Path | str | None = None,
    wait: bool = False,
) -> SceneRun:
    """Trains one model on several annotated volumes and segments all of them.

        run = train([(volume1, drawn1), (volume2, drawn2)], timeBudget=300)
        run.wait()
        run.results                          # a new segmentation node for each volume
        run.saveModel("liver.safetensors")   # for `segment`

    Segments of the same name (or else the same terminology) are one class. A segment that a
    segmentation does not have is unknown there, not background.

    Args:
        pairs: A volume, or a list of volumes on one grid (channels), and its segmentation, drawn in
            a few slices. Without anything drawn, or with None, it is an unlabelled scan: it is
            segmented, too.
        timeBudget: Seconds from start to result.
        slices: For each pair its annotated slices as for `densify`, or None.
        names: A name for each pair; by default that of its volume.
        network: As for `densify`.
        device: As for `densify`.
        seed: As for `densify`.
        maxSteps: As for `densify`.
        tile: As for `densify`.
        kernel: As for `densify`.
        width: As for `densify`.
        batchNorm: As for `densify`.
        n4: As for `densify`.
        resample: As for `densify`.
        largestComponent: As for `densify`.
        modality: 'ct' for Hounsfield units, 'other' where each volume has its own scale of
            intensities, 'auto' to tell by the values.
        matchHistograms: Matches the histogram of each volume to that of the training set.
        scanNames: As for `densify`.
        runFolder: As for `densify`.
        wait: True returns when the run has ended, False at once.

    Returns:
        The run.

    Raises:
        InputError: If volumes, segmentations or options cannot be used.
        EngineError: If the engine cannot be started.
    """
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
        modality=modality,
        match_histograms=matchHistograms,
        scan_names=scanNames,
    )
    run = finished(training(pairs, options, slices=slices, names=names, runFolder=runFolder))
    if wait:
        run.wait()
    return run


def training(
    pairs: Sequence[tuple],
    options: Options,
    *,
    slices: Sequence[Sequence[AnnotatedSlice] | str | None] | None = None,
    names: Sequence[str] | None = None,
    runFolder: Path | str | None = None,
    known: KnownLayers = None,
) -> Steps[SceneRun]:
    """Starts a run as `train` does, in steps (see `steps`).

    Args:
        pairs: As for `train`.
        options: The options of the run.
        slices: As for `train`.
        names: As for `train`.
        runFolder: As for `train`.
        known: See `segmentations.readLayers`.
    """
    found = yield from _cases(pairs, slices, names, known)
    merged = merge_segments([(case.name, case.segments) for case in found])

    def joined() -> None:
        for number, case in enumerate(found):
            case.labels = renumbered(case.labels, merged.numbers[number])
        check_trainable(
            np.concatenate([np.unique(case.labels) for case in found]),
            [segment.name for segment in merged.segments],
        )

    yield joined
    warnings = _orderChannels(found) + [text for case in found for text in case.warnings]
    first = found[0]
    for case in found:
        refuseChanged(case.volumeNode, case.geometry)
    run = yield from begin(
        runFolder,
        [
            RunInput(
                case.image,
                case.labels,
                case.geometry,
                case.slices,
                case.channels,
                name=case.name,
                classes=merged.classes(number) if case.segments else None,
            )
            for number, case in enumerate(found)
        ],
        merged.segments,
        options,
        [
            RunCase(
                number,
                case.volumeNode,
                case.segmentationNode,
                case.geometry,
                [segment.id for segment in case.segments],
                case.named,
                merged.numbers[number - 1],
            )
            for number, case in enumerate(found, start=1)
        ],
        warnings,
        name=f"{first.name} and {len(found) - 1} more" if len(found) > 1 else first.name,
        named_slices=slices is not None,
        task="train",
    )
    return newest(run)


@dataclass
class _Case:
    """One pair: its nodes, and what is read of them.

    Attributes:
        segments: The segments of an annotated volume; empty for an unlabelled scan.
        named: The annotated slices that were named, None if none were.
    """

    name: str
    volumeNode: object
    segmentationNode: object
    geometry: Geometry
    image: np.ndarray
    channels: list[str]
    labels: np.ndarray
    slices: list[AnnotatedSlice]
    segments: list[Segment]
    named: list[AnnotatedSlice] | None
    warnings: list[str]


def _cases(
    pairs: Sequence[tuple], slices, names: Sequence[str] | None, known: KnownLayers
) -> Steps[list[_Case]]:
    pairs = list(pairs)
    if not pairs:
        raise InputError("there is nothing to train on: give pairs of a volume and a segmentation.")
    if names is not None and len(names) != len(pairs):
        raise InputError(f"{len(names)} names are given for {len(pairs)} volumes: give one each.")
    given = slicesPerCase(slices, len(pairs))
    found: list[_Case] = []
    for number, pair in enumerate(pairs):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise InputError(f"pair {number + 1} is none: give (volume, segmentation).")
        volumes = list(pair[0]) if isinstance(pair[0], (list, tuple)) else [pair[0]]
        name = names[number] if names else ""
        case = yield from _read(volumes, pair[1], given[number], name, known)
        if any(case.volumeNode is other.volumeNode for other in found):
            raise InputError(
                f"the volume '{case.volumeNode.GetName()}' is listed twice: leave one out."
            )
        found.append(case)
    if not any(case.segments for case in found):
        raise InputError("no volume is annotated: annotate some slices in at least one of them.")
    return found


def _read(volumes: list, segmentationNode, named, name: str, known: KnownLayers) -> Steps[_Case]:
    geometry = volumeGeometry(volumes[0] if volumes else None)
    volume = volumes[0]
    name = name or volume.GetName() or "volume"
    image = yield from readVolume(volumes)
    labels, slices, segments, warnings = None, [], [], []
    if segmentationNode is not None and not _empty(segmentationNode):
        annotation = yield from readAnnotation(segmentationNode, volume, named, False, known)
        labels, slices = annotation.labels, annotation.slices
        segments, warnings = annotation.segments, [f"{name}: {w}" for w in annotation.warnings]
    if labels is None or (labels == UNLABELLED).all():
        labels, slices, segments = np.full(geometry.shape, UNLABELLED, np.uint8), [], []
        warnings = [*warnings, f"{name}: nothing is annotated, so that it is only segmented."]
    return _Case(
        name,
        volume,
        segmentationNode,
        geometry,
        image,
        channelNames(volumes),
        labels,
        slices,
        segments,
        named,
        warnings,
    )


def _empty(segmentationNode) -> bool:
    """True for a segmentation without segments."""
    return (
        segmentationNode.IsA("vtkMRMLSegmentationNode")
        and segmentationNode.GetSegmentation().GetNumberOfSegments() == 0
    )


def _orderChannels(cases: list[_Case]) -> list[str]:
    """Puts the channels of all volumes into the order of the first; returns what was done."""
    first, notes = cases[0], []
    for case in cases[1:]:
        if len(case.image) != len(first.image):
            raise InputError(
                f"{case.name} has {len(case.image)} channels and {first.name} "
                f"{len(first.image)} ({', '.join(first.channels)}): give every volume the same."
            )
        order = channel_order(first.channels, case.channels)
        if order is not None and order != sorted(order):
            case.image, case.channels = reordered(case.image, case.channels, order)
            notes.append(
                f"{case.name}: the channels are taken by their names: {', '.join(case.channels)}."
            )
    return notes
