"""The training set of a network at a finer resolution than its priors: the folds of a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Triple, triple
from ..engine.data.lazy_sampling import LazySampler
from ..engine.plan import Plan
from ..engine.prediction.inference import Predictor
from ..engine.stacking.prior_inputs import prior_of
from ..engine.training.held_out import Split
from ..engine.training.training_set import TrainingSet
from ..engine.training.validation import score_beside_prior
from .fine_volume import FineVolume, FoldTable

SCORED_BOXES = 24  # in which the held-out fold is predicted for its score
MOST_COUNTED = 1_000_000  # labels by which classes are weighed


@dataclass(frozen=True)
class HeldFold(Split):
    """A fold that is held out.

    Attributes:
        number: Of the fold.
    """

    number: int = 0

    def names(self) -> list[str]:
        """Name of what is held out; a resumed training compares it."""
        return [f"fold {self.number}"]


class FineSet(TrainingSet):
    """The folds of a region, of which one may be held out at first.

    Args:
        folds: The region with the prior and the labels of each fold.
        table: Counts their voxels.
        seed: Random seed.
        holding_out: Whether to hold one out, where the others show all classes.
        most_blocks: Blocks of the region that are drawn from at a time.
    """

    def __init__(
        self,
        folds: list[FineVolume],
        table: FoldTable,
        seed: int,
        holding_out: bool,
        most_blocks: int,
    ):
        self.folds, self.table, self.seed, self.most_blocks = folds, table, seed, most_blocks
        held = held_fold(table.counts.sum(axis=2), seed) if holding_out else None
        nothing = np.zeros((0, 0, 0), np.uint8)
        split = None if held is None else HeldFold(nothing, nothing, (), number=held)
        super().__init__([], split, None, split is not None)
        self.places = [] if held is None else self._places(held)

    @property
    def target(self) -> FineVolume:  # type: ignore[override]
        """A volume with the channels and the grid of all."""
        return self.folds[0]

    @property
    def has_prior(self) -> bool:
        """True: without a network the result is that of priors and shallow model."""
        return True

    def training_volumes(self) -> list[FineVolume]:  # type: ignore[override]
        """The folds that are trained on now."""
        held = self.split.number if self.holding_out and isinstance(self.split, HeldFold) else None
        counts = self.table.counts.sum(axis=(1, 2))
        return [fold for n, fold in enumerate(self.folds) if n != held and counts[n]]

    def sampler(self, classes: int, plan: Plan, generator: torch.Generator) -> LazySampler:
        """Makes the sampler; see the base class."""
        volumes = self.training_volumes()
        return LazySampler(volumes, classes, plan, generator, self.most_blocks, self.seed)

    def known_labels(self) -> torch.Tensor:
        """Labels with the classes' shares of all; see the base class."""
        counts = torch.from_numpy(self.table.counts.sum(axis=(0, 2)))
        some = counts * min(1.0, MOST_COUNTED / int(counts.sum()))
        repeats = torch.where(counts > 0, some.ceil(), 0).long()
        return torch.arange(len(counts), dtype=torch.uint8).repeat_interleave(repeats)

    def score(self, classes: int, predictor: Predictor) -> tuple[list[dict], float | None]:
        """Scores a network on boxes around voxels of the held-out fold; see the base class."""
        assert isinstance(self.split, HeldFold)
        volume, rows, known = self.folds[self.split.number], [], []
        patch = predictor.plan.patch
        for place in self.places:
            # Twice the patch is predicted, of which the middle is scored.
            low, high = _around(place, triple(2 * n for n in patch), volume.shape)
            inner = _around(place, patch, volume.shape)
            part = volume.box(low, high)
            inside = tuple(slice(a - o, b - o) for a, b, o in zip(*inner, low, strict=True))
            found = predictor.probabilities(part, low, high)[(slice(None), *inside)]
            labels = part.labels[inside].cpu()
            prior = prior_of(part, classes, inside).cpu()
            at = labels != UNLABELLED
            rows.append(torch.stack((prior[:, at], found[:, at])))
            known.append(labels[at])
        return score_beside_prior(torch.cat(rows, dim=2), torch.cat(known), classes, self.fit_share)

    def _places(self, held: int) -> list[Triple]:
        """Voxels of a fold around which it is scored, of each of its classes as many."""
        random = np.random.default_rng(self.seed)
        volume, found = self.folds[held], []
        shown = [number for number, row in enumerate(volume.blocks) if len(row)]
        for place in range(SCORED_BOXES):
            number = shown[place % len(shown)]
            flat, values = volume.labelled(int(random.choice(volume.blocks[number])))
            voxel = int(random.choice(flat[values == number].numpy()))
            found.append(triple(int(a) for a in np.unravel_index(voxel, volume.shape)))
        return found


def _around(place: Triple, size: Triple, shape: Triple) -> tuple[Triple, Triple]:
    """A box of a size around a voxel, moved so that it lies in the volume if it fits."""
    low = triple(max(0, min(a - s // 2, n - s)) for a, s, n in zip(place, size, shape, strict=True))
    return low, triple(min(n, a + s) for a, s, n in zip(low, size, shape, strict=True))


def held_fold(counts: np.ndarray, seed: int) -> int | None:
    """Chooses a fold to hold out: it shows a segment, and the others show all classes.

    Args:
        counts: Voxels (folds, classes).
        seed: Random seed of the choice.

    Returns:
        Its number; None where none can be spared.
    """
    shown: Sequence[bool] = counts.sum(axis=0) > 0
    for number in np.random.default_rng(seed).permutation(len(counts)).tolist():
        others = np.delete(counts, number, axis=0).sum(axis=0) > 0
        if len(counts) > 2 and counts[number, 1:].any() and (others == shown).all():
            return number
    return None
