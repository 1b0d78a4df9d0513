"""Priors: what the slices alone say, and that no slice is trained with a prior that saw it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.annotation.spread import spread_slices
from SparseSegNetLib.engine import metrics
from SparseSegNetLib.engine.held_out import hold_out
from SparseSegNetLib.engine.interpolation import interpolate, signed_distance
from SparseSegNetLib.engine.plan import fingerprint, make_plan
from SparseSegNetLib.engine.preprocess import WorkingVolume
from SparseSegNetLib.engine.priors import Priors, divide
from SparseSegNetLib.engine.propagation import Propagation, register, warp
from SparseSegNetLib.engine.trainer import Trainer


def ellipsoid(shape=(30, 36, 40)):
    at = np.indices(shape)
    radius = sum(((x - (n - 1) / 2) / (0.4 * n)) ** 2 for x, n in zip(at, shape, strict=True))
    return np.where(radius < 0.3, 2, np.where(radius < 1, 1, 0)).astype(np.uint8)


def working(truth, slices, noise=0.1, spacing=(1.0, 1.0, 1.0)):
    generator = torch.Generator().manual_seed(0)
    image = torch.from_numpy(truth).float()[None]
    image = image + noise * torch.randn(image.shape, generator=generator)
    return WorkingVolume(image, torch.from_numpy(restrict_to_slices(truth, slices)),
                         torch.tensor(spacing), truth.shape, list(slices))


def iou(found, truth, value=1):
    return metrics.overlap(np.asarray(found), truth, value)[value - 1]["iou"]


class TestInterpolation:
    def test_signed_distance(self):
        mask = np.zeros((9, 9), bool)
        mask[3:6, 3:6] = True
        found = signed_distance(mask, (2.0, 1.0))
        assert found[4, 4] == 2 and found[4, 0] == -3 and found[0, 4] == -6
        assert (signed_distance(mask & False, (1, 1), 7.0) == -7).all()
        assert (signed_distance(mask | True, (1, 1), 7.0) == 7).all()

    def test_agrees_with_every_annotated_slice(self):
        truth = ellipsoid()
        slices = spread_slices((2, 1, 3), truth.shape)
        found = interpolate(restrict_to_slices(truth, slices), slices, (1, 1, 1), 3)
        labels = torch.cat((torch.zeros(1, *truth.shape), found)).argmax(dim=0).numpy()
        for item in slices:
            assert (labels[item.selector()] == truth[item.selector()]).mean() > 0.98

    def test_a_smooth_shape_comes_back_from_few_slices(self):
        truth = (ellipsoid() > 0).astype(np.uint8)
        slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
        found = interpolate(restrict_to_slices(truth, slices), slices, (1, 1, 1), 2)
        assert iou(found[0] > 0, truth) > 0.85

    def test_one_slice_shrinks_away_and_none_says_nothing(self):
        truth = (ellipsoid() > 0).astype(np.uint8)
        item = AnnotatedSlice("k", 15)
        found = interpolate(restrict_to_slices(truth, [item]), [item], (5.0, 1, 1), 2)[0]
        areas = [(plane > 0).sum().item() for plane in found[15:]]
        assert areas == sorted(areas, reverse=True) and areas[0] > 0
        assert (interpolate(truth, [], (1, 1, 1), 2) == -1).all()

    def test_a_structure_ends_between_the_slice_that_shows_it_and_the_one_that_does_not(self):
        truth = np.zeros((21, 20, 20), np.uint8)
        truth[:, 5:15, 5:15] = 1
        truth[10:] = 0
        slices = [AnnotatedSlice("k", 4), AnnotatedSlice("k", 16)]
        found = interpolate(restrict_to_slices(truth, slices), slices, (1, 1, 1), 2)[0] > 0
        filled = found.any(dim=2).any(dim=1)
        assert filled[:9].all() and not filled[12:].any()


class TestPropagation:
    def test_registration_finds_a_shift(self):
        y, x = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")

        def blob(cy, cx):
            return torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 60)[None, None] * 3

        fixed, moving = blob(20, 24), blob(22, 21)
        field = register(fixed, moving)
        assert (warp(moving, field) - fixed).abs().mean() < 0.3 * (moving - fixed).abs().mean()
        assert field[0, 0, 20, 24] == pytest.approx(2, abs=0.7)
        assert field[0, 1, 20, 24] == pytest.approx(-3, abs=0.9)

    def test_follows_a_slanted_tube_that_interpolation_loses(self):
        shape = (32, 48, 48)
        k, j, i = np.indices(shape)
        truth = ((j - 10 - 0.8 * k) ** 2 + (i - 24) ** 2 < 36).astype(np.uint8)
        slices = [AnnotatedSlice("k", 3), AnnotatedSlice("k", 28)]
        volume = working(truth, slices, noise=0.05)
        carried = Propagation(volume.image, (1, 1, 1), [0]).carry(volume.labels, slices, 2)
        assert torch.allclose(carried.sum(dim=0), torch.ones(shape), atol=1e-4)
        straight = interpolate(volume.labels.numpy(), slices, (1, 1, 1), 2)[0] > 0
        assert iou(carried.argmax(dim=0), truth) > 0.8 > 0.5 > iou(straight, truth)

    def test_annotated_slices_stay_as_they_are(self):
        truth = ellipsoid()
        slices = [AnnotatedSlice("k", 10), AnnotatedSlice("k", 20)]
        volume = working(truth, slices)
        carried = Propagation(volume.image, (1, 1, 1), [0]).carry(volume.labels, slices, 3)
        for item in slices:
            assert (carried.argmax(dim=0).numpy()[item.selector()]
                    == truth[item.selector()]).all()

    def test_progress_is_told_and_can_break_off(self):
        def stop(share):
            raise InterruptedError

        with pytest.raises(InterruptedError):
            Propagation(torch.zeros(1, 8, 8, 8), (1, 1, 1), step=stop)


class TestStack:
    def test_a_slices_own_labels_never_reach_its_prior(self):
        """Change everything that a fold's slices say: what the fold is trained with must not
        change where the others' slices do not pass."""
        truth = ellipsoid()
        slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
        volume = working(truth, slices)
        priors = Priors(volume, 3)
        for number, part in enumerate(divide(slices, 4)):
            shared = np.zeros(truth.shape, bool)
            for item in slices:
                if item not in part:
                    shared[item.selector()] = True
            changed = volume.labels.clone()
            for item in part:
                plane = changed[item.selector()]
                keep = torch.from_numpy(shared[item.selector()])
                plane[~keep] = (plane[~keep] + 1) % 3
            before, after = (priors.stack(labels, slices).folds[number]
                             for labels in (volume.labels, changed))
            assert torch.equal(before.image, after.image)
            known = after.labels != UNLABELLED
            assert known.any() and not known.numpy()[shared].any()
            assert (before.labels[known] != after.labels[known]).all()

    def test_every_labelled_voxel_of_one_slice_alone_is_trained_on_once(self):
        truth = ellipsoid()
        slices = spread_slices((2, 2, 1), truth.shape, truth > 0)
        volume = working(truth, slices)
        stack = Priors(volume, 3).stack(volume.labels, slices)
        times = sum((fold.labels != UNLABELLED).int() for fold in stack.folds)
        assert times.max() == 1
        assert (times > 0).sum() > 0.8 * (volume.labels != UNLABELLED).sum()
        assert stack.target.image.shape[0] == 1 + Priors.channels(3)

    def test_scribbles_teach_in_every_fold(self):
        truth = ellipsoid()
        slices = spread_slices((0, 0, 3), truth.shape, truth > 0)
        volume = working(truth, slices)
        volume.labels[1, 2, 3] = 2
        for fold in Priors(volume, 3).stack(volume.labels, slices).folds:
            assert fold.labels[1, 2, 3] == 2

    def test_one_slice_has_no_folds(self):
        truth = ellipsoid()
        slices = [AnnotatedSlice("k", 15)]
        volume = working(truth, slices)
        stack = Priors(volume, 3).stack(volume.labels, slices)
        assert stack.folds == [stack.target]

    def test_no_time_for_registration_leaves_interpolation(self):
        truth = ellipsoid()
        slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
        volume = working(truth, slices)
        priors = Priors(volume, 3, seconds=0.0)
        assert priors.propagation is None
        stack = priors.stack(volume.labels, slices)
        assert iou(stack.prior.argmax(dim=0) > 0, (truth > 0).astype(np.uint8)) > 0.8

    def test_folds_are_even_and_hold_slices_of_different_axes(self):
        slices = spread_slices((4, 4, 4), (40, 40, 40))
        parts = divide(slices, 4)
        assert sorted(s for p in parts for s in p) == slices
        assert all(len(p) == 3 and {s.axis for s in p} == set("ijk") for p in parts)


