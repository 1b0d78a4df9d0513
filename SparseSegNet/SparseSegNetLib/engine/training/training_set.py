"""The training set of a network: volumes, labels, and what is held out.

Labels may change during training. With a stack every voxel is trained on with a prior that was made
without its label. Labels that are drawn later are a fold of their own: the prior of the whole
volume was made without them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AnnotatedSlice
from ..data.preprocessing import WorkingVolume
from ..data.sampling import Sampler
from ..plan import Plan
from ..prediction.inference import Predictor
from ..stacking.ensemble import fit_ensemble_weights
from ..stacking.fold_weights import SHRINKAGE
from ..stacking.prior_inputs import prior_of
from ..stacking.stack import Stack
from .held_out import Split
from .validation import score_held_out

# Ensemble weight of the network beside its prior until one is fitted.
DEFAULT_NETWORK_SHARE = 0.1
# The network learns to correct priors made from fewer slices, and is scored beside them. They are
# worse than the one that it corrects in the end, so the fitted share is too large by this.
OPTIMISM = 0.2


class TrainingSet:
    """Volumes and labels that a network is trained on.

    Args:
        volumes: The annotated ones.
        split: Voxels to hold out from the first volume, or None.
        stack: The ensemble of the first volume, or None.
        holding_out: Whether to hold out the split at first.

    Attributes:
        volumes: The annotated ones; with a stack the first is the stack's target.
        split: The held-out voxels.
        stack: The ensemble.
        holding_out: Whether the split is held out now.
        fresh: The fold of what was drawn since the stack was made, or None.
    """

    def __init__(
        self,
        volumes: list[WorkingVolume],
        split: Split | None,
        stack: Stack | None,
        holding_out: bool,
    ):
        self.stack, self.split = stack, split
        self.volumes = [stack.target] if stack is not None else list(volumes)
        self.holding_out = holding_out and split is not None
        self.fresh: WorkingVolume | None = None

    scorings = 8  # how often the held-out slices are scored

    @property
    def target(self) -> WorkingVolume:
        """The first volume, which is scored and shown."""
        return self.volumes[0]

    @property
    def scored(self) -> WorkingVolume:
        """The first volume with inputs that were made without the labels of held-out slices."""
        return self.split.fold or self.target

    @property
    def has_prior(self) -> bool:
        """True if there is a result without a network, that of priors and shallow model."""
        return self.stack is not None

    @property
    def trainable(self) -> bool:
        """False where a network would only learn to copy priors that have seen the labels."""
        return self.stack is None or bool(self.stack.folds)

    @property
    def truth(self) -> torch.Tensor:
        """The labels that `scored` is scored by, uint8 (k, j, i)."""
        return self.target.labels

    def scored_prior(self, classes: int, item: AnnotatedSlice) -> torch.Tensor | None:
        """The prior in a slice of `scored`, made without its labels.

        Returns:
            Class probabilities (classes, two axes) on the CPU; None if there is no prior.
        """
        if self.stack is None:
            return None
        return prior_of(self.scored, classes, item.selector()).cpu()

    def sampler(self, classes: int, plan: Plan, generator: torch.Generator) -> Sampler:
        """Makes the sampler that draws patches of `training_volumes`."""
        return Sampler(self.training_volumes(), classes, plan, generator)

    def known_labels(self) -> torch.Tensor:
        """The labels of all labelled voxels, uint8 (voxels,)."""
        return torch.cat([v.labels[v.labels != UNLABELLED] for v in self.volumes])

    def score(self, classes: int, predictor: Predictor) -> tuple[list[dict], float | None]:
        """Scores a network on the held-out voxels, see `validation.score_held_out`."""
        return score_held_out(self, classes, predictor)

    def fit_share(self, rows: torch.Tensor, known: torch.Tensor) -> float:
        """Fits the ensemble weight of the network beside its prior.

        Args:
            rows: Probabilities of prior and network (2, classes, voxels).
            known: uint8 (voxels,), their labels.
        """
        if not len(known):
            return DEFAULT_NETWORK_SHARE
        return SHRINKAGE * max(0.0, float(fit_ensemble_weights(rows, known)[1]) - OPTIMISM)

    def prior_for(
        self, volume: WorkingVolume, classes: int, item: AnnotatedSlice | None = None
    ) -> torch.Tensor | None:
        """The prior beside which a network predicts a volume, or one slice of it.

        Returns:
            Class probabilities (classes, ...) on the CPU; None where the network predicts alone.
        """
        if self.stack is None or volume is not self.target:
            return None
        return prior_of(volume, classes, () if item is None else item.selector()).cpu()

    def share_for(self, volume: WorkingVolume, network_share: float) -> float:
        """The ensemble weight of the network beside the prior of a volume.

        Args:
            volume: One that has a prior.
            network_share: The weight that was fitted.
        """
        return network_share

    def add(self, volume: WorkingVolume) -> None:
        """Trains on one more volume (without priors, which know one alone)."""
        self.volumes.append(volume)

    def training_volumes(self) -> list[WorkingVolume]:
        """The volumes that are trained on now, with their labels."""
        if self.stack is not None and self.stack.folds:
            folds = [
                f for f in self.stack.folds if not self.holding_out or f is not self.split.fold
            ]
            return folds if self.fresh is None else [*folds, self.fresh]
        if not self.holding_out:
            return self.volumes
        labels = torch.from_numpy(self.split.training).to(self.target.labels.device)
        slices = [s for s in self.target.slices if s not in self.split.slices]
        return [replace(self.target, labels=labels, slices=slices), *self.volumes[1:]]

    def replace_stack(self, stack: Stack) -> None:
        """Uses an ensemble that was made from the labels as they are now.

        The network may have seen what was held out by then, so nothing is held out any more.
        """
        self.stack, self.volumes = stack, [stack.target]
        self.holding_out, self.split, self.fresh = False, None, None

    def move(self, device: torch.device) -> None:
        """Moves all volumes to another device."""
        moved: dict[int, WorkingVolume] = {}

        def there(volume: WorkingVolume | None) -> WorkingVolume | None:
            if volume is None:
                return None
            if id(volume) not in moved:  # a volume that is two things stays one
                moved[id(volume)] = volume.to(device)
            return moved[id(volume)]

        before = (self.volumes, self.stack, self.split)  # alive, so that no id comes twice
        self.volumes = [there(v) for v in self.volumes]
        if self.stack is not None:
            self.stack = replace(
                self.stack,
                folds=[there(f) for f in self.stack.folds],
                target=there(self.stack.target),
            )
        if self.split is not None:
            self.split = replace(self.split, fold=there(self.split.fold))
        self.fresh = there(self.fresh)
        del before

    def change(
        self, number: int, labels: torch.Tensor, slices: list[AnnotatedSlice]
    ) -> torch.Tensor:
        """Replaces the labels of a volume.

        Args:
            number: Of the volume, in `volumes`.
            labels: uint8 (k, j, i), 255 = unlabelled.
            slices: The annotated ones.

        Returns:
            Boolean (k, j, i), the voxels that are newly or differently labelled.
        """
        before = self.volumes[number]
        self.volumes[number] = replace(before, labels=labels, slices=slices)
        known = labels != UNLABELLED
        if number == 0 and self.split is not None:
            mask = self.split.mask & known.cpu().numpy()
            training = np.where(self.split.mask, UNLABELLED, labels.cpu().numpy())
            self.split = replace(self.split, mask=mask, training=training.astype(np.uint8))
        if self.stack is not None:
            self._change_folds(before, self.volumes[number])
        return known & (labels != before.labels)

    def _change_folds(self, before: WorkingVolume, volume: WorkingVolume) -> None:
        labels = volume.labels
        nothing = torch.full_like(labels, UNLABELLED)
        folds = []
        for fold in self.stack.folds:
            other = replace(fold, labels=torch.where(fold.labels != UNLABELLED, labels, nothing))
            if self.split is not None and fold is self.split.fold:
                self.split = replace(self.split, fold=other)
            folds.append(other)
        self.stack = replace(self.stack, folds=folds, target=volume)
        drawn = before.labels == UNLABELLED
        if self.fresh is not None:
            drawn |= self.fresh.labels != UNLABELLED
        drawn &= labels != UNLABELLED
        if bool(drawn.any()):
            known = {s for fold in folds for s in fold.slices}
            self.fresh = replace(
                volume,
                labels=torch.where(drawn, labels, nothing),
                slices=[s for s in volume.slices if s not in known],
            )
        else:
            self.fresh = None
