"""The published trainings: they learn, their tiles are seamless, small volumes are mirrored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_deformation import resampled

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.engine.compute.number_formats import candidate_formats
from SparseSegNetLib.engine.compute.optimisers import make_optimiser
from SparseSegNetLib.engine.compute.schedules import planned_rate
from SparseSegNetLib.engine.data.bias_field import correct_bias
from SparseSegNetLib.engine.data.preprocessing import Normalisation, WorkingVolume, working_volume
from SparseSegNetLib.engine.data.sampling import Sampler
from SparseSegNetLib.engine.networks import build
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.recipes import RECIPES, published_plan
from SparseSegNetLib.engine.prediction.inference import Predictor
from SparseSegNetLib.engine.prediction.tiling import within
from SparseSegNetLib.engine.training.report import by_steps
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

# What makes each network small and quick enough for two cores; the rest is as published, but
# for V-Net's learning rate, which is made for 30,000 iterations.
QUICK = {
    "unet3d": ({"width": 4, "tile": (100, 100, 100)}, {}, 30),
    "fcn3d": ({"width": 4, "tile": (24, 24, 24)}, {}, 60),
    "vnet": ({"width": 4, "tile": (32, 32, 32), "kernel": 3}, {"learning_rate": 1e-2}, 60),
    "unet2d": ({"width": 4, "tile": (116, 116, 1)}, {}, 100),
}


def blobs(shape=(24, 26, 28)):
    """image (1, k, j, i) and dense truth: bright blobs of some 9 voxels in every slice."""
    waves = [np.sin((x + 2) / 3.0) for x in np.indices(shape)]
    truth = (sum(waves) > 0.3).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 0.1, shape)
    return (truth + noise).astype(np.float32)[None], truth


def volume_of(image, labels, slices=(), spacing=(1.0, 1.0, 1.0)):
    geometry = Geometry(
        tuple(reversed(labels.shape)),
        spacing[::-1],
        (0.0, 0.0, 0.0),
        (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0),
    )
    return working_volume(
        RunInput(image, labels, geometry, list(slices)),
        labels.shape,
        Normalisation.measure(image),
        torch.device("cpu"),
    )


def plan_of(name, shape=(24, 26, 28), channels=1, **settings):
    return published_plan(
        Fingerprint(shape, (1.0, 1.0, 1.0), channels, 2, 1, 0), Options(network=name, **settings)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_overfits_a_small_volume_from_sparse_slices(name):
    settings, changes, steps = QUICK[name]
    # A step of the 3D U-Net takes most of a second: the volume is what one tile predicts.
    image, truth = blobs((12, 12, 12)) if name == "unet3d" else blobs()
    slices = spread_slices((3, 3, 3), truth.shape)
    labels = restrict_to_slices(truth, slices)
    # Emulated bfloat16 takes ten times as long.
    dtype = candidate_formats(torch.device("cpu"))[0]
    plan = replace(plan_of(name, truth.shape, **settings), dtype=dtype, **changes)
    trainer = Trainer(plan, [volume_of(image, labels, slices)], 2, None, 0)
    trainer.train(by_steps(steps))
    found = trainer.predictor().probabilities(trainer.target).argmax(dim=0).numpy()
    assert found.shape == truth.shape
    for mask in (labels != UNLABELLED, labels == UNLABELLED):
        assert metrics.overlap(found, truth, 1, mask)[0]["iou"] > 0.95


@pytest.mark.parametrize("shape", [(13, 20, 30), (17, 9, 34)])
def test_valid_tiles_meet_without_a_seam(shape):
    """Without normalisation a voxel's value must not depend on the tile that it lies in."""
    torch.manual_seed(0)
    plan = plan_of("unet3d", shape, width=2, batch_norm=False, tile=(100, 108, 100))
    network = build(plan, 1, 2).eval()
    volume = WorkingVolume(
        torch.randn(1, *shape), torch.zeros(shape, dtype=torch.uint8), torch.ones(3), shape
    )
    small = Predictor(network, 2, plan).probabilities(volume)
    large = Predictor(network, 2, replace(plan, tile=(124, 124, 124))).probabilities(volume)
    assert small.shape == (2, *shape)
    assert torch.allclose(small, large, atol=1e-4)
    box = Predictor(network, 2, plan).probabilities(volume, (5, 3, 1), shape)
    assert torch.allclose(box, small[:, 5:, 3:, 1:], atol=1e-4)