class TestBlend:
    def trainer(self):
        truth = ellipsoid((26, 30, 32))
        slices = spread_slices((3, 3, 2), truth.shape, truth > 0)
        volume = working(truth, slices, noise=0.05)
        plan = make_plan(fingerprint(volume.labels.numpy(), (1, 1, 1), 1, 3, len(slices)), width=4)
        split = hold_out(volume.labels.numpy(), slices, 0)
        plan = replace(plan, batch=2)
        return Trainer(plan, [volume], 3, split, 0, Priors(volume, 3)), truth

    def test_an_untrained_network_leaves_the_result_to_the_priors(self):
        trainer, truth = self.trainer()
        rows = trainer.score_held_out()
        assert trainer.network_share < 0.5
        found = trainer.probabilities().argmax(dim=0)
        assert iou(found > 0, (truth > 0).astype(np.uint8)) > 0.85
        alone, trainer.prior = trainer.prior, None
        network = trainer.score_held_out()
        trainer.prior = alone
        assert metrics.mean(r["dice"] for r in rows) > 0.2 + metrics.mean(
            r["dice"] or 0.0 for r in network)

    def test_held_out_slices_are_in_no_prior_until_the_end(self):
        trainer, _ = self.trainer()
        held = trainer.split.slices
        assert held and not set(held) & set(trainer.target.slices)
        for volume in trainer.sampler.volumes:
            assert not set(held) & set(volume.slices)
            mask = torch.from_numpy(trainer.split.mask)
            assert (volume.labels[mask] == UNLABELLED).all()
        trainer.use_best()
        assert set(held) <= set(trainer.target.slices)
