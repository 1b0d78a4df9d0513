"""Stacking: no slice is taught with a prior that saw it, and the blend keeps what is good."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_priors import ellipsoid, iou, working

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.engine.networks.refiner import Refiner
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.priors.maker import PRIOR_NAMES, PriorMaker
from SparseSegNetLib.engine.stacking import filters, fold_models
from SparseSegNetLib.engine.stacking.ensemble import fit_ensemble_weights
from SparseSegNetLib.engine.stacking.fold_models import FoldModels
from SparseSegNetLib.engine.stacking.fold_weights import SHRINKAGE
from SparseSegNetLib.engine.stacking.prior_inputs import prior_of
from SparseSegNetLib.engine.stacking.stack_time import StackTime
from SparseSegNetLib.engine.stacking.stacker import Stacker
from SparseSegNetLib.engine.stacking.voxel_classifier import (
    HIDDEN,
    ClassifierFitter,
)
from SparseSegNetLib.engine.stacking.without_folds import probabilities_in_time
from SparseSegNetLib.engine.training.held_out import hold_out_fold
from SparseSegNetLib.engine.training.report import by_steps
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.engine.training.training_set import OPTIMISM

pytestmark = pytest.mark.usefixtures("small_training")


def stacked(volume, classes=3, **options):
    return Stacker(PriorMaker(volume, classes), **options).stack(volume.labels, volume.slices)


class TestFilters:
    def test_count_and_shape(self):
        image = torch.randn(2, 7, 8, 9)
        assert filters.responses(image, (1, 1, 1)).shape == (filters.count(2), 7, 8, 9)

    def test_a_constant_image_gives_no_edges(self):
        found = filters.responses(torch.full((1, 9, 9, 9), 3.0), (1, 1, 1))
        assert torch.isfinite(found).all()
        own = 1 + filters.PER_SCALE * len(filters.SCALES)
        smooth = [0, *range(1, own, filters.PER_SCALE), *range(own, found.shape[0])]
        edges = [n for n in range(found.shape[0]) if n not in smooth]
        assert found[edges].abs().max() < 1e-3 and (found[smooth] - 3).abs().max() < 1e-4

    def test_eigenvalues_against_numpy(self):
        values = torch.randn(6, 50, dtype=torch.float64)
        upper = dict(zip([(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)], values, strict=True))
        matrices = np.zeros((50, 3, 3))
        for (a, b), value in upper.items():
            matrices[:, a, b] = matrices[:, b, a] = value
        exact = np.linalg.eigvalsh(matrices)[:, ::-1].T
        found = torch.stack(filters.eigenvalues(upper)).numpy()
        assert np.allclose(found, exact, atol=1e-6)

    def test_gaussian_against_scipy(self):
        from scipy import ndimage

        image = torch.randn(1, 12, 20, 20, generator=torch.Generator().manual_seed(0))
        spacing = (2.0, 1.0, 1.0)
        found = filters.responses(image, spacing)[1 + 2 * filters.PER_SCALE]
        scale = filters.SCALES[2]
        exact = ndimage.gaussian_filter(
            image[0].numpy(), [scale / s for s in spacing], mode="nearest", truncate=filters.REACH
        )
        assert np.abs(found.numpy() - exact).max() < 0.02

    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (50.0, 1.0, 1.0)])
    def test_what_lies_beside(self, spacing):
        """Each of two channels, along each axis, both ways; beyond the border its last voxel."""
        image = torch.randn(2, 9, 30, 31, generator=torch.Generator().manual_seed(0))
        around = filters.SCALES[filters.AROUND]
        assert around == (1.0, 2.0, 4.0)
        found = filters.responses(image, spacing).unflatten(0, (2, -1))
        for channel in found:
            own, beside = channel[1:].split(
                (filters.PER_SCALE * len(filters.SCALES), filters.SIDES * len(around))
            )
            for number, scale in enumerate(around):
                smooth = own[filters.SCALES.index(scale) * filters.PER_SCALE]
                for axis, size in enumerate(smooth.shape):
                    away = max(1, round(3 * scale / spacing[axis]))
                    before, after = beside[6 * number + 2 * axis : 6 * number + 2 * axis + 2]
                    for at in (0, size // 2, size - 1):
                        assert torch.equal(
                            before.select(axis, at), smooth.select(axis, max(0, at - away))
                        )
                        assert torch.equal(
                            after.select(axis, at), smooth.select(axis, min(size - 1, at + away))
                        )


class TestBlendWeights:
    def test_the_better_one_counts_more(self):
        truth = torch.randint(0, 3, (5000,), generator=torch.Generator().manual_seed(0))
        good = 0.8 * torch.eye(3)[truth].T + 0.2 / 3
        bad = torch.full((3, 5000), 1 / 3)
        weights = fit_ensemble_weights(torch.stack((bad, good)), truth.to(torch.uint8))
        assert weights.sum() == pytest.approx(1, abs=1e-5) and weights[1] > 0.9


class TestStack:
    def test_a_slices_own_labels_never_reach_its_prior(self):
        """Change everything that a fold's slices say: what it is taught with must not change."""
        truth = ellipsoid()
        slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
        volume = working(truth, slices)
        stacker = Stacker(PriorMaker(volume, 3))
        for number in (0, 3, 5):  # one along each axis
            part = [sorted(slices)[number]]
            shared = np.zeros(truth.shape, bool)
            for item in slices:
                if item not in part:
                    shared[item.selector()] = True
            changed = volume.labels.clone()
            for item in part:
                plane = changed[item.selector()]
                keep = torch.from_numpy(shared[item.selector()])
                plane[~keep] = (plane[~keep] + 1) % 3
            before, after = (
                stacker._folds(labels, slices, None)[number] for labels in (volume.labels, changed)
            )
            assert torch.equal(before.priors, after.priors)
            assert torch.equal(before.rows, after.rows)
            known = after.labels != UNLABELLED
            assert known.any() and not known.numpy()[shared].any()
            assert (before.labels[known] != after.labels[known]).all()

    def test_every_labelled_voxel_of_one_slice_alone_is_trained_on_once(self):
        truth = ellipsoid()
        slices = spread_slices((2, 2, 1), truth.shape, truth > 0)
        volume = working(truth, slices)
        stack = stacked(volume)
        times = sum((fold.labels != UNLABELLED).int() for fold in stack.folds)
        assert times.max() == 1
        assert (times > 0).sum() > 0.8 * (volume.labels != UNLABELLED).sum()
        assert stack.target.image.shape[0] == 1 + 2

    def test_no_time_leaves_the_usual_blend(self):
        truth = ellipsoid()
        slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
        stack = stacked(working(truth, slices), seconds=0.0)
        assert stack.folds == []
        found = prior_of(stack.target, 3).argmax(dim=0)
        assert iou(found > 0, (truth > 0).astype(np.uint8)) > 0.85

    @pytest.mark.parametrize("registered", [True, False])
    def test_what_nothing_carried_counts_nothing(self, registered):
        """Without registration the slices carried along are the interpolated ones again."""
        truth = ellipsoid()
        volume = working(truth, spread_slices((1, 1, 1), truth.shape, truth > 0))
        priors = PriorMaker(volume, 3, None if registered else 0.0)
        assert (priors.propagation is not None) == registered
        usual = dict(
            zip(
                (*PRIOR_NAMES, "with priors", "without priors"),
                Stacker(priors).default_weights.tolist(),
                strict=True,
            )
        )
        assert sum(usual.values()) == pytest.approx(1.0)
        assert (usual["propagated"] > 0) == registered and usual["interpolated"] == 0
        assert usual["geodesic"] / usual["random walk"] == pytest.approx(3.5)

    @pytest.mark.parametrize(
        ("number", "whole"), [(2, True), (3, True), (5, True), (3, False), (1, False)]
    )
    def test_with_less_time_fewer_models_leave_more_folds_out(self, number, whole, monkeypatch):
        """Each fold is looked at once, by a model that was not taught with it; one model alone
        looks at every other fold."""
        truth = ellipsoid()
        slices = spread_slices((2, 2, 1), truth.shape, truth > 0)
        volume = working(truth, slices)
        stacker = Stacker(PriorMaker(volume, 3), seconds=1e6)
        folds = stacker._folds(volume.labels, slices, None)
        asked = []

        class Model:
            def __init__(self, used):
                self.used = list(used)

            def probabilities(self, features):
                (fold,) = (
                    n
                    for n, f in enumerate(folds)
                    if torch.equal(
                        features, stacker._inputs(f.priors, f.distance) if whole else f.rows.T
                    )
                )
                assert self.used and fold not in self.used
                asked.append(fold)
                return torch.zeros(3, *features.shape[1:])

        def fit(fitter, used, steps, seen=None, hidden=HIDDEN):
            if seen is None:  # only timed
                return []
            own = len(stacker.features)
            half = len(used) // 2
            assert used[:half] == used[half:], "each with priors and without"
            assert seen[:half].all() and seen[half:, :own].all() and not seen[half:, own:].any()
            return [Model(numbers) for numbers in used]

        monkeypatch.setattr(ClassifierFitter, "fit", fit)
        monkeypatch.setattr(FoldModels, "seconds_to_predict", lambda *arguments: 0.0)
        monkeypatch.setattr(fold_models, "settings_in_time", lambda *measured: (number, whole, 10))
        (model, *others), all_of_it = stacker._fit(folds, StackTime(1e6, 1e6))
        assert (
            model.with_priors.used == list(range(5))
            and len(others) == number
            and all_of_it == whole
        )
        looked, seen = stacker._out_of_fold(folds, others, whole)
        expected = list(range(5)) if number > 1 else [0, 2, 4]
        twice = [fold for fold in expected for _ in range(2)]
        assert asked == twice and list(map(id, looked)) == [id(folds[n]) for n in expected]
        assert all(len(s) == len(f.priors) + 2 for s, f in zip(seen, looked, strict=True))

    def test_little_time_still_gives_weights_and_a_score(self):
        truth = ellipsoid()
        slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
        stack = stacked(working(truth, slices), seconds=0.0, seconds_alone=1e6)
        assert stack.folds == [] and min(row["iou"] for row in stack.scores) > 0.5
        found = prior_of(stack.target, 3).argmax(dim=0)
        assert iou(found > 0, (truth > 0).astype(np.uint8)) > 0.85

    def test_the_blend_is_good_and_says_so_honestly(self):
        truth = ellipsoid()
        slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
        volume = working(truth, slices)
        stack = stacked(volume)
        rows = metrics.overlap(
            prior_of(stack.target, 3).argmax(dim=0).numpy(),
            truth,
            2,
            volume.labels.numpy() == UNLABELLED,
        )
        reached, said = (metrics.mean(r["iou"] for r in x) for x in (rows, stack.scores))
        assert reached > 0.85 and said == pytest.approx(reached, abs=0.12)

    def test_a_class_that_one_slice_alone_shows_is_left_to_the_priors(self):
        """Out of fold nothing can know of it, so the shallow model must not be taught it."""
        truth = (ellipsoid() > 0).astype(np.uint8)
        truth[5:9, 16:20, 18:22] = 2
        slices = [
            AnnotatedSlice("k", 7),
            AnnotatedSlice("k", 14),
            AnnotatedSlice("k", 21),
            AnnotatedSlice("j", 8),
        ]
        volume = working(2 * truth, slices)
        volume.labels = working(truth, slices).labels
        stack = stacked(volume)
        assert stack.prior_only == (2,)
        assert not any((fold.labels == 2).any() for fold in stack.folds)
        found = prior_of(stack.target, 3)
        assert torch.allclose(found.sum(dim=0), torch.ones(()), atol=1e-3)
        assert iou(found.argmax(dim=0), truth, 2) > 0.6
        plan = replace(
            make_plan(Fingerprint.of(volume.labels.numpy(), (1, 1, 1), 1, 3, 4), width=4), batch=2
        )
        trainer = Trainer(plan, [volume], 3, None, 0, stack)
        trainer.train(by_steps(3))
        assert iou(trainer.probabilities().argmax(dim=0), truth, 2) > 0.5


