"""Results of a training: predictions, with every drawn voxel as it was drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ...annotation.composition import UNLABELLED, keep_drawn, restrict_to_slices
from ...annotation.slices import AnnotatedSlice
from ...runfolder.folder import RunFolder
from ...runfolder.prior_outputs import NO_FOLD, FoldPriors
from ..data.preprocessing import WorkingVolume, coarse_index
from ..prediction.connected_components import keep_main_components
from ..prediction.disagreements import disagreements
from ..prediction.inference import finish
from ..stacking.prior_inputs import prior_channels
from ..stacking.stack import Stack
from ..training.trainer import Trainer

Prediction = tuple[np.ndarray, np.ndarray, torch.Tensor | None]


def predict(
    trainer: Trainer,
    volume: WorkingVolume,
    slices: list[AnnotatedSlice] | None,
    step: Callable[[float], None],
    exponent: Callable[[torch.Tensor], torch.Tensor | None] = lambda probabilities: None,
) -> Prediction:
    """Predicts a volume on its original grid.

    Args:
        trainer: Its averaged weights predict.
        volume: The working volume.
        slices: The slices that are wanted, None for all.
        step: Called with the share done; it may raise to stop.
        exponent: Gives exponents (k, j, i) that calibrate class probabilities on the working grid,
            or None.

    Returns:
        Labels and uncertainty, uint8 (k, j, i), and the class probabilities on the working grid.
        Outside the wanted slices labels are 255; for slices the uncertainty is 0, and there are no
        probabilities.
    """
    if slices is None or volume.shape != volume.full_shape:
        found = trainer.probabilities(volume, step)
        power = exponent(found)
        labels, uncertainty = (t.numpy() for t in finish(found, volume.full_shape, power))
        if slices is None:
            return labels, uncertainty, found
        return restrict_to_slices(labels, slices), uncertainty, None
    labels = np.full(volume.shape, UNLABELLED, np.uint8)
    for n, item in enumerate(slices):
        step(n / len(slices))
        found = trainer.slice_probabilities(volume, item).argmax(dim=0)
        labels[item.selector()] = found.numpy()
    return labels, np.zeros(volume.shape, np.uint8), None


def write_result(
    folder: RunFolder, number: int, labels: np.ndarray, uncertainty: np.ndarray, whole: bool
) -> None:
    """Writes the result of a volume: labels, uncertainty, and where the model disagrees.

    Args:
        folder: The run folder, whose labels are the annotation as it was drawn last.
        number: Of the input, from 0.
        labels: Predicted, uint8 (k, j, i); changed in place.
        uncertainty: uint8 (k, j, i); changed in place.
        whole: Whether the whole volume was predicted, and not some slices alone.
    """
    drawn = folder.read_labels(number + 1)
    uncertainty[drawn != UNLABELLED] = 0
    folder.write_disagreements(number + 1, disagreements(labels, drawn))
    labels = final_labels(labels, drawn, whole and folder.options.largest_component)
    folder.write_result(number + 1, labels, uncertainty)


def final_labels(labels: np.ndarray, drawn: np.ndarray, largest_component: bool) -> np.ndarray:
    """Puts the annotation into predicted labels, in place.

    Args:
        labels: uint8 (k, j, i).
        drawn: Annotation, uint8 (k, j, i), 255 = unlabelled.
        largest_component: Whether to remove components that touch neither the largest one nor an
            annotation.
    """
    keep_drawn(labels, drawn)
    if largest_component:
        keep_main_components(labels, drawn)
    return labels


def final_probabilities(
    found: torch.Tensor, labels: np.ndarray, largest_component: bool
) -> np.ndarray:
    """Class probabilities without the components that were removed from the labels.

    Args:
        found: Class probabilities (classes, k, j, i) on the working grid.
        labels: The final ones on the original grid, uint8 (k, j, i).
        largest_component: Whether components were removed.

    Returns:
        float32 (classes, k, j, i) on the working grid.
    """
    values = found.cpu().numpy()
    if largest_component:
        shape = values.shape[1:]
        places = (
            coarse_index(np.arange(n), n, m) for n, m in zip(shape, labels.shape, strict=True)
        )
        removed = (labels[np.ix_(*places)] == 0) & (values.argmax(axis=0) > 0)
        values[:, removed] = 0
        values[0, removed] = 1
    return values


def fold_priors(stack: Stack, classes: int) -> FoldPriors:
    """The ensembles of a stack that were made without each fold's labels."""
    fold_of = np.full(stack.target.shape, NO_FOLD, np.uint8)
    for number, fold in enumerate(stack.folds):
        fold_of[(fold.labels != UNLABELLED).cpu().numpy()] = number
    priors = [fold.image[-prior_channels(classes) :].half().cpu() for fold in stack.folds]
    return FoldPriors(torch.stack(priors).numpy(), fold_of, stack.prior_only)


def labels_with_annotation(
    probabilities: torch.Tensor, volume: WorkingVolume, drawn: np.ndarray
) -> np.ndarray:
    """Labels uint8 (k, j, i) on the original grid, with every drawn voxel as it was drawn."""
    labels, _ = finish(probabilities.cpu(), volume.full_shape)
    return keep_drawn(labels.numpy(), drawn)
