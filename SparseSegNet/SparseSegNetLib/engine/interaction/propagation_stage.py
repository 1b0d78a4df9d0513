"""The stage before a network for new volumes: labels propagated in each annotated volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ...runfolder.phases import Phase
from ..compute.metrics import overlap
from ..data.inputs import Inputs
from ..data.preprocessing import WorkingVolume
from ..plan import Plan
from ..planning.volumes_planner import PROPAGATION_SHARE
from ..stacking.ensemble import split_background
from ..stacking.image_classifier import (
    ImageClassifier,
    LabelledRows,
    fit_image_classifiers,
    labelled_rows,
)
from ..stacking.prior_inputs import prior_of
from ..training.volume_set import Propagated, UnseenVoxels, propagated_labels, split_of
from .clock import Clock
from .ensemble_stage import EnsembleStage

FITTING_SHARE = 0.15  # of the time left, for the shallow models of all volumes


@dataclass
class PropagatedSet:
    """Propagated labels of the annotated volumes of a run, and the shallow model of all of them.

    Attributes:
        propagated: Per volume.
        shallow: The shallow model of all volumes.
        scores: IoU and Dice per segment on drawn voxels of volumes that the model had not seen;
            None where nothing could be scored.
    """

    propagated: list[Propagated]
    shallow: ImageClassifier
    scores: list[dict] | None


def propagate(
    inputs: Inputs,
    volumes: list[WorkingVolume],
    plan: Plan,
    ensemble: EnsembleStage,
    clock: Clock,
    seed: int,
    by_steps: bool,
    check: Callable[[str, float], None],
) -> PropagatedSet:
    """Makes priors and shallow models of each volume, and shallow models of all of them.

    Args:
        inputs: The run's volumes.
        volumes: The annotated ones on their working grids.
        plan: With priors; gives number format and grid.
        ensemble: Makes the priors of one volume.
        clock: The run's time.
        seed: Random seed.
        by_steps: Whether the time does not count.
        check: Called with the phase and the share done; it may raise to cancel.
    """
    classes, count = ensemble.classes, len(volumes)
    end = clock.seconds + PROPAGATION_SHARE * clock.left
    ensembles, rows = [], []
    for done, (number, volume) in enumerate(zip(inputs.trained, volumes, strict=True)):
        left = None if by_steps else max(0.0, end - clock.seconds) / (count - done)
        stack = ensemble.make(plan, volume, left, number, done / count)
        assert stack is not None
        ensembles.append(prior_of(stack.target, classes))
        learnt = propagated_labels(ensembles[-1], volume.labels)
        here = (done + 1) / count
        rows.append(
            labelled_rows(
                volume, learnt, seed, lambda here=here: check(Phase.COMPARING_SLICES, here)
            )
        )
    seconds = None if by_steps else FITTING_SHARE * clock.left
    if ensemble.commands.stop.is_set():
        seconds = 0.0
    shallow, others, fold_of = fit_image_classifiers(
        rows,
        classes,
        [volume.unknown for volume in volumes],
        volumes[0].image.shape[0],
        seed,
        plan.dtype,
        seconds,
        lambda: check(Phase.COMPARING_SLICES, 1.0),
    )
    propagated = []
    for place, volume in enumerate(volumes):
        whole = ensembles[place].cpu()
        if volume.unknown:
            model = others[fold_of[place]] if others else shallow
            by = model.probabilities(volume, lambda share: check(Phase.COMPARING_SLICES, 1.0))
            unknown = torch.tensor([n in volume.unknown for n in range(1, classes)])
            whole = split_background(whole, by, unknown.view(-1, 1, 1, 1))
        unseen = None
        if others:
            unseen = unseen_voxels(others[fold_of[place]], volume, rows[place])
        propagated.append(Propagated(whole.half(), unseen))
    return PropagatedSet(propagated, shallow, _scores(volumes, propagated, classes))


def unseen_voxels(
    model: ImageClassifier, volume: WorkingVolume, rows: LabelledRows
) -> UnseenVoxels | None:
    """Predicts drawn voxels of a volume by a model that was fitted without it.

    Args:
        model: The shallow model.
        volume: The working volume with the drawn labels.
        rows: Of the volume.

    Returns:
        Those that tell how good the model is; None if none do.
    """
    split = split_of(volume)
    if split is None or split.scorable is None:
        return None
    scorable = torch.from_numpy(split.scorable.ravel())[rows.places]
    chosen = rows.drawn & scorable
    if not bool(chosen.any()):
        return None
    found = model.model.probabilities(rows.features[chosen.to(rows.features.device)].T)
    return UnseenVoxels(rows.places[chosen], found.cpu())


def _scores(
    volumes: list[WorkingVolume], propagated: list[Propagated], classes: int
) -> list[dict] | None:
    """Scores of the models that had not seen a volume, pooled over the drawn voxels of all."""
    found, truth = [], []
    for volume, own in zip(volumes, propagated, strict=True):
        if own.unseen is None:
            continue
        best = own.unseen.probabilities.argmax(dim=0).numpy()
        if volume.unknown:  # what the annotation calls background may be one of these
            best = np.where(np.isin(best, volume.unknown), 0, best)
        found.append(best)
        truth.append(volume.labels.flatten().cpu()[own.unseen.places].numpy())
    if not truth:
        return None
    return overlap(np.concatenate(found), np.concatenate(truth), classes - 1)
