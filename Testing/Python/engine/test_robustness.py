"""Images as microscopes and scanners make them, and memory that runs out: a sane result."""

import time

import numpy as np
import pytest
import torch
from test_priors import ellipsoid, iou

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.engine.compute.boxes import halved
from SparseSegNetLib.engine.compute.problems import out_of_memory
from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.interaction.commands import Commands
from SparseSegNetLib.engine.job import Job
from SparseSegNetLib.engine.networks import residual_unet
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning import auto_plan
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.prediction.inference import Predictor
from SparseSegNetLib.errors import EngineError
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (22, 26, 28)
pytestmark = pytest.mark.usefixtures("small_training")


def densified(path, image, truth, counts=(2, 2, 1), times=1, **options):
    """Labels uint8 (k, j, i) and events of a short run, of the volume so many times."""
    slices = spread_slices(counts, truth.shape, truth > 0)
    labels = restrict_to_slices(truth, slices)
    grid = Geometry(truth.shape[::-1], (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    segments = [Segment.numbered(v, v - 1) for v in range(1, int(truth.max()) + 1)]
    options = {"max_steps": 6, "device": "cpu", **options}
    folder = RunFolder.create(
        path, [RunInput(image[None], labels, grid, slices)] * times, segments, Options(**options)
    )
    events = []
    commands = Commands()
    Job(
        folder.path,
        commands,
        lambda event, **data: events.append({"event": event, **data}),
        time.monotonic(),
    ).run()
    assert events[-1]["event"] == "done"
    result = folder.read_result()
    assert (result[labels != UNLABELLED] == labels[labels != UNLABELLED]).all()
    return result, events


def balls():
    return (ellipsoid(SHAPE) > 0).astype(np.uint8)


def noise(scale=1.0):
    return scale * np.random.default_rng(0).normal(size=SHAPE)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param((100.0 * balls() + noise(5) - 1000).astype(np.int16), id="CT in HU with air"),
        pytest.param((2.0 * balls() + noise(0.2)).clip(0, 1).astype(np.float32), id="saturated"),
        pytest.param((balls() * 3e-6 + noise(2e-7)).astype(np.float32), id="tiny values"),
    ],
)
def test_kinds_of_images(tmp_path, image):
    result, _ = densified(tmp_path / "run", image, balls())
    assert iou(result, balls()) > 0.9


def test_16_bit_microscopy_with_hot_pixels(tmp_path):
    image = (300.0 + 200.0 * balls() + noise(20)).astype(np.uint16)
    image[np.random.default_rng(1).random(SHAPE) < 0.0005] = 65535
    result, _ = densified(tmp_path / "run", image, balls())
    assert iou(result, balls()) > 0.9


@pytest.mark.parametrize("value", [0, -1e6])
def test_a_constant_image_gives_the_shape_between_the_slices(tmp_path, value):
    """Nothing can be seen, so what the slices say is all there is."""
    result, _ = densified(tmp_path / "run", np.full(SHAPE, value, np.float32), balls(), (2, 2, 2))
    assert set(np.unique(result)) <= {0, 1}
    assert iou(result, balls()) > 0.5


def test_a_class_of_ten_voxels_is_not_lost(tmp_path):
    truth = balls()
    truth[10:12, 12:14, 13:16] = 2
    slices = spread_slices((2, 2, 1), truth.shape, truth > 0)
    shown = restrict_to_slices(truth, slices) == 2
    assert 1 <= shown.sum() <= 12, "the case is not the one meant"
    image = (truth + noise(0.1)).astype(np.float32)
    result, _ = densified(tmp_path / "run", image, truth)
    assert (result == 2).sum() >= shown.sum() and (result == 2).sum() < 200
    assert iou(result > 0, truth > 0) > 0.85


