"""The training set of a model for new volumes: several annotated volumes, one of them held out.

A network learns from propagated labels too: where priors and shallow model of a volume are sure,
their labels count as well. They were made from the volume's own annotation, so a volume that is
held out is unknown to the network, and its annotated voxels tell how good it is on new volumes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AnnotatedSlice
from ..data.preprocessing import WorkingVolume
from ..stacking.ensemble import fit_ensemble_weights
from ..stacking.folds import complete_slices, scorable_voxels
from .held_out import Split, scoring_planes
from .training_set import TrainingSet

# A voxel's label is propagated where the ensemble gives it this probability
# (docs/lab/new-volumes.md).
CERTAIN = 0.7
OWN_SHARE = 0.1  # ensemble weight of the network in the result of an annotated volume
NEW_SHARE = 0.5  # the same in a new volume, beside the shallow model, until it is fitted
KEPT = 0.75  # of the fitted weight, towards NEW_SHARE: a few slices of one volume tell little
# With fewer annotated volumes none is held out: without it the network is worse than its score is
# worth (docs/lab/new-volumes.md), and shallow models that leave volumes out give a score anyway.
FEWEST_VOLUMES = 4
USELESS = 0.1  # a fitted weight below which the network counts for nothing


@dataclass
class UnseenVoxels:
    """Drawn voxels of a volume as a model predicts them that has not seen the volume.

    Attributes:
        places: Flat indices into (k, j, i).
        probabilities: float32 (classes, voxels).
    """

    places: torch.Tensor
    probabilities: torch.Tensor


@dataclass
class Propagated:
    """The rest of a volume, as its annotation tells it.

    Attributes:
        ensemble: Class probabilities float16 (classes, k, j, i) of priors and shallow model.
        unseen: Of a shallow model that has not seen the volume; None if there is none.
    """

    ensemble: torch.Tensor
    unseen: UnseenVoxels | None = None


def propagated_labels(ensemble: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """The drawn labels, and beyond them those of which an ensemble is sure.

    Args:
        ensemble: Class probabilities (classes, k, j, i).
        drawn: uint8 (k, j, i), 255 = unlabelled.

    Returns:
        uint8 (k, j, i), 255 = unlabelled.
    """
    sure, label = ensemble.max(dim=0)
    label = torch.where(sure >= CERTAIN, label, UNLABELLED).to(torch.uint8).to(drawn.device)
    return torch.where(drawn != UNLABELLED, drawn, label)


class VolumeSet(TrainingSet):
    """Several volumes, of which one is held out at first.

    Args:
        volumes: Working volumes with the drawn labels.
        propagated: For each volume the rest, as its annotation tells it; empty where a network is
            trained on drawn labels alone.
        seed: Random seed of the choice of the volume to hold out.
        holding_out: Whether to hold one out.

    Attributes:
        drawn: The drawn labels of each volume, uint8 (k, j, i).
        held: Number of the volume that is held out at first; None if there is none.
    """

    def __init__(
        self,
        volumes: list[WorkingVolume],
        propagated: Sequence[Propagated],
        seed: int,
        holding_out: bool,
    ):
        self.drawn = [volume.labels for volume in volumes]
        self.propagated = list(propagated)
        self.held = held_volume(volumes, seed) if holding_out else None
        split = None if self.held is None else split_of(volumes[self.held])
        if split is None:
            self.held = None
        if self.held is not None and split is not None and self.propagated:
            split = self._where_predicted(split, self.propagated[self.held].unseen)
        learnt = [
            replace(volume, labels=propagated_labels(own.ensemble, volume.labels))
            for volume, own in zip(volumes, self.propagated, strict=bool(self.propagated))
        ]
        super().__init__(learnt or list(volumes), split, None, self.held is not None)

    scorings = 3  # how often: the slices of a whole volume take their time

    @staticmethod
    def _where_predicted(split: Split, unseen: UnseenVoxels | None) -> Split:
        """The split where the shallow model's prediction is known; elsewhere nothing is scored."""
        if unseen is None:
            return split
        known = np.zeros(split.mask.size, bool)
        known[unseen.places.numpy()] = True
        return replace(split, mask=split.mask & known.reshape(split.mask.shape))

    @property
    def has_prior(self) -> bool:
        """True if there is a result without a network, that of priors and shallow models."""
        return bool(self.propagated)

    @property
    def scored(self) -> WorkingVolume:
        """The volume that is held out."""
        assert self.held is not None
        return self.volumes[self.held]

    @property
    def truth(self) -> torch.Tensor:
        """The drawn labels of the held-out volume, uint8 (k, j, i)."""
        assert self.held is not None
        return self.drawn[self.held]

    def scored_prior(self, classes: int, item: AnnotatedSlice) -> torch.Tensor | None:
        """Class probabilities of the held-out volume in a slice, of a model without it."""
        if not self.propagated or self.held is None:
            return None
        unseen = self.propagated[self.held].unseen
        if unseen is None:
            return None
        shape = self.volumes[self.held].shape
        place = torch.full((math.prod(shape),), -1)
        place[unseen.places] = torch.arange(len(unseen.places))
        at = place.view(shape)[item.selector()]
        found = torch.zeros(classes, *at.shape)
        found[:, at >= 0] = unseen.probabilities[:, at[at >= 0]]
        return found

    def fit_share(self, rows: torch.Tensor, known: torch.Tensor) -> float:
        """Fits the ensemble weight of the network beside the shallow model; see the base class."""
        if not len(known):
            return NEW_SHARE
        fitted = float(fit_ensemble_weights(rows, known)[1])
        return 0.0 if fitted < USELESS else KEPT * fitted + (1 - KEPT) * NEW_SHARE

    def prior_for(
        self, volume: WorkingVolume, classes: int, item: AnnotatedSlice | None = None
    ) -> torch.Tensor | None:
        """The ensemble of an annotated volume, float32 on the CPU; see the base class."""
        number = next((n for n, v in enumerate(self.volumes) if v is volume), None)
        if number is None or number >= len(self.propagated):
            return None
        where = () if item is None else item.selector()
        return self.propagated[number].ensemble[(slice(None), *where)].float().cpu()

    def share_for(self, volume: WorkingVolume, network_share: float) -> float:
        """The ensemble weight of the network in an annotated volume; see the base class."""
        return OWN_SHARE if network_share > 0 else 0.0

    def training_volumes(self) -> list[WorkingVolume]:
        """The volumes that are trained on now, with their labels."""
        return [
            volume
            for number, volume in enumerate(self.volumes)
            if not (self.holding_out and number == self.held)
        ]

    def add(self, volume: WorkingVolume) -> None:
        """Trains on one more volume, of which only the drawn labels are known."""
        self.volumes.append(volume)
        self.drawn.append(volume.labels)

    def change(
        self, number: int, labels: torch.Tensor, slices: list[AnnotatedSlice]
    ) -> torch.Tensor:
        """Replaces the drawn labels of a volume; see the base class."""
        before, self.drawn[number] = self.drawn[number], labels
        learnt = labels
        if number < len(self.propagated):
            learnt = propagated_labels(self.propagated[number].ensemble, labels)
        self.volumes[number] = replace(self.volumes[number], labels=learnt, slices=slices)
        if number == self.held and self.split is not None:
            known = (labels != UNLABELLED).cpu().numpy()
            self.split = replace(self.split, mask=self.split.mask & known)
        return (labels != UNLABELLED) & (labels != before)

    def move(self, device: torch.device) -> None:
        """Moves all volumes to another device."""
        super().move(device)
        self.drawn = [labels.to(device) for labels in self.drawn]


