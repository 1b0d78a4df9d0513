"""Stacking (Wolpert 1992): priors and a shallow model, each used on labels that it has not seen.

At an annotated slice a prior *is* the label, so a model that is trained on it only copies it.
Therefore the annotation is divided into folds, and for each fold priors are made from the other
folds' labels alone; for the prediction they are made from all labels. A shallow model is fitted on
priors and filter responses, out of fold too, and the weighted mean of its prediction and the priors
is in turn the prior of the network. As usual in stacking, the priors that the shallow model of one
fold was fitted with were made with the help of that fold's labels.

Where all annotation lies in one slice its parts are the folds (see `in_slice`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from time import monotonic

import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AnnotatedSlice
from ..data.external_prior import ExternalPrior
from ..data.one_slice import only_slice
from ..data.preprocessing import WorkingVolume
from ..priors.maker import PRIOR_NAMES, PriorMaker
from .annotation_distance import log_distance_to_annotation
from .ensemble import disagreement, weighted_mean, with_classes
from .external_prior import UNJUDGED, beside, with_external
from .fold_models import FoldData, FoldModels, ShallowModels
from .fold_weights import FoldWeights, default_weights
from .folds import (
    LEAVE_ONE_OUT,
    complete_slices,
    labels_of,
    left_out,
    make_folds,
    scorable_voxels,
    shown_in,
)
from .in_slice import SEEDED
from .out_of_fold import pooled
from .prior_inputs import prior_of
from .shallow_time import seconds_for_shallow_models
from .smoothing import smooth_probabilities
from .stack import Stack
from .stack_time import StackTime
from .voxel_features import feature_count, voxel_features
from .without_folds import (
    SHARE,
    TIME_SHARE,
    probabilities_in_time,
)

# Priors that miss a class which one slice alone shows say background there, and the mean follows
# them: it counts more (docs/lab/short-budgets.md).
SHOWN_ONCE = 1.5
SHOWN_ONCE_SHARE = 0.2  # of the model without priors in what is predicted of such a class
# Memory used over that of the arrays that are kept, measured (docs/lab/memory.md).
WORKSPACE = 1.4
MODELS = 2  # shallow ones
OF_FOLDS = (2 * MODELS, MODELS)  # with one that leaves folds out: that are fitted, and predict


class Stacker:
    """Stacks priors, and a shallow model fitted on them, for one working volume.

    Args:
        maker: Makes the priors.
        seed: Random seed of the shallow model.
        seconds: How long `stack` may take, about; None for as long as it takes.
        dtype: Of the shallow model's matrix products, 'bfloat16' or 'float32'.
        step: Called with the share done; it may raise to break off.
        preview: Called with class probabilities float32 (classes, k, j, i) of the priors alone,
            long before the shallow model is fitted.
        seconds_alone: How long `stack` may take where the time does not suffice for a network
            after it; None for no longer.
        external: External priors on the working grid.
    """

    def __init__(
        self,
        maker: PriorMaker,
        seed: int = 0,
        seconds: float | None = None,
        dtype: str = "float32",
        step: Callable[[float], None] = lambda share: None,
        preview: Callable[[torch.Tensor], object] | None = None,
        seconds_alone: float | None = None,
        external: Sequence[ExternalPrior] = (),
    ):
        self.maker, self.volume, self.classes = maker, maker.volume, maker.classes
        self.seed, self.seconds, self.dtype, self.step = seed, seconds, dtype, step
        self.preview = preview
        self.interpolates = True  # whether there are complete slices to interpolate between
        self.seconds_alone = seconds if seconds_alone is None else seconds_alone
        self.external = tuple(external)
        self.partial = any(prior.partial for prior in self.external)
        labels, full_shape = self.volume.labels.cpu().numpy(), self.volume.full_shape
        self.in_slice = only_slice(labels, full_shape) is not None

    @staticmethod
    def bytes_per_voxel(channels: int, classes: int, external: int = 0) -> float:
        """Estimates the memory of stacking in bytes per voxel of the working volume.

        external: How many external priors there are.
        """
        predictors = len(PRIOR_NAMES) + MODELS + external
        fold = 2 * predictors * classes + 4 * (channels + classes) + 8
        arrays = (
            (LEAVE_ONE_OUT + 1) * fold
            + 2 * (feature_count(channels) + 1)
            + 4 * (predictors + 1) * classes
            + 48
        )
        return WORKSPACE * arrays

    def stack(self, labels: torch.Tensor, slices: list[AnnotatedSlice]) -> Stack:
        """Makes the training volumes of the folds, and the volume to predict.

        Args:
            labels: uint8 (k, j, i), 255 = unlabelled.
            slices: The annotated slices. Interpolation and propagation use complete ones alone;
                random walks and geodesic distances also begin at slices annotated in part and at
                what is labelled outside of slices.
        """
        time = StackTime(self.seconds, self.seconds_alone)
        slices = complete_slices(labels, slices)
        self.interpolates = bool(slices)
        priors = self.maker.make(labels, slices).half()
        once, preview = time.passed, self.preview
        if preview is not None:
            time.previewed(lambda: preview(self._smoothed(self._mean_of_priors(priors))))
        most = time.folds(once, lambda: self._seconds_for_shallow(*OF_FOLDS))
        in_time = most != 0
        folds = self._folds(labels, slices, most) if in_time else []
        if len(folds) < 2:
            mean = self._mean_of_priors(priors)
            if not in_time and not self.in_slice:
                model = self._model_without_folds(labels, time.begun + TIME_SHARE * time.alone)
                mean = mean if model is None else torch.lerp(mean, model, SHARE)
            return Stack(
                [],
                self._with_prior(mean, labels, slices),
                in_slice=self.in_slice,
                missing="annotation" if in_time else "time",
                disagreement=disagreement(priors, self.default_weights[:-MODELS]),
            )
        shown = torch.unique(torch.cat([f.truth for f in folds])).tolist()
        prior_only = tuple(c for c in range(1, self.classes) if c not in shown)
        (model, *others), whole = self._fit(folds, time)
        shallow = model.probabilities(self._inputs(priors, self._distance(labels, slices)))
        every = self._every(priors, shallow)
        folds, predictions = self._out_of_fold(folds, others, whole)
        rows = [p[:, :, f.known] if whole else p for p, f in zip(predictions, folds, strict=True)]
        scorable = scorable_voxels(labels, self.volume, slices)
        scorable = [scorable[f.known] for f in folds]
        truths = [f.truth[s] for f, s in zip(folds, scorable, strict=True)]
        rows = [r[:, :, s] for r, s in zip(rows, scorable, strict=True)]
        external = len(self.external)
        fitter = FoldWeights(self.default_weights, self.in_slice, external, self.partial)
        weights = fitter.of_prediction(fitter.fitted(rows, truths))
        ensemble, differing = (
            fitter.mean(every, weights),
            disagreement(every, weights, self.partial),
        )
        if prior_only:  # the shallow model with priors was not fitted on them
            shares = weights[len(weights) - external :]
            kept = SHOWN_ONCE * self._mean_of_priors(priors, shares)[list(prior_only)]
            kept = torch.lerp(kept, shallow[-1, list(prior_only)].float(), SHOWN_ONCE_SHARE)
            ensemble = with_classes(ensemble, kept, prior_only)
        weights = fitter.of_other_folds(rows, truths)
        # Without predictions of whole volumes a network has nothing to train on.
        training = (
            [
                self._with_prior(fitter.mean(p, w), f.labels, f.slices)
                for p, w, f in zip(predictions, weights, folds, strict=True)
            ]
            if whole
            else []
        )
        scored = (
            [
                prior_of(volume, self.classes, (f.known,))[:, s]
                for volume, f, s in zip(training, folds, scorable, strict=True)
            ]
            if whole and len(folds) > 1
            else fitter.scored(rows, truths, weights)
        )
        counts = shown_in(labels, self.volume, slices, self.classes)
        judged = sum(map(len, truths)) and not self.in_slice
        found = pooled(scored, folds, scorable, counts) if judged else None
        return Stack(
            training,
            self._with_prior(ensemble, labels, slices),
            prior_only,
            None if found is None else found.scores(),
            self.in_slice,
            missing="" if whole else "time",
            out_of_fold=found,
            disagreement=differing,
        )

    @cached_property
    def features(self) -> torch.Tensor:
        """float16 (f, k, j, i), computed when the shallow model first needs them."""
        position = not self.in_slice
        return voxel_features(self.volume, self.maker.spacing, lambda: self.step(0.0), position)

    @property
    def default_weights(self) -> torch.Tensor:
        """float32 (priors + 2,): weights of priors and shallow models before any is fitted."""
        return default_weights(self.maker.propagation is not None and self.interpolates)

    def _mean_of_priors(
        self, priors: torch.Tensor, shares: torch.Tensor | None = None
    ) -> torch.Tensor:
        """shares: the weights of the external priors."""
        weights = self.default_weights[:-MODELS]
        mean = weighted_mean(priors, weights / weights.sum())
        if not self.external:
            return mean
        if shares is None:
            shares = torch.full((len(self.external),), UNJUDGED)
        every = torch.cat((mean[None], *(beside(prior, mean).float() for prior in self.external)))
        return weighted_mean(every, with_external(torch.ones(1), shares.cpu()), self.partial)

    def _model_without_folds(self, labels: torch.Tensor, end: float) -> torch.Tensor | None:
        """See `probabilities_in_time`; None also where even the features would take too long."""

        def check() -> None:
            self.step(0.5)

        if monotonic() > end or monotonic() + self._seconds_for_shallow(1, 1) > end:
            return None
        return probabilities_in_time(
            self.features, labels, self.classes, self.seed, self.dtype, end, check
        )

    def _seconds_for_shallow(self, fitted: int, predicting: int) -> float:
        """See `seconds_for_shallow_models`."""
        return seconds_for_shallow_models(
            self.volume, self.maker.spacing, self.classes, self.dtype, fitted, predicting
        )

    def _folds(
        self, labels: torch.Tensor, slices: list[AnnotatedSlice], most: int | None
    ) -> list[FoldData]:
        """The folds, with priors made from the other folds. most: None for all."""
        parts, found = make_folds(labels, self.volume, slices, most), []
        for part in parts:
            self.step(len(found) / (2 * len(parts) + 1))
            others = [p for p in parts if p is not part]
            shown = labels_of(others, labels, self.volume)
            own = torch.where(shown == UNLABELLED, labels, UNLABELLED)
            # A class that no other fold shows no prior can know here; in the prediction it does.
            single = (own != UNLABELLED) & ~torch.isin(own, torch.unique(shown))
            single_truth, own = own[single], own.masked_fill(single, UNLABELLED)
            known = own != UNLABELLED
            if not bool(known.any()):
                continue
            complete = sorted(item for other in others for item in other.slices)
            priors = self.maker.make(shown, complete).half()
            distance = self._distance(shown, complete)
            found.append(
                FoldData(
                    own,
                    list(part.slices),
                    known,
                    priors,
                    distance,
                    self._rows(priors, distance, known),
                    own[known],
                    self._rows(priors, distance, single),
                    single_truth,
                )
            )
        return found

    def _rows(self, priors: torch.Tensor, distance: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """float16 (voxels, f): the same as `_inputs` where `at` is True."""
        priors = priors[SEEDED if self.in_slice else slice(None), 1:][:, :, at]
        return torch.cat((self.features[:, at], distance[None, at], priors.flatten(0, 1))).T

    def _fit(self, folds: list[FoldData], time: StackTime) -> tuple[list[ShallowModels], bool]:
        """See `FoldModels.fit`."""
        share, own = len(folds) / (2 * len(folds) + 1), len(self.features)
        models = FoldModels(
            folds, own, self.classes, self.seed, self.dtype, lambda: self.step(share)
        )
        return models.fit(time.seconds, time.alone, time.begun, self._inputs)

    def _out_of_fold(
        self, folds: list[FoldData], models: list[ShallowModels], whole: bool
    ) -> tuple[list[FoldData], list[torch.Tensor]]:
        """The folds that are predicted, and out-of-fold predictions for each.

        float16 (priors + 2, classes, k, j, i), or (priors + 2, classes, voxels) of its known
        voxels if not `whole`.
        """
        predicting = {
            number: model
            for model, out in zip(models, left_out(len(folds), len(models)), strict=True)
            for number in out
        }
        predicted, predictions = [folds[number] for number in sorted(predicting)], []
        for number, fold in zip(sorted(predicting), predicted, strict=True):
            self.step((len(folds) + number + 1) / (2 * len(folds) + 1))
            inputs = self._inputs(fold.priors, fold.distance) if whole else fold.rows.T
            priors = fold.priors if whole else fold.priors[:, :, fold.known]
            shallow = predicting[number].probabilities(inputs)
            predictions.append(self._every(priors, shallow, () if whole else (fold.known,)))
        return predicted, predictions

    def _every(self, priors: torch.Tensor, shallow: torch.Tensor, at: tuple = ()) -> torch.Tensor:
        """float16 (predictors, classes, ...): priors, shallow models and external priors."""
        own = torch.cat((priors, shallow))
        if not self.external:
            return own
        others = weighted_mean(own, self.default_weights)
        return torch.cat((own, *(beside(prior, others, at) for prior in self.external)))

    def _inputs(
        self, priors: torch.Tensor, distance: torch.Tensor, part: slice = slice(None)
    ) -> torch.Tensor:
        """float16 (f, planes, j, i): all features of the shallow model. part: planes along k."""
        priors = priors[SEEDED if self.in_slice else slice(None), 1:, part]
        return torch.cat((self.features[:, part], distance[None, part], priors.flatten(0, 1)))

    def _distance(self, labels: torch.Tensor, slices: list[AnnotatedSlice]) -> torch.Tensor:
        return log_distance_to_annotation(labels, slices, self.volume, self.maker.spacing)

    def _with_prior(
        self, probabilities: torch.Tensor, labels: torch.Tensor, slices: list[AnnotatedSlice]
    ) -> WorkingVolume:
        """The volume with these class probabilities, smoothed, as further channels."""
        return replace(
            self.volume,
            image=torch.cat((self.volume.image, self._smoothed(probabilities)[1:])),
            labels=labels,
            slices=slices,
        )

    def _smoothed(self, probabilities: torch.Tensor) -> torch.Tensor:
        return smooth_probabilities(probabilities, self.volume.image, self.maker.spacing)
