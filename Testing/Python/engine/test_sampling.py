"""Patches: one resampling for image and labels, labelled voxels in every patch."""

import numpy as np
import pytest
import torch
from test_deformation import displacements, resampled

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.data import augmentation as aug
from SparseSegNetLib.engine.data.preprocessing import (
    Normalisation,
    WorkingVolume,
    labels_on,
    position_channels,
    reduce_labels,
    slices_on,
    working_volume,
)
from SparseSegNetLib.engine.data.sampling import Sampler
from SparseSegNetLib.engine.plan import Plan
from SparseSegNetLib.runfolder.run_input import RunInput


def volume(shape=(20, 24, 28), labelled=None, spacing=(1.0, 1.0, 1.0)):
    labels = torch.full(shape, 255, dtype=torch.uint8)
    if labelled is not None:
        labelled(labels)
    image = torch.arange(float(np.prod(shape))).reshape(1, *shape)
    return WorkingVolume(image, labels, torch.tensor(spacing), shape)


def sampler(vol, patch=(8, 8, 8), strength=None, position=False, classes=3, seed=0):
    plan = Plan(
        vol.shape,
        (1.0, 1.0, 1.0),
        patch,
        patch,
        (),
        ((3, 3, 3),),
        4,
        1,
        position=position,
        strength=strength or aug.Strength(),
    )
    return Sampler([vol], classes, plan, torch.Generator().manual_seed(seed))


def test_without_augmentation_a_patch_is_a_piece_of_the_volume():
    def labelled(labels):
        labels[10] = 1
        labels[10, 12, 14] = 2

    vol = volume(labelled=labelled)
    pixels, labels, _ = resampled(vol.image, vol.labels, (9.5, 11.5, 13.5), (8, 8, 8))
    box = (slice(6, 14), slice(8, 16), slice(10, 18))
    assert torch.allclose(pixels[0], vol.image[0][box], atol=1e-2)
    assert torch.equal(labels, vol.labels[box])


def test_beyond_the_border_the_image_is_its_edge_and_nothing_is_labelled():
    vol = volume(labelled=lambda labels: labels.fill_(1))
    pixels, labels, _ = resampled(vol.image, vol.labels, (0.0, 0.0, 0.0), (5, 5, 5))
    assert pixels[0, 0, 0, 0] == vol.image[0, 0, 0, 0]
    assert (labels[:2] == 255).all() and (labels[2:, 2:, 2:] == 1).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.8, 0.8)])
@pytest.mark.parametrize("patch", [(8, 8, 8), (4, 16, 16), (32, 32, 32)])
def test_every_patch_holds_labelled_voxels(spacing, patch):
    def labelled(labels):
        labels[3] = 0
        labels[:, :, 20] = 1

    drawn = sampler(volume(labelled=labelled, spacing=spacing), patch)
    assert (drawn.batch(60)[1] != 255).flatten(1).any(dim=1).all()


def test_a_class_of_one_voxel_comes_as_often_as_the_others():
    def labelled(labels):
        labels[10] = 0
        labels[10, 5:15, 5:15] = 1
        labels[4, 4, 4] = 2

    drawn = sampler(volume(labelled=labelled), strength=aug.Strength.none())
    hits = int((drawn.batch(150)[1] == 2).flatten(1).any(dim=1).sum())
    assert hits >= 30  # a third of 150 aim at it; by chance alone next to none would hit it


def test_labels_can_be_replaced():
    vol = volume(labelled=lambda labels: labels[5].fill_(1))
    drawn = sampler(vol)
    fresh = torch.full_like(vol.labels, 255)
    fresh[:, 7] = 2
    drawn.set_labels([fresh])
    labels = drawn.batch(4)[1]
    assert set(labels.unique().tolist()) == {2, 255}
    with pytest.raises(ValueError, match="no labelled voxel"):
        drawn.set_labels([torch.full_like(fresh, 255)])