def held_volume(volumes: Sequence[WorkingVolume], seed: int) -> int | None:
    """Chooses a volume to hold out: the others show all classes that any volume shows.

    Args:
        volumes: With the drawn labels.
        seed: Random seed of the choice.

    Returns:
        Its number; None where none can be spared.
    """
    if len(volumes) < FEWEST_VOLUMES:
        return None
    shown = [set(torch.unique(volume.labels).tolist()) - {UNLABELLED} for volume in volumes]
    for number in np.random.default_rng(seed).permutation(len(volumes)).tolist():
        others = set().union(*(classes for n, classes in enumerate(shown) if n != number))
        if shown[number] <= others and shown[number] - {0} and split_of(volumes[number]):
            return number
    return None


def split_of(volume: WorkingVolume) -> Split | None:
    """The division that holds out all of a volume.

    Args:
        volume: With the drawn labels.

    Returns:
        It is scored in the complete slices, else in a few planes through regions that are
        annotated with their borders; None where only strokes are.
    """
    complete = complete_slices(volume.labels, volume.slices)
    scorable = scorable_voxels(volume.labels, volume, complete).cpu().numpy()
    if not scorable.any():
        return None
    mask = (volume.labels != UNLABELLED).cpu().numpy()
    slices = tuple(complete) if complete else scoring_planes(scorable)
    nothing = np.full(mask.shape, UNLABELLED, np.uint8)
    return Split(nothing, mask, slices, volume, bool(complete), scorable)
