"""Shallow models for stacking: fitted on all folds, or leaving folds out, with and without priors.

A model that sees the priors leans on them, and misses with them what only one slice shows. Beside
it one that sees image and position alone errs elsewhere, and knows all classes
(docs/lab/blends.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ...annotation.slices import AnnotatedSlice
from ..compute.timing import seconds_for_planes
from .folds import left_out
from .voxel_classifier import (
    FEW_STEPS,
    FEWEST_STEPS,
    HIDDEN,
    ClassifierFitter,
    VoxelClassifier,
    fastest_threads,
)

MORE_STEPS_SHARE = 0.8  # of the time left, at most, for more steps than few
WIDE_STEPS_SHARE = 0.5  # of the steps that suit, at least, for the wider models to pay


@dataclass
class FoldData:
    """A fold as the shallow models are fitted on it.

    Attributes:
        labels: uint8 (k, j, i) of this fold alone, 255 elsewhere.
        slices: The fold's complete slices.
        known: Boolean (k, j, i), where `labels` are.
        priors: float16 (priors, classes, k, j, i), made from the other folds' labels.
        distance: float16 (k, j, i), to the other folds' slices.
        rows: Features (voxels, f) of the known voxels.
        truth: uint8 (voxels,), their labels.
        single_rows: Features (voxels, f), without those of the priors, of voxels of classes that no
            other fold shows, which are not in `labels`.
        single_truth: uint8 (voxels,), their labels.
    """

    labels: torch.Tensor
    slices: list[AnnotatedSlice]
    known: torch.Tensor
    priors: torch.Tensor
    distance: torch.Tensor
    rows: torch.Tensor
    truth: torch.Tensor
    single_rows: torch.Tensor
    single_truth: torch.Tensor


@dataclass
class ShallowModels:
    """Two models fitted on the same slices.

    Attributes:
        with_priors: Sees all features.
        without_priors: Sees those of image and position alone.
    """

    with_priors: VoxelClassifier
    without_priors: VoxelClassifier

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Predicts class probabilities float16 (2, classes, ...) from features (f, ...)."""
        models = (self.with_priors, self.without_priors)
        return torch.stack([model.probabilities(features).half() for model in models])