def test_an_unannotated_volume_beside_the_annotated_one(tmp_path):
    truth, image = balls(), (balls() + noise(0.1)).astype(np.float32)
    slices = spread_slices((3, 3, 3), truth.shape, truth > 0)
    grid = Geometry(truth.shape[::-1], (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    inputs = [
        RunInput(image[None], restrict_to_slices(truth, slices), grid, slices),
        RunInput(image[None], np.full_like(truth, UNLABELLED), grid),
    ]
    folder = RunFolder.create(
        tmp_path / "run", inputs, [Segment.numbered(1, 0)], Options(max_steps=40, device="cpu")
    )
    commands = Commands()
    Job(folder.path, commands, lambda event, **data: None, time.monotonic()).run()
    assert iou(folder.read_result(2), truth) > 0.8


def test_a_voxel_that_is_not_finite_never_reaches_a_weight(tmp_path):
    """The readers refuse or replace such voxels; should one come through, the run says no."""
    image = (balls() + noise(0.1)).astype(np.float32)
    image[3, 3, 3] = np.nan
    with pytest.raises(Exception, match="finite"):
        densified(tmp_path / "run", image, balls())


class TestOutOfMemory:
    @pytest.fixture(autouse=True)
    def usual_batches(self, small_training, monkeypatch):
        """Whose patches and tiles become smaller step by step."""
        monkeypatch.setitem(auto_plan.BATCHES, "cpu", (16**3, 32))

    def limited(self, monkeypatch, most):
        """A convolution that refuses more voxels than `most` at once, as an allocator would."""
        forward = residual_unet.ResidualUNet.forward

        def checked(self, x):
            if x[:, 0].numel() > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
            return forward(self, x)

        monkeypatch.setattr(residual_unet.ResidualUNet, "forward", checked)

    def test_training_goes_on_with_less(self, tmp_path, monkeypatch):
        self.limited(monkeypatch, 3000)  # less than one patch of 16^3
        result, events = densified(
            tmp_path / "run", (balls() + noise(0.1)).astype(np.float32), balls()
        )
        said = [e["text"] for e in events if e["event"] == "oom-recovered"]
        assert any("patches per step" in text for text in said)
        assert any("voxels instead of" in text for text in said)
        # Said once per tile size: what was found out is remembered.
        tiles = [text for text in said if "tiles of" in text]
        assert tiles and len(set(tiles)) == len(tiles)
        assert iou(result, balls()) > 0.9

    def test_prediction_takes_smaller_tiles(self, monkeypatch):
        torch.manual_seed(0)
        plan = make_plan(Fingerprint((32, 32, 32), (1, 1, 1), 1, 2, 99, 0), width=2)
        network = residual_unet.ResidualUNet(4, 2, plan.channels, plan.strides, plan.kernels)
        volume = WorkingVolume(
            torch.randn(1, 32, 32, 32), torch.zeros(32, 32, 32).byte(), torch.ones(3), (32, 32, 32)
        )
        self.limited(monkeypatch, 20_000)
        predictor = Predictor(network.eval(), 2, plan)
        found = predictor.probabilities(volume)
        assert found.shape == (2, 32, 32, 32) and torch.isfinite(found).all()
        assert predictor.plan.tile != plan.tile

    def test_where_no_step_fits_the_ensemble_is_the_result(self, tmp_path, monkeypatch):
        self.limited(monkeypatch, 1)
        result, events = densified(
            tmp_path / "run", (balls() + noise(0.1)).astype(np.float32), balls()
        )
        said = [e["text"] for e in events if e["event"] == "warning"]
        assert any("Tried: " in text and "Training ends here" in text for text in said)
        assert events[-1]["step"] == 0 and iou(result, balls()) > 0.8

    def test_without_an_ensemble_it_is_an_error(self, tmp_path, monkeypatch):
        self.limited(monkeypatch, 1)
        with pytest.raises(EngineError, match=r"out of memory while training .*Tried: "):
            densified(tmp_path / "run", (balls() + noise(0.1)).astype(np.float32), balls(), times=2)

    def test_what_counts(self):
        assert out_of_memory(MemoryError())
        assert out_of_memory(
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 9 bytes"
            )
        )
        assert not out_of_memory(RuntimeError("shapes differ"))
        assert not out_of_memory(ValueError("out of memory"))

    def test_halved(self):
        assert halved((32, 16, 16), (8, 8, 8)) == (16, 16, 16)
        assert halved((24, 16, 16), (8, 8, 8)) == (8, 16, 16)
        assert halved((8, 8, 8), (8, 8, 8)) is None
