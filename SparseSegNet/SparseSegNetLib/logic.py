"""What Slicer's Python console calls and the panel drives. Plain methods, no qt, no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from .annotation.slices import AnnotatedSlice, parse_slices
from .client.run import Run
from .node_run import NodeRun
from .nodes.annotations import annotationOf
from .nodes.volumes import volumeArray, volumeGeometry
from .run.folder import RunFolder, RunInput
from .run.options import Options


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
    if slices is not None:
        slices = parse_slices([slices]) if isinstance(slices, str) else list(slices)
    annotation = annotationOf(segmentationNode, volumes[0], slices)
    image = volumeArray(volumes)  # before any folder is made: it may refuse
    folder = RunFolder.create(
        runFolder or tempfile.mkdtemp(prefix="sparsesegnet-"),
        [RunInput(image, annotation.labels, geometry, annotation.slices,
                  [node.GetName() or "" for node in volumes])],
        annotation.segments, options, name=volumes[0].GetName() or "")
    return NodeRun(Run(folder), volumes[0], segmentationNode, geometry,
                   temporary=runFolder is None, warnings=annotation.warnings, slices=slices)
