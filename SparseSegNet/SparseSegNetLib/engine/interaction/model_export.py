"""Models that can be used again, made at the end of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import torch

from ...annotation.composition import UNLABELLED
from ...annotation.orientation import orientation_of
from ...annotation.turned_content import ContentOrientation
from ...runfolder.folder import RunFolder
from ...runfolder.model_description import ModelDescription, Score, TrainingCase
from ..data.inputs import Inputs
from ..data.intensity_standard import IntensityStandard, intensity_ranges
from ..data.preprocessing import labels_on, working_volume
from ..prediction.model import Model
from ..stacking.image_classifier import (
    fit_image_classifiers,
    labelled_rows,
)
from ..training.trainer import Trainer
from ..training.volume_set import CERTAIN

# The uncertainty at which the likeliest of two classes has the probability CERTAIN.
UNSURE = 255 * (2 - 2 * CERTAIN)
FITTING = 3.0  # seconds for the shallow model of one volume, about
ONE_VOLUME = (
    "not measured on other volumes: the model was trained on one volume alone, so try it on a "
    "second one whose result you can judge"
)


def describe_model(
    folder: RunFolder,
    inputs: Inputs,
    modality: str,
    spacing: Sequence[float],
    scores: list[dict] | None,
    scored: str,
    seconds: float,
    steps: int,
) -> ModelDescription:
    """The description of the model of a run.

    Args:
        folder: The run folder.
        inputs: The run's volumes.
        modality: 'ct' or 'other'.
        spacing: Of the working grid, mm along k, j, i.
        scores: IoU and Dice per segment on volumes that the model had not seen.
        scored: How these were measured.
        seconds: Of the training.
        steps: Of the network.
    """
    names = folder.names
    items = [inputs.items[number] for number in inputs.trained]
    first = items[0]
    k, j, i = spacing
    return ModelDescription(
        folder.description["name"],
        datetime.now(UTC).isoformat(timespec="seconds"),
        folder.segments,
        [name or f"channel {n}" for n, name in enumerate(first.channels, start=1)]
        or [f"channel {n}" for n in range(1, len(first.image) + 1)],
        modality,
        intensity_ranges([item.image for item in items]),
        (float(i), float(j), float(k)),
        orientation_of(first.geometry),
        [
            TrainingCase(
                item.name,
                item.geometry.size,
                item.geometry.spacing,
                len(item.slices),
                int((item.labels != UNLABELLED).sum()),
                tuple(names if item.classes is None else (names[n - 1] for n in item.classes)),
            )
            for item in items
        ],
        None
        if scores is None
        else [Score(row["iou"], row["dice"], row["voxels"]) for row in scores],
        scored,
        round(seconds, 1),
        steps,
        folder.options.seed,
        folder.description["versions"],
        ContentOrientation.measure([item.image[0] for item in items]),
    )


def model_of_one_volume(
    trainer: Trainer,
    inputs: Inputs,
    folder: RunFolder,
    seconds: float,
    check: Callable[[], None],
) -> Model:
    """The model of a run on one volume.

    A network that corrects the priors of annotated slices is of no use where there are none. There
    a shallow model takes its place that is fitted on the result, where that is sure; published
    networks are used as they are.

    Args:
        trainer: Of the run.
        inputs: The run's volumes.
        folder: The run folder, with the result.
        seconds: That the run has taken.
        check: Called now and then; it may raise to stop.
    """
    number, plan = inputs.trained[0], trainer.plan
    item = inputs.items[number]
    intensities = IntensityStandard.measure([item.image], folder.options.modality)
    shallow = network = None
    if plan.priors:
        normalisation = intensities.normalisation_of(item.image)
        volume = working_volume(item, plan.shape, normalisation, trainer.device)
        labels = folder.read_result(number + 1)
        labels[folder.read_uncertainty(number + 1) > UNSURE] = UNLABELLED
        learnt = torch.from_numpy(labels_on(labels, volume.shape)).to(trainer.device)
        shallow, _, _ = fit_image_classifiers(
            [labelled_rows(volume, learnt, folder.options.seed, check)],
            trainer.classes,
            [()],
            len(item.image),
            folder.options.seed,
            plan.dtype,
            None if folder.options.max_steps else FITTING,
            check,
        )
    else:
        network = trainer.average
    description = describe_model(
        folder,
        inputs,
        intensities.modality,
        plan.spacing,
        None,
        ONE_VOLUME,
        seconds,
        trainer.steps,
    )
    planes = tuple(sorted({s.axis for s in item.slices})) if plan.planar else ()
    return Model(
        description,
        intensities,
        folder.options.n4,
        plan if network is not None else None,
        network,
        shallow,
        1.0 if shallow is None else 0.0,
        planes,
    )
