"""Learning from priors without copying them: every slice is taught with priors that never saw it.

At an annotated slice a prior *is* the label, so whatever is trained on that only copies it.
Therefore the annotation is divided into folds, and a fold is taught with priors made from the
other folds' labels alone (stacking, Wolpert 1992). For the prediction priors are made from
all labels. First a shallow model learns so from priors and filters; what it says, blended with
the priors, is in turn the prior of the network. For a fold's slices the shallow model is taught
with the other folds' labels alone; as usual in stacking, those came with priors which this fold
did take part in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..annotation.composition import UNLABELLED
from ..annotation.slices import AnnotatedSlice
from .blending import blended, settle_blend
from .device import seconds_taken
from .evidence import distance_to, distance_to_labels, most_seen, seen_at
from .folds import (
    LEAVE_ONE_OUT,
    Fold,
    complete_slices,
    judged_voxels,
    labels_of,
    left_out,
    make_folds,
)
from .metrics import overlap
from .preprocess import WorkingVolume
from .prior_inputs import prior_of
from .priors import WAYS, Priors
from .smoothing import smoothed
from .voxel_classifier import FEW_STEPS, Teacher, VoxelClassifier, quickest_threads

# The priors reach farther in the folds, with fewer slices, than in the prediction: what the folds
# say of them is too bad, and counts half beside what is good on the average.
TRUST = 0.5
# Ways that miss a class which one slice alone shows say background there, and the mean follows
# them: it counts more (docs/lab/short-budgets.md).
SHOWN_ONCE = 1.5
LEARNING = 0.8  # of the time left, at most, for more steps than few
TRIED = 16  # of so many voxels one is looked at to tell what looking at all takes
# What one suggestion takes, until a shallow model has learnt from two folds and has been weighed.
FEWEST_TIMES = 5
USUAL = (0.0, 0.15, 0.1, 0.35, 0.4)


@dataclass
class Stack:
    """folds: what to train on, one working volume per fold with that fold's labels alone; empty
    where there is nothing to learn from out of fold, or no time to: `lacking` says which of the
    two ('annotation' or 'time').
    target: what to predict; its blend is made from all slices.
    alone: classes of which only the priors know, since no two folds show them.
    scores: IoU and Dice per segment, out of fold: priors, shallow models and their weights were
    made without the labels of the fold that is scored (the weights from what was said of the other
    folds, whose priors did know them). None where nothing was scored."""

    folds: list[WorkingVolume]
    target: WorkingVolume
    alone: tuple[int, ...] = ()
    scores: list[dict] | None = None
    lacking: str = ""


@dataclass
class _Fold:
    """labels: of this fold alone.  known: where they are.  suggested: what the other folds say,
    float16 (ways, classes, k, j, i).  far: how far their slices are.
    rows, truth: evidence and labels of the known voxels."""

    labels: torch.Tensor
    slices: list[AnnotatedSlice]
    known: torch.Tensor
    suggested: torch.Tensor
    far: torch.Tensor
    rows: torch.Tensor
    truth: torch.Tensor


class Stacker:
    """Stacks priors, and a shallow model that learns from them, for one working volume.

    seconds: how long `stack` may take, about; None for as long as it takes.  most: how long where
    the time does not suffice for a network to learn anything after it; None for no longer.
    dtype: of the shallow model's products.
    step: called with the share done; it may raise to break off.
    early: called with class probabilities float32 (classes, k, j, i) of the priors alone, long
    before the shallow model has learnt.
    """

    def __init__(self, priors: Priors, seed: int = 0, seconds: float | None = None,
                 dtype: str = "float32", step: Callable[[float], None] = lambda share: None,
                 early: Callable[[torch.Tensor], None] | None = None,
                 most: float | None = None):
        self.priors, self.volume, self.classes = priors, priors.volume, priors.classes
        self.seed, self.seconds, self.dtype, self.step = seed, seconds, dtype, step
        self.early = early
        self.interpolates = True  # whether there are complete slices to interpolate between
        self.most = seconds if most is None else most

    @staticmethod
    def bytes_per_voxel(channels: int, classes: int) -> float:
        """Memory for a volume of so many voxels: evidence, fields, and each fold's suggestions
        and inputs."""
        fold = 2 * (len(WAYS) + 1) * classes + 4 * (channels + classes) + 8
        return (LEAVE_ONE_OUT + 1) * fold + 2 * (most_seen(channels) + 1) \
            + 4 * (len(WAYS) + 2) * classes + 48

    def stack(self, labels: torch.Tensor, slices: list[AnnotatedSlice]) -> Stack:
        """Training volumes per fold, and the volume to predict, for these labels and slices.

        labels: uint8 (k, j, i), 255 = unlabelled.  slices: the annotated ones. Those that are
        annotated in part only, and what is labelled outside of slices, do not interpolate or
        propagate, but random walks and geodesic growth begin there too.
        """
        begun = time.monotonic()
        slices = complete_slices(labels, slices)
        self.interpolates = bool(slices)
        suggested = self.priors.suggest(labels, slices).half()
        once = time.monotonic() - begun
        if self.early is not None:
            self.early(self._smoothed(self._of_priors(suggested)))
        in_time = self.seconds is None or FEWEST_TIMES * once <= self.most
        folds = self._folds(labels, slices, once) if in_time else []
        if len(folds) < 2:
            return Stack([], self._with(self._of_priors(suggested), labels, slices),
                         lacking="annotation" if in_time else "time")
        taught = torch.unique(torch.cat([f.truth for f in folds])).tolist()
        alone = tuple(c for c in range(1, self.classes) if c not in taught)
        (model, *others), whole = self._taught(folds, begun)
        shallow = model.probabilities(self._evidence(suggested, self._distance(labels, slices)))
        every = torch.cat((suggested, shallow[None].half()))
        folds, seen = self._out_of_fold(folds, others, whole)
        rows = [s[:, :, f.known] if whole else s for s, f in zip(seen, folds, strict=True)]
        judged = judged_voxels(labels, self.volume, slices)
        judged = [judged[f.known] for f in folds]
        truths = [f.truth[j] for f, j in zip(folds, judged, strict=True)]
        rows = [r[:, :, j] for r, j in zip(rows, judged, strict=True)]
        weights = self._trusted(rows, truths)
        blend = self._with_alone(blended(every, weights), suggested, alone)
        others = self._trusted_of_others(rows, truths)
        # Without what was said of whole volumes a network has nothing to learn from.
        lessons = [self._with(blended(s, w), f.labels, f.slices)
                   for s, w, f in zip(seen, others, folds, strict=True)] if whole else []
        said = [prior_of(lesson, self.classes, (f.known,))[:, j]
                for lesson, f, j in zip(lessons, folds, judged, strict=True)] if whole else \
            [blended(r, w) for r, w in zip(rows, others, strict=True)]
        scores = self._scores(said, rows, truths)
        return Stack(lessons, self._with(blend, labels, slices), alone, scores,
                     lacking="" if whole else "time")

    def _trusted(self, rows: list[torch.Tensor], truths: list[torch.Tensor]) -> torch.Tensor:
        """Weights that folds say, half way to the usual ones; these where nothing is judged."""
        usual = self.usual.to(rows[0].device)
        if not sum(map(len, truths)):
            return usual
        return TRUST * settle_blend(torch.cat(rows, dim=2), torch.cat(truths)) + (1 - TRUST) * usual

    def _trusted_of_others(self, rows: list[torch.Tensor], truths: list[torch.Tensor]
                           ) -> list[torch.Tensor]:
        """For each fold weights fitted on the others, so that they can be scored on it."""
        if len(rows) == 1:
            return [self._trusted(rows, truths)]
        return [self._trusted(rows[:n] + rows[n + 1:], truths[:n] + truths[n + 1:])
                for n in range(len(rows))]

    def _scores(self, said: list[torch.Tensor], rows: list[torch.Tensor],
                truths: list[torch.Tensor]) -> list[dict] | None:
        """IoU and Dice per segment of what is said of each fold with weights fitted on others;
        None where nothing is judged."""
        if len(said) == 1:  # then the weights are fitted on one half of it and scored on the other
            half = len(truths[0]) // 2
            rows = [rows[0][:, :, :half], rows[0][:, :, half:]]
            truths = [truths[0][:half], truths[0][half:]]
            said = [blended(r, w) for r, w in
                    zip(rows, self._trusted_of_others(rows, truths), strict=True)]
        found, truth = torch.cat([s.argmax(dim=0) for s in said]), torch.cat(truths)
        if not len(truth):
            return None
        return overlap(found.cpu().numpy(), truth.cpu().numpy(), self.classes - 1)

    @cached_property
    def evidence(self) -> torch.Tensor:
        """What there is to see at each voxel, looked at when the shallow model first needs it."""
        return seen_at(self.volume, self.priors.spacing, lambda: self.step(0.0))

    @property
    def usual(self) -> torch.Tensor:
        """The weights of priors and shallow model, float32 (ways + 1,), before any score."""
        weights = torch.tensor(USUAL)
        # Without registration interpolated slices stand in, without complete slices background.
        if self.priors.propagation is None or not self.interpolates:
            weights[WAYS.index("carried")] = weights[WAYS.index("interpolated")]
        return weights / weights.sum()

    def _of_priors(self, suggested: torch.Tensor) -> torch.Tensor:
        """The usual blend of the priors, without a shallow model."""
        ways = self.usual[:-1]
        return blended(suggested, ways / ways.sum())

    def _with_alone(self, blend: torch.Tensor, suggested: torch.Tensor,
                    alone: tuple[int, ...]) -> torch.Tensor:
        """A blend in which classes that the shallow model was never taught keep what the priors
        say of them."""
        if not alone:
            return blend
        kept = SHOWN_ONCE * self._of_priors(suggested[:, list(alone)])
        kept /= kept.sum(dim=0).clamp_min(1.0)
        blend[list(alone)] = 0
        blend *= (1 - kept.sum(dim=0)) / blend.sum(dim=0).clamp_min(1e-6)
        blend[list(alone)] = kept
        return blend

    def _folds(self, labels: torch.Tensor, slices: list[AnnotatedSlice],
               once: float) -> list[_Fold]:
        """once: how long one suggestion takes; from a fold's share of the labels less, it takes
        that share less."""
        most = None if self.seconds is None else max(2, 1 + int(self.most / 2 // max(once, 1e-9)))
        parts, found = make_folds(labels, self.volume, slices, most), []
        for part in parts:
            self.step(len(found) / (2 * len(parts) + 1))
            others = [p for p in parts if p is not part]
            shown = labels_of(others, labels, self.volume)
            mine = torch.where(shown == UNLABELLED, labels, UNLABELLED)
            # What no other fold shows, no prior can know here; in the prediction it does.
            mine[~torch.isin(mine, torch.unique(shown))] = UNLABELLED
            known = mine != UNLABELLED
            if not bool(known.any()):
                continue
            complete = sorted(item for other in others for item in other.slices)
            suggested = self.priors.suggest(shown, complete).half()
            far = self._distance(shown, complete)
            rows = self._evidence(suggested, far)[:, known].T
            found.append(_Fold(mine, list(part.slices), known, suggested, far, rows, mine[known]))
        return found

    def _taught(self, folds: list[_Fold], begun: float) -> tuple[list[VoxelClassifier], bool]:
        """A shallow model taught with all folds, then those that leave some out to say something
        of what they never saw: one per fold, or where there is less time fewer that leave more
        out. And whether there is time for them to say it of the whole volume.

        begun: when the stacking began.
        """
        def check() -> None:
            self.step(len(folds) / (2 * len(folds) + 1))

        teacher = Teacher([f.rows for f in folds], [f.truth for f in folds], self.classes,
                          self.seed, self.dtype, check)
        every = range(len(folds))

        def learnt(models: int, steps: int) -> list[VoxelClassifier]:
            return teacher.taught([every, *([n for n in every if n not in out]
                                            for out in left_out(len(folds), models))], steps)

        if self.seconds is None:
            return learnt(len(folds), teacher.steps), True
        looking = self._seconds_to_look(folds[0], learnt(1, 1)[0])
        with quickest_threads(teacher, len(folds) + 1) as most:
            least = teacher.seconds_per_step(2)
            pace = [least + (most - least) * n / (len(folds) - 1) for n in every]
            models, whole, steps = self._affordable(time.monotonic() - begun, pace, looking,
                                                    teacher.steps)
            return learnt(models, steps), whole

    def _seconds_to_look(self, fold: _Fold, model: VoxelClassifier) -> float:
        """What looking at a whole volume takes, told from a part of it."""
        planes = len(fold.far)
        part = slice(math.ceil(planes / TRIED))

        def look() -> None:
            model.probabilities(self._evidence(fold.suggested, fold.far, part))

        look()  # what happens only once is not counted
        return seconds_taken(look, fold.far.device) * planes / part.stop

    def _affordable(self, taken: float, pace: list[float], looking: float, wished: int
                    ) -> tuple[int, bool, int]:
        """How many shallow models there is time for besides the one taught with all folds,
        whether they can look at the whole volume, and how many steps they learn for. It is one at
        least: what the priors and a shallow model say must be weighed, or the blend may be worse
        than its parts. More models come before more steps.

        taken: seconds so far.  pace: seconds of one step with 1, 2, ... such models.
        looking: seconds that one takes for the whole volume.  wished: steps, at most.
        """
        few = min(FEW_STEPS, wished)
        folds = len(pace)
        left = self.seconds - taken - (folds + 1) * looking
        whole = few * pace[1] <= left
        if not whole:
            left = self.most - taken - looking
        models = max((n for n in range(1, folds + 1) if few * pace[n - 1] <= left), default=1)
        steps = int(LEARNING * left / pace[models - 1])
        return models, whole, min(max(few, steps), wished)

    def _out_of_fold(self, folds: list[_Fold], models: list[VoxelClassifier], whole: bool
                     ) -> tuple[list[_Fold], list[torch.Tensor]]:
        """What priors and shallow models say of folds that they never saw: these folds, and for
        each float16 (ways + 1, classes, k, j, i), or (ways + 1, classes, voxels) of its known
        voxels alone."""
        asked = {number: model for model, out in zip(
            models, left_out(len(folds), len(models)), strict=True) for number in out}
        looked, seen = [folds[number] for number in sorted(asked)], []
        for number, fold in zip(sorted(asked), looked, strict=True):
            self.step((len(folds) + number + 1) / (2 * len(folds) + 1))
            evidence = self._evidence(fold.suggested, fold.far) if whole else fold.rows.T
            said = fold.suggested if whole else fold.suggested[:, :, fold.known]
            shallow = asked[number].probabilities(evidence)
            seen.append(torch.cat((said, shallow[None].half())))
        return looked, seen

    def _evidence(self, suggested: torch.Tensor, far: torch.Tensor,
                  part: slice = slice(None)) -> torch.Tensor:
        """float16 (f, k, j, i): what the shallow model learns from.  part: of k."""
        return torch.cat((self.evidence[:, part], far[None, part],
                          suggested[:, 1:, part].flatten(0, 1)))

    def _distance(self, labels: torch.Tensor, slices: list[AnnotatedSlice]) -> torch.Tensor:
        """float16 (k, j, i): how far the nearest slice is and, where the annotation has parts
        outside of complete slices, the nearest label."""
        far = distance_to(slices, self.volume, self.priors.spacing)
        rest = torch.where(labels_of([Fold(slices)], labels, self.volume) == UNLABELLED, labels,
                           UNLABELLED)
        if not bool((rest != UNLABELLED).any()):
            return far
        return torch.minimum(far, distance_to_labels(rest, self.priors.spacing))

    def _with(self, blend: torch.Tensor, labels: torch.Tensor,
              slices: list[AnnotatedSlice]) -> WorkingVolume:
        """The volume with these class probabilities, smoothed, as further inputs."""
        return replace(self.volume,
                       image=torch.cat((self.volume.image, self._smoothed(blend)[1:])),
                       labels=labels, slices=slices)

    def _smoothed(self, blend: torch.Tensor) -> torch.Tensor:
        return smoothed(blend, self.volume.image, self.priors.spacing)