def test_a_volume_smaller_than_the_tile_is_mirrored():
    shape = (5, 7, 6)
    volume = WorkingVolume(
        torch.arange(210.0).reshape(1, *shape),
        torch.zeros(shape, dtype=torch.uint8),
        torch.ones(3),
        shape,
    )
    seen = []

    class Watch(torch.nn.Module):
        def forward(self, x):
            seen.append(x[0, 0])
            return torch.zeros(1, 2, *(n - 88 for n in x.shape[2:]))

    plan = plan_of("unet3d", shape)
    out = Predictor(Watch(), 2, plan).probabilities(volume)
    assert out.shape == (2, *shape) and seen[0].shape == plan.patch
    wanted = np.pad(
        volume.image[0].numpy(),
        [(44, n - s - 44) for n, s in zip(plan.patch, shape, strict=True)],
        "symmetric",
    )
    assert (seen[0].numpy() == wanted).all()


def test_mirroring_repeats_the_border_voxel_and_wraps_as_often_as_needed():
    index = torch.arange(-7, 9)
    wanted = np.pad(np.arange(3), (7, 6), "symmetric")
    assert within(index, 3, True).tolist() == wanted.tolist()
    assert within(index, 3, False).tolist() == index.clamp(0, 2).tolist()


def test_training_patches_are_mirrored_like_tiles():
    """A patch that hangs over the border holds what prediction would show the network there."""
    shape = (20, 22, 24)
    labels = torch.zeros(shape, dtype=torch.uint8)
    volume = WorkingVolume(torch.randn(1, *shape), labels, torch.ones(3), shape)
    found, _, _ = resampled(volume.image, labels, (9.5, 10.5, 11.5), (100, 100, 100), mirror=True)
    wanted = volume.image
    for axis, n in enumerate(shape, start=1):
        index = torch.arange(100) - 50 + n // 2
        wanted = wanted.index_select(axis, within(index, n, True))
    assert torch.allclose(found, wanted, atol=1e-3)
    plan = plan_of("unet3d", shape, tile=(108, 100, 100))
    pixels, found, _ = Sampler([volume], 2, plan, torch.Generator().manual_seed(0)).batch(1)
    assert pixels.shape == (1, 1, 100, 100, 108) and found.shape == (1, 12, 12, 20)


@pytest.mark.parametrize("name", QUICK)
def test_every_patch_holds_labelled_voxels_however_strong_the_deformation(name):
    shape = (30, 30, 30)
    labels = torch.full(shape, 255, dtype=torch.uint8)
    labels[3, 4, 5], labels[20] = 1, 0
    volume = WorkingVolume(
        torch.randn(1, *shape), labels, torch.ones(3), shape, [AnnotatedSlice("k", 20)]
    )
    settings = QUICK[name][0] | ({"tile": (116, 116, 116)} if name == "unet3d" else {})
    plan = plan_of(name, shape, **settings)
    plan = replace(plan, strength=replace(plan.strength, elastic=40.0))
    sampler = Sampler([volume], 2, plan, torch.Generator().manual_seed(1))
    for _ in range(12):
        pixels, found, _ = sampler.batch(1)
        assert tuple(found.shape[1:]) == plan.output and tuple(pixels.shape[2:]) == plan.patch
        assert (found != UNLABELLED).any()


class TestPlanar:
    def slices_and_volume(self):
        shape = (20, 30, 40)
        labels = torch.full(shape, 255, dtype=torch.uint8)
        labels[:, 12], labels[:, 12, :9] = 0, 1
        image = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))
        slices = [AnnotatedSlice("j", 12)]
        return WorkingVolume(image, labels, torch.tensor([3.0, 1.0, 1.0]), shape, slices)

    def test_patches_lie_in_the_annotated_slice(self):
        volume = self.slices_and_volume()
        plan = plan_of("unet2d", volume.shape, 3, tile=(100, 100, 1))
        plan = replace(
            plan, strength=replace(plan.strength, contrast=0, brightness=0, noise=0, gamma=0)
        )
        sampler = Sampler([volume], 2, plan, torch.Generator().manual_seed(0))
        for _ in range(10):
            pixels, labels, _ = sampler.batch(1)
            assert pixels.shape == (1, 3, 1, 100, 100) and labels.shape == (1, 1, 12, 12)
            assert (pixels[0, 1] - 12).abs().max() < 1e-3, "not beside the slice"
            assert pixels[0, 2].max() > pixels[0, 2].min()
            assert (labels != UNLABELLED).any()

    def test_a_slice_is_predicted_from_itself_alone(self):
        volume = self.slices_and_volume()
        torch.manual_seed(0)
        plan = plan_of("unet2d", volume.shape, 3, width=2, tile=(100, 100, 1))
        predictor = Predictor(build(plan, 3, 2).eval(), 2, plan)
        before = predictor.slice_labels(volume, AnnotatedSlice("j", 12))
        volume.image[:, :, :12] += 100.0
        volume.image[:, :, 13:] -= 100.0
        assert torch.equal(predictor.slice_labels(volume, AnnotatedSlice("j", 12)), before)
        assert before.shape == (20, 40)

    def test_a_volume_is_predicted_along_the_annotated_axes(self):
        volume = self.slices_and_volume()
        torch.manual_seed(0)
        plan = plan_of("unet2d", volume.shape, 3, width=2, tile=(100, 100, 1))
        predictor = Predictor(build(plan, 3, 2).eval(), 2, plan)
        dense = predictor.probabilities(volume)
        assert dense.shape == (2, *volume.shape)
        for index in (0, 12, 29):
            assert torch.equal(
                dense.argmax(dim=0)[:, index],
                predictor.slice_labels(volume, AnnotatedSlice("j", index)),
            )