def test_same_seed_same_patches():
    def labelled(labels):
        labels[10] = 1

    first, second = (
        sampler(volume(labelled=labelled), position=True, seed=3).batch(3) for _ in range(2)
    )
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_affine_is_a_rotation_and_scaling_in_mm():
    spacing = torch.tensor([4.0, 1.0, 0.5])
    strength = aug.Strength(rotation=90, scale=0.0)
    uniform = torch.rand((10, 3, 3), generator=torch.Generator().manual_seed(0))
    for affine in aug.random_affines(strength, spacing.repeat(10, 1), uniform):
        in_mm = torch.diag(spacing) @ affine @ torch.diag(1 / spacing)
        assert torch.allclose(in_mm @ in_mm.T, torch.eye(3), atol=1e-4)


def test_elastic_offsets_are_smooth_and_of_the_asked_size():
    spacing = torch.tensor([1.0, 1.0, 1.0])
    strength = aug.Strength(elastic=8.0, elastic_grid=16)
    sizes, steps = [], []
    for seed in range(20):
        offsets = displacements((32, 32, 32), strength, spacing, seed)
        assert offsets.shape == (32, 32, 32, 3)
        sizes.append(offsets.std().item())
        steps.append(offsets.diff(dim=0).abs().max().item())
    # The amount is uniform up to 8, and a B-spline leaves about 0.35 of it: 1.4 on the mean.
    assert 0.7 < np.mean(sizes) < 2.1
    assert max(steps) < 1.5, "neighbouring voxels must not be torn apart"


def test_position_runs_from_edge_to_edge():
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in (4, 5, 8)), indexing="ij")
    found = position_channels(torch.stack(axes, dim=-1), (4, 5, 8))
    assert found.shape == (3, 4, 5, 8)
    assert found[0, 0].unique().tolist() == [-0.75] and found[2, 0, 0, 7] == pytest.approx(0.875)