class TestRefiner:
    def test_starts_as_the_prior_and_leaves_classes_alone(self):
        class Network(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.head = torch.nn.Conv3d(4, 3, 1)

            def forward(self, x):
                return self.head(x)

        refiner = Refiner(Network(), 1, 3)
        prior = torch.rand(1, 3, 4, 4, 4).softmax(dim=1)
        x = torch.cat((torch.randn(1, 1, 4, 4, 4), prior[:, 1:], torch.zeros(1, 1, 4, 4, 4)), 1)
        assert torch.allclose(refiner(x).softmax(dim=1), prior, atol=1e-3)
        torch.nn.init.ones_(refiner.network.head.bias)
        refiner.leave_to_prior([2])
        change = refiner(x) - prior.log()
        assert torch.allclose(change[:, :2], torch.ones(()), atol=1e-3)
        assert torch.allclose(change[:, 2], torch.zeros(()), atol=1e-3)


class TestBlend:
    def trainer(self):
        truth = ellipsoid((26, 30, 32))
        slices = spread_slices((3, 3, 2), truth.shape, truth > 0)
        volume = working(truth, slices, noise=0.05)
        plan = make_plan(
            Fingerprint.of(volume.labels.numpy(), (1, 1, 1), 1, 3, len(slices)), width=4
        )
        stack = stacked(volume)
        split = hold_out_fold(stack.folds, volume.labels.numpy(), 0)
        return Trainer(replace(plan, batch=2), [volume], 3, split, 0, stack), truth

    def test_before_the_first_step_the_prior_is_the_result(self):
        trainer, truth = self.trainer()
        prior = prior_of(trainer.target, 3)
        assert torch.equal(trainer.probabilities(), prior)
        rows = trainer.score_held_out()
        assert metrics.mean(r["dice"] for r in rows) > 0.85
        # The network is its prior yet, so half of the blend each, less what flatters it.
        assert trainer.network_share == pytest.approx(SHRINKAGE * (0.5 - OPTIMISM), abs=0.05)
        trainer.train(by_steps(2))
        found = trainer.probabilities().argmax(dim=0)
        assert iou(found > 0, (truth > 0).astype(np.uint8)) > 0.85

    def test_the_held_out_fold_teaches_only_at_the_end(self):
        trainer, _ = self.trainer()
        held = trainer.split.slices
        mask = torch.from_numpy(trainer.split.mask)
        assert held and bool(mask.any())
        for volume in trainer.sampler.volumes:
            assert not set(held) & set(volume.slices)
            assert (volume.labels[mask] == UNLABELLED).all()
        trainer.train(by_steps(10))
        assert any(set(held) <= set(v.slices) for v in trainer.sampler.volumes)


class TestWithoutFolds:
    """Where the time suffices for one set of priors, but not for those of folds."""

    @pytest.fixture
    def short(self, monkeypatch):
        truth = ellipsoid()
        slices = spread_slices((2, 2, 1), truth.shape, truth > 0)
        volume = working(truth, slices)
        monkeypatch.setattr(StackTime, "folds", lambda *times: 0)

        def stack(**features):
            stacker = Stacker(PriorMaker(volume, 3), seconds=0.0, seconds_alone=60.0)
            for name, value in features.items():
                monkeypatch.setattr(stacker, name, value)
            return stacker, stacker.stack(volume.labels, slices)

        return stack

    def test_a_model_without_priors_is_fitted_on_all_labels(self, short):
        stacker, found = short()
        assert found.folds == [] and found.missing == "time" and found.scores is None
        _, priors = short(_model_without_folds=lambda *unused: None)
        model = stacker._model_without_folds(stacker.volume.labels, time.monotonic() + 60.0)
        assert torch.allclose(model.sum(dim=0), torch.ones(()), atol=1e-3)
        truth = torch.from_numpy(ellipsoid()).long()[None]
        with_model, alone = (
            prior_of(stack.target, 3).gather(0, truth).mean() for stack in (found, priors)
        )
        assert 1 - with_model < 0.9 * (1 - alone), "intensities tell the classes apart"

    def test_not_where_even_the_features_would_take_too_long(self, short):
        stacker, _ = short(_seconds_for_shallow=lambda *models: 1e6)
        assert "features" not in vars(stacker), "none were computed"

    def test_not_where_the_steps_would_be_too_few(self, short):
        stacker, _ = short()
        assert stacker._model_without_folds(stacker.volume.labels, time.monotonic() - 1.0) is None
        assert (
            probabilities_in_time(
                stacker.features,
                stacker.volume.labels,
                3,
                0,
                "float32",
                time.monotonic() - 1.0,
                lambda: None,
            )
            is None
        )
