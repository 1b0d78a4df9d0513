"""Segmentation of volumes with a trained model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..annotation.channel_order import reordered
from ..annotation.composition import UNLABELLED
from ..runfolder.compatibility import check_compatible
from ..runfolder.folder import RunFolder
from ..runfolder.model_description import ModelDescription
from ..runfolder.options import Options
from ..runfolder.run_input import RunInput
from ..steps import finished
from .run_case import RunCase
from .run_start import begin
from .scene_run import SceneRun
from .volumes import channelNames, volumeArray, volumeGeometry

UNCERTAIN = 128  # of 255: the probabilities of the two likeliest classes differ by less than half


def segment(
    model: Path | str | SceneRun,
    volumeNode,
    *,
    accept: Collection[str] = (),
    device: str = "auto",
    wait: bool = False,
    runFolder: Path | str | None = None,
) -> SceneRun:
    """Segments a volume with a trained model; nothing needs to be drawn.

        run = segment("liver.safetensors", volumeNode)
        run.wait()
        run.result          # a new segmentation node

    Args:
        model: A model file, or a run that is done, whose model is used.
        volumeNode: A scalar volume, or a list of volumes on one grid (channels).
        accept: Differences between the volume and the training set that are meant, of 'spacing',
            'intensities' and 'orientation'; others are refused.
        device: 'auto', or the device to compute on ('cuda', 'mps', 'cpu').
        wait: True returns when the run has ended, False at once.
        runFolder: Folder for inputs, result and log; a temporary folder by default.

    Returns:
        The run. Its result has the names, colours and terminology of the model.

    Raises:
        InputError: If the model or the volume cannot be used, or they do not fit.
        EngineError: If the engine cannot be started.
    """
    file = model.modelFile if isinstance(model, SceneRun) else Path(model)
    about = ModelDescription.read(file)
    volumes = list(volumeNode) if isinstance(volumeNode, (list, tuple)) else [volumeNode]
    geometry = volumeGeometry(volumes[0] if volumes else None)
    image, channels = volumeArray(volumes), channelNames(volumes)
    name = volumes[0].GetName() or "volume"
    order, notes = check_compatible(about, name, image, geometry, channels, accept)
    image, channels = reordered(image, channels, order)
    run = finished(
        begin(
            runFolder,
            [
                RunInput(
                    image,
                    np.full(geometry.shape, UNLABELLED, np.uint8),
                    geometry,
                    channels=channels,
                    name=name,
                )
            ],
            about.segments,
            Options(device=device),
            [RunCase(1, volumes[0], None, geometry)],
            notes,
            name=name,
            task="segment",
            model=file,
        )
    )
    if wait:
        run.wait()
    return run


def doubt(run: SceneRun) -> float:
    """`uncertainShare` of a run of `segment` that is done."""
    folder = RunFolder.open(run.folder)
    return uncertainShare(folder.read_result(), folder.read_uncertainty())


def uncertainShare(labels: np.ndarray, uncertainty: np.ndarray) -> float:
    """Share of uncertain voxels, by which results are ordered for review.

    It is counted among the voxels that may belong to a segment, since a large empty surrounding
    says nothing.

    Args:
        labels: uint8 (k, j, i), the result.
        uncertainty: uint8 (k, j, i), 0 certain, 255 undecided.

    Returns:
        0 to 1; 1 where nothing was found at all, which is to be looked at first.
    """
    uncertain, found = uncertainty >= UNCERTAIN, labels > 0
    if not found.any():
        return 1.0
    return float(np.count_nonzero(uncertain) / np.count_nonzero(found | uncertain))