class TestRecipes:
    def test_vnet(self):
        plan = plan_of("vnet")
        assert (plan.batch, plan.learning_rate, plan.momentum, plan.drop_every) == (
            2,
            1e-4,
            0.99,
            25_000,
        )
        assert plan.patch == (64, 128, 128) and plan.kernels[0] == (5, 5, 5)
        rates = [planned_rate(plan, 0.5, steps) for steps in (0, 24_999, 25_000, 50_000)]
        assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-6])

    def test_fcn3d(self):
        plan = plan_of("fcn3d")
        assert (plan.batch, plan.learning_rate, plan.patch) == (3, 1e-2, (64, 64, 64))
        assert type(make_optimiser(plan, torch.nn.Linear(1, 1))) is torch.optim.Adam
        assert (plan.strength.rotation, plan.strength.translation) == (20.0, 20.0)

    def test_fcn3d_predicts_whole_planes_where_memory_allows(self):
        fingerprint = Fingerprint((300, 150, 170), (1.0, 1.0, 1.0), 1, 2, 1, 0)
        options = Options(network="fcn3d")
        assert published_plan(fingerprint, options, tile_voxels=1e9).tile == (64, 152, 176)
        assert published_plan(fingerprint, options, tile_voxels=1e5).tile == (64, 64, 64)

    def test_unet3d(self):
        plan = plan_of("unet3d")
        assert plan.patch == (116, 132, 132) and plan.output == (28, 44, 44)
        assert plan.batch == 1 and plan.overlap == 0 and plan.mirror
        assert plan.loss == "balanced cross-entropy" and plan.optimiser == "sgd"

    def test_none_averages_weights_or_clips_gradients(self):
        assert all(plan_of(name).ema == 0 == plan_of(name).clip for name in RECIPES)

    def test_class_weights_balance_the_whole_training_set(self):
        image, truth = blobs()
        trainer = Trainer(plan_of("unet3d", width=1), [volume_of(image, truth)], 2, None, 0)
        labels = torch.tensor([[[[0, 1]]]], dtype=torch.uint8)
        background, inside = (
            trainer.loss(torch.tensor([[[[[a, 0.0]]], [[[0.0, b]]]]]), labels)
            for a, b in ((0.0, 9.0), (9.0, 0.0))
        )
        # Each leaves one voxel undecided; the rarer class must cost more in proportion.
        share = (truth == 0).sum() / (truth == 1).sum()
        assert (inside / background).item() == pytest.approx(share, rel=0.01)


class TestBiasField:
    def test_removes_a_smooth_field(self):
        shape = (32, 40, 40)
        k, j, i = np.indices(shape) / 40
        tissue = np.where((j - 0.5) ** 2 + (i - 0.5) ** 2 < 0.1, 200.0, 20.0)
        field = 1 + 0.8 * k + 0.4 * i
        image = (tissue * field)[None].astype(np.float32)
        inside = tissue > 100

        def spread(values):
            return values[0][inside].std() / values[0][inside].mean()

        assert spread(correct_bias(image, (1, 1, 1))) < 0.35 * spread(image)

    @pytest.mark.parametrize("value", [0, -1000])
    def test_leaves_a_constant_image_alone_and_bears_negative_values(self, value):
        image = np.full((1, 12, 12, 12), value, np.int16)
        assert (correct_bias(image, (1, 1, 1)) == value).all()
        image[0, 3:9, 3:9, 3:9] += 500
        assert np.isfinite(correct_bias(image, (1, 1, 1))).all()

    def test_can_be_broken_off(self):
        image = np.random.default_rng(0).random((1, 24, 24, 24)).astype(np.float32)

        def stop():
            raise InterruptedError

        with pytest.raises(InterruptedError):
            correct_bias(image, (1, 1, 1), stop)
