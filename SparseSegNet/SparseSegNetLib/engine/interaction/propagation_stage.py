"""The stage before a network for new volumes: labels propagated in each annotated volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...annotation.composition import UNLABELLED
from ..compute.metrics import overlap
from ..data.inputs import Inputs
from ..data.preprocessing import WorkingVolume
from ..plan import Plan
from ..planning.volumes_planner import PROPAGATION_SHARE
from ..stacking.ensemble import split_background
from ..stacking.image_classifier import (
    ImageClassifier,
    fit_image_classifiers,
    labelled_rows,
)
from ..stacking.prior_inputs import prior_of
from ..training.volume_set import Propagated, propagated_labels, split_of
from .clock import Clock
from .ensemble_stage import EnsembleStage

PHASE = "comparing slices"  # as progress events name it
FITTING_SHARE = 0.15  # of the time left, for the shallow models of all volumes


@dataclass
class PropagatedSet:
    """What the annotated volumes of a run tell.

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
        check: Called with the phase and the share done; it may raise to stop.
    """
    classes, count = ensemble.classes, len(volumes)
    end = clock.seconds + PROPAGATION_SHARE * clock.left
    ensembles, rows, labels = [], [], []
    for done, (number, volume) in enumerate(zip(inputs.trained, volumes, strict=True)):
        left = None if by_steps else max(0.0, end - clock.seconds) / (count - done)
        stack = ensemble.make(plan, volume, left, number, done / count)
        assert stack is not None
        found = prior_of(stack.target, classes)
        ensembles.append(found)
        learnt = propagated_labels(found, volume.labels)
        here = (done + 1) / count

        def look(here: float = here) -> None:
            check(PHASE, here)

        features, values, _ = labelled_rows(volume, learnt, seed, look)
        rows.append(features)
        labels.append(values)
    unknown = [volume.unknown for volume in volumes]
    shallow, others, fold_of = fit_image_classifiers(
        rows,
        labels,
        classes,
        unknown,
        volumes[0].image.shape[0],
        seed,
        plan.dtype,
        None if by_steps else FITTING_SHARE * clock.left,
        lambda: check(PHASE, 1.0),
    )
    del rows
    propagated = []
    for place, volume in enumerate(volumes):
        unseen = None
        if others:
            unseen = (
                others[fold_of[place]].probabilities(volume, lambda share: check(PHASE, 1.0)).half()
            )
        whole = ensembles[place].cpu()
        if volume.unknown:
            by = unseen if unseen is not None else shallow.probabilities(volume)
            whole = split_background(whole, by.float(), volume.unknown)
        propagated.append(Propagated(whole.half(), unseen))
    return PropagatedSet(propagated, shallow, _scores(volumes, propagated, classes))


def _scores(
    volumes: list[WorkingVolume], propagated: list[Propagated], classes: int
) -> list[dict] | None:
    """Scores of the models that had not seen a volume, pooled over the drawn voxels of all."""
    found, truth = [], []
    for volume, own in zip(volumes, propagated, strict=True):
        split = split_of(volume)
        if own.unseen is None or split is None:
            continue
        mask = split.mask if split.scorable is None else split.mask & split.scorable
        drawn = volume.labels.cpu().numpy()
        best = own.unseen.float().argmax(dim=0).numpy()
        if volume.unknown:  # what the annotation calls background may be one of these
            best = np.where(np.isin(best, volume.unknown), 0, best)
        found.append(best[mask])
        truth.append(drawn[mask])
    if not truth or not (np.concatenate(truth) != UNLABELLED).any():
        return None
    return overlap(np.concatenate(found), np.concatenate(truth), classes - 1)