class FoldModels:
    """Fits shallow models on folds, as many and for as many steps as the time allows.

    Args:
        folds: At least two.
        priors: The first feature that comes from priors: all from it on do.
        classes: Labels with background.
        seed: Random seed.
        dtype: Of the matrix products, 'bfloat16' or 'float32'.
        check: Called now and then; it may raise to break off.
    """

    def __init__(
        self,
        folds: list[FoldData],
        priors: int,
        classes: int,
        seed: int,
        dtype: str,
        check: Callable[[], None],
    ):
        self.folds, self._priors = folds, priors
        single = [n for n, f in enumerate(folds) if len(f.single_truth)]
        self._single = {n: len(folds) + at for at, n in enumerate(single)}  # their groups
        self._fitter = ClassifierFitter(
            [f.rows for f in folds] + [folds[n].single_rows for n in single],
            [f.truth for f in folds] + [folds[n].single_truth for n in single],
            classes,
            seed,
            dtype,
            check,
        )

    def fit(
        self,
        seconds: float | None,
        seconds_alone: float | None,
        begun: float,
        inputs: Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor],
    ) -> tuple[list[ShallowModels], bool]:
        """Fits models that leave folds out, then one on all folds in the time that is left.

        Those that leave folds out weigh and score, for which few steps do; what predicts in the
        end gains by more steps and by width (docs/lab/time-into-accuracy.md).

        Args:
            seconds: How long stacking may take; None for as long as it takes.
            seconds_alone: The same, where no network is trained after it.
            begun: time.monotonic() when stacking began.
            inputs: Makes the features (f, planes, j, i) of some planes from priors and distances.

        Returns:
            The models, first the one fitted on all folds, then one per fold, or where there is
            less time fewer that leave more out; and whether there is time for them to predict
            whole volumes.
        """
        fitter, folds = self._fitter, len(self.folds)
        few = min(FEW_STEPS, fitter.steps)
        if seconds is None:
            others = self._fitted(left_out(folds, folds), few)
            return [*self._fitted([()], fitter.steps, fitter.hidden), *others], True
        predicting = self.seconds_to_predict(self._fitted([()], 1)[0], inputs)
        with fastest_threads(fitter, 2 * (folds + 1)) as most:
            least = fitter.seconds_per_step(2 * 2)
            pace = [least + (most - least) * n / (folds - 1) for n in range(folds)]
            models, whole, steps = settings_in_time(
                seconds - (time.monotonic() - begun),
                seconds_alone - (time.monotonic() - begun),
                pace,
                predicting,
                few,
            )
            others = self._fitted(left_out(folds, models), steps)
            looks = folds * predicting if whole else 0.0
            end = begun + (seconds if whole else seconds_alone) - looks
            return [self._fitted_on_all(end, steps, predicting, inputs), *others], whole

    def _fitted(
        self, outs: Sequence[Sequence[int]], steps: int, hidden: int = HIDDEN
    ) -> list[ShallowModels]:
        """Models each of which leaves some folds out."""
        used = [[n for n in range(len(self.folds)) if n not in out] for out in outs]
        all_known = [[*u, *(self._single[n] for n in u if n in self._single)] for u in used]
        seen = torch.ones(2 * len(used), self._fitter.rows.shape[1])
        seen[len(used) :, self._priors :] = 0
        found = self._fitter.fit([*used, *all_known], steps, seen, hidden)
        pairs = zip(found[: len(used)], found[len(used) :], strict=True)
        return [ShallowModels(*pair) for pair in pairs]

    def _fitted_on_all(
        self,
        end: float,
        least: int,
        predicting: float,
        inputs: Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor],
    ) -> ShallowModels:
        """Models of all folds, that have predicted the whole volume at `end`.

        Args:
            end: time.monotonic().
            least: Steps, whatever the time.
            predicting: Seconds that models of the usual width take for the whole volume.
            inputs: See `fit`.
        """
        fitter, wished = self._fitter, self._fitter.steps

        def affordable(pace: float, after: float) -> int:
            left = end - time.monotonic() - after
            return min(max(0, int(MORE_STEPS_SHARE * left / max(pace, 1e-9))), wished)

        steps = affordable(fitter.seconds_per_step(2), predicting)
        if steps == wished and fitter.hidden > HIDDEN:
            tried = self._fitted([()], 1, fitter.hidden)[0]
            after = self.seconds_to_predict(tried, inputs)
            wide = affordable(fitter.seconds_per_step(2, fitter.hidden), after)
            if wide >= WIDE_STEPS_SHARE * wished:
                return self._fitted([()], wide, fitter.hidden)[0]
        return self._fitted([()], max(steps, least))[0]

    def seconds_to_predict(
        self,
        model: ShallowModels,
        inputs: Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor],
    ) -> float:
        """Estimates the seconds that models take for a whole volume, from a part of it."""
        fold = self.folds[0]
        return seconds_for_planes(
            lambda part: model.probabilities(inputs(fold.priors, fold.distance, part)),
            len(fold.distance),
            fold.distance.device,
        )


def settings_in_time(
    left: float, left_alone: float, pace: list[float], predicting: float, few: int
) -> tuple[int, bool, int]:
    """Decides how many models leave folds out, what they predict and for how long they train.

    There is one such model at least: priors and shallow model must be weighed, or the ensemble may
    be worse than its parts.

    Args:
        left: Seconds that are left.
        left_alone: Seconds that are left where no network is trained afterwards.
        pace: Seconds of one step of the models on all folds and of 1, 2, ... that leave folds out.
        predicting: Seconds that one model takes for the whole volume.
        few: Steps, where the time suffices for one model that leaves folds out.

    Returns:
        The number of models besides the one fitted on all folds, whether they predict the whole
        volume (else labelled voxels alone), and the number of steps.
    """
    folds = len(pace)
    left -= (folds + 1) * predicting
    whole = few * pace[1] <= left
    if not whole:
        left = left_alone - predicting
    models = max((n for n in range(1, folds + 1) if few * pace[n - 1] <= left), default=1)
    steps = few if few * pace[models - 1] <= left else int(left / pace[0])
    return models, whole, min(max(steps, FEWEST_STEPS), few)
