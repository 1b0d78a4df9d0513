"""What a training leaves: predictions and the model file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ...annotation.composition import UNLABELLED, keep_drawn, restrict_to_slices
from ...annotation.slices import AnnotatedSlice
from ...runfolder.folder import RunFolder
from ..data.inputs import Inputs
from ..data.preprocessing import WorkingVolume
from ..prediction.connected_components import keep_main_components
from ..prediction.inference import finish
from ..prediction.model_file import save_model
from ..training.trainer import Trainer


def predict(
    trainer: Trainer,
    volume: WorkingVolume,
    slices: list[AnnotatedSlice] | None,
    step: Callable[[float], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and uncertainty, uint8 (k, j, i), on the volume's original grid.

    slices: those that are wanted, None for all; outside them labels are 255, and of slices
    alone the uncertainty is not told.
    """
    if slices is None or volume.shape != volume.full_shape:
        found = trainer.probabilities(volume, step)
        labels, uncertainty = (t.numpy() for t in finish(found, volume.full_shape))
        if slices is not None:
            labels = restrict_to_slices(labels, slices)
        return labels, uncertainty
    labels = np.full(volume.shape, UNLABELLED, np.uint8)
    for n, item in enumerate(slices):
        step(n / len(slices))
        found = trainer.slice_probabilities(volume, item).argmax(dim=0)
        labels[item.selector()] = found.numpy()
    return labels, np.zeros(volume.shape, np.uint8)


def final_labels(labels: np.ndarray, drawn: np.ndarray, largest_component: bool) -> np.ndarray:
    """Predicted labels as they are given out, uint8 (k, j, i), in place: drawn voxels as they were
    drawn, and on request no loose pieces."""
    keep_drawn(labels, drawn)
    if largest_component:
        keep_main_components(labels, drawn)
    return labels


def labels_with_annotation(
    probabilities: torch.Tensor, volume: WorkingVolume, drawn: np.ndarray
) -> np.ndarray:
    """Labels uint8 (k, j, i) on the volume's original grid, drawn voxels as they were drawn."""
    labels, _ = finish(probabilities.cpu(), volume.full_shape)
    return keep_drawn(labels.numpy(), drawn)


def save_trained_model(trainer: Trainer, inputs: Inputs, folder: RunFolder) -> None:
    """Write the averaged weights with all that is needed to use them again."""
    first = inputs.items[0]
    save_model(
        folder.model_path,
        trainer.average,
        {
            "network": folder.options.network,
            "plan": trainer.plan.to_json(),
            "inputs": first.image.shape[0],
            "channels": first.channels,
            "normalisation": [
                {k: list(v) for k, v in vars(inputs.normalisations[n]).items()}
                for n in inputs.trained
            ],
            "segments": [s.to_json() for s in folder.segments],
            "provenance": {
                "run": folder.description["name"],
                "created": folder.description["created"],
                "steps": trainer.steps,
                "seed": folder.options.seed,
                "versions": folder.description["versions"],
            },
        },
    )