class TestPreprocess:
    def test_normalised_to_zero_mean_and_unit_variance(self):
        image = np.random.default_rng(0).gamma(2.0, 300.0, (2, 20, 30, 40)).astype(np.uint16)
        out = Normalisation.measure(image).apply(image)
        assert out.dtype == np.float32
        assert np.allclose(out.mean(axis=(1, 2, 3)), 0, atol=0.02)
        assert np.allclose(out.std(axis=(1, 2, 3)), 1, atol=0.02)

    def test_outliers_do_not_set_the_scale(self):
        image = np.random.default_rng(0).normal(100, 10, (1, 20, 30, 40)).astype(np.float32)
        clean = Normalisation.measure(image).sd[0]
        image[0, 0, 0, :5] = 1e9
        assert Normalisation.measure(image).sd[0] == pytest.approx(clean, rel=0.1)

    @pytest.mark.parametrize("share", [0.002, 0.015, 0.03])
    @pytest.mark.parametrize("metal", [3071, 30000, -20000])
    def test_metal_does_not_set_the_scale(self, share, metal):
        """A rod along k, which the annotated slices cross: the classes stay apart."""
        rng = np.random.default_rng(0)
        truth = np.zeros((20, 30, 40), np.uint8)
        truth[5:15, 8:22, 10:30], truth[8:12, 12:18, 15:25] = 1, 2
        image = rng.normal(np.choose(truth, (60, 160, 100)), 12).astype(np.float32)[None]
        labels = np.full(truth.shape, 255, np.uint8)
        labels[10], labels[:, 15] = truth[10], truth[:, 15]
        clean = Normalisation.measure(image, labels)
        assert clean == Normalisation.measure(image), "nothing changes without metal"
        bright = image.copy()
        bright[0].reshape(20, -1)[:, : int(share * truth[0].size)] = metal
        found = Normalisation.measure(bright, labels)
        assert found.sd[0] < 2 * clean.sd[0]
        out = found.apply(bright)[0]
        assert out[6, 10, 12:20].mean() - out[2, 2, 2:20].mean() > 1.2
        unlabelled = Normalisation.measure(bright)
        assert share < 0.01 or unlabelled.sd[0] > 2 * found.sd[0]

    def test_structures_far_apart_keep_their_range(self):
        """Bone in a CT is annotated, air is not: neither is clipped."""
        image = np.full((1, 10, 20, 20), 40.0, np.float32)
        image[0, :, :, :8], image[0, 2:8, 10:14, 10:14] = -1000, 1200
        labels = np.full(image.shape[1:], 255, np.uint8)
        labels[5] = (image[0, 5] > 1000).astype(np.uint8)
        found = Normalisation.measure(image, labels)
        assert found.low[0] == -1000 and found.high[0] == 1200

    @pytest.mark.parametrize("value", [0, 7])
    def test_a_constant_image_stays_finite(self, value):
        image = np.full((1, 8, 8, 8), value, np.int16)
        assert (Normalisation.measure(image).apply(image) == 0).all()

    def test_a_few_bright_voxels_in_a_constant_image_are_seen(self):
        image = np.zeros((1, 30, 30, 30), np.float32)
        image[0, 3, 3, 3] = 1.0
        out = Normalisation.measure(image).apply(image)
        assert out[0, 3, 3, 3] > out[0, 0, 0, 0] and np.isfinite(out).all()

    def test_reducing_loses_no_labelled_slice(self):
        labels = np.full((30, 40, 50), 255, np.uint8)
        labels[:, 7] = 0
        labels[11:14, 7, 20:30] = 2
        small = reduce_labels(labels, (10, 13, 17))
        known = small != 255
        assert known[:, 7 * 13 // 40].all() and known.sum() == 10 * 17
        assert (small == 2).any()

    def test_reduced_volume_keeps_its_extent(self):
        image = np.random.default_rng(0).normal(size=(1, 20, 30, 40)).astype(np.float32)
        vol = self.worked_on(image, np.zeros((20, 30, 40), np.uint8), (20, 15, 20))
        assert vol.image.shape == (1, 20, 15, 20) and vol.full_shape == (20, 30, 40)
        assert torch.allclose(vol.spacing, torch.tensor([2.0, 2.0, 2.0]))

    def test_a_finer_grid_keeps_image_and_labels_in_place(self):
        image = np.zeros((1, 10, 12, 14), np.float32)
        image[0, 4:7, 5:9, 6:10] = 1
        labels = np.full((10, 12, 14), 255, np.uint8)
        labels[5] = image[0, 5] > 0
        vol = self.worked_on(image, labels, (30, 24, 14), [AnnotatedSlice("k", 5)])
        assert vol.shape == (30, 24, 14)
        known = vol.labels != 255
        assert known[15:18].all() and not known[:15].any() and not known[18:].any()
        assert [str(s) for s in vol.slices] == ["k:16"]
        bright = torch.nonzero(vol.image[0] > vol.image.mean() + 1).float().mean(dim=0)
        assert torch.allclose(bright, torch.tensor([16.0, 13.5, 7.5]), atol=0.5)

    @staticmethod
    def worked_on(image, labels, shape, slices=()):
        geometry = Geometry(
            tuple(reversed(labels.shape)),
            (1.0, 1.0, 2.0),
            (0.0, 0.0, 0.0),
            (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0),
        )
        return working_volume(
            RunInput(image, labels, geometry, list(slices)),
            shape,
            Normalisation.measure(image),
            torch.device("cpu"),
        )

    def test_labels_and_slices_on_the_same_grid_stay_as_they_are(self):
        labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
        assert (labels_on(labels, (4, 5, 6)) == labels).all()
        slices = [AnnotatedSlice("i", 5), AnnotatedSlice("k", 0)]
        assert slices_on(slices, (4, 5, 6), (4, 5, 6)) == slices

    @pytest.mark.parametrize("size", [150, 165, 101, 37])
    def test_a_slice_stays_complete_on_a_coarser_grid(self, size):
        """Its labels and its number must come to lie in the same coarse plane."""
        for working in (size - 1, round(0.77 * size), round(0.5 * size), 9):
            for index in range(size):
                labels = np.full((4, size, 4), UNLABELLED, np.uint8)
                labels[:, index] = 1
                coarse = labels_on(labels, (4, working, 4))
                (found,) = slices_on([AnnotatedSlice("j", index)], labels.shape, coarse.shape)
                assert (coarse[found.selector()] == 1).all()

    def test_slices_on_a_coarser_grid(self):
        slices = [AnnotatedSlice("k", 8), AnnotatedSlice("k", 24), AnnotatedSlice("k", 25)]
        found = slices_on(slices, (32, 36, 40), (16, 18, 20))
        assert [str(s) for s in found] == ["k:4", "k:12"]
