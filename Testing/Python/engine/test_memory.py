"""Memory that runs out, number formats that a device refuses, another device: it goes on."""

import time
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from test_changed_labels import stacked_trainer
from test_folds import KINDS, drawn
from test_robustness import densified
from torch.utils._python_dispatch import TorchDispatchMode

from SparseSegNetLib.engine.compute import number_formats
from SparseSegNetLib.engine.compute.memory import retry_smaller
from SparseSegNetLib.engine.compute.number_formats import tried
from SparseSegNetLib.engine.compute.problems import classify, out_of_memory
from SparseSegNetLib.engine.interaction import callback
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning import auto_plan, probe
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.planning.probe import choose_plan
from SparseSegNetLib.engine.stacking import voxel_classifier
from SparseSegNetLib.engine.training.averaged_weights import update_average
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.errors import EngineError
from SparseSegNetLib.runfolder.options import Options

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fewer_steps(monkeypatch):
    """Of the shallow models: how well they learn is not what is looked at here."""
    monkeypatch.setattr(voxel_classifier, "STEPS", (5, 20))


class Allocator(TorchDispatchMode):
    """Refuses tensors of more than `limit` bytes, as a device's allocator would; remembers the
    largest that was asked for."""

    def __init__(self, limit=float("inf")):
        super().__init__()
        self.limit, self.largest = limit, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if torch.is_tensor(tensor) and not function.is_view:
                size = tensor.untyped_storage().nbytes()
                self.largest = max(self.largest, size)
                if size > self.limit:
                    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size}.")
        return out


def balls(shape=(14, 16, 18)):
    at = np.indices(shape)
    radius = sum(((x - (n - 1) / 2) / (0.4 * n)) ** 2 for x, n in zip(at, shape, strict=True))
    truth = (radius < 1).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 0.1, shape)
    return (truth + noise).astype(np.float32), truth


def test_a_run_ends_with_a_result_or_says_what_was_tried(tmp_path, monkeypatch):
    for name, value in (("BATCH", 64), ("AT_ONCE", 256)):
        monkeypatch.setattr(voxel_classifier, name, value)
    image, truth = balls()
    recovered, failed = [], []
    for limit in (50_000_000, 1_000_000, 2_000):  # bytes
        try:
            with Allocator(limit):
                result, events = densified(
                    tmp_path / str(limit), image, truth, (1, 1, 0), max_steps=1
                )
        except EngineError as error:
            assert error.code == "out-of-memory" and "Tried: " in error.cause and error.remedy
            failed.append(limit)
            continue
        assert result.shape == truth.shape and not failed, "less memory does not help"
        said = [e["text"] for e in events if e["event"] == "oom-recovered"]
        assert all(text.startswith("memory ran out: it goes on with ") for text in said)
        recovered.append(len(said))
    assert recovered[0] == 0 < recovered[1] and failed == [2_000], "from enough to too little"


def test_the_probe_shrinks_what_it_measures(monkeypatch):
    """In the probe as in training: fewer patches, then smaller ones."""
    monkeypatch.setattr(probe, "MIDDLE", 4)
    monkeypatch.setattr(probe, "WIDTHS", ((4, 0),))
    monkeypatch.setitem(auto_plan.BATCHES, "cpu", (8**3, 8))
    monkeypatch.setattr(probe, "candidate_formats", lambda device: ["float32"])
    _, volume = drawn(*KINDS["half slices"]())
    middle = np.s_[5:25, 8:28, 10:30]
    volume = replace(
        volume,
        image=volume.image[:, *middle],
        labels=volume.labels[middle],
        full_shape=(20, 20, 20),
        slices=[],
    )
    fingerprint = Fingerprint(volume.shape, (1, 1, 1), 1, 3, 1000, 3)

    def settled(limit):
        with Allocator(limit) as allocator:
            plan, _ = choose_plan(
                fingerprint,
                Options(network="auto", device="cpu"),
                lambda shape: volume,
                CPU,
                5.0,
                volume.shape,
                whole=True,
            )
        return plan, allocator.largest

    plan, _ = settled(float("inf"))
    sizes = [plan.batch * np.prod(plan.patch)]
    for limit in (100_000, 97_000):  # bytes; the volume with its inputs takes 96,000
        less, _ = settled(limit)
        assert less.trainable
        sizes.append(less.batch * np.prod(less.patch))
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]
    trainer = Trainer(plan, [volume], 3, None, 0)
    with (
        Allocator(2000),
        pytest.raises(EngineError, match="Tried: 4 patches per step instead of 8; 2"),
    ):
        trainer.step_or_shrink(0.0)


def test_shrinking_ends_where_batch_normalisation_ends():
    trainer, _ = stacked_trainer()
    while trainer._shrink() is not None:
        assert trainer.plan.trainable
        trainer.sampler.plan = trainer.plan
    assert trainer.step(0.0) is not None, "the least that is left can be trained"
    assert not replace(trainer.plan, batch=1, patch=trainer.plan.divisor).trainable


def test_a_loop_of_attempts():
    left = ["half", "a quarter"]
    told = []

    def action():
        if left:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 7

    assert retry_smaller(action, lambda: left.pop(0), told.append, CPU, "trying") == 7
    assert told == ["half", "a quarter"]
    with pytest.raises(ValueError, match="no memory"):
        retry_smaller(lambda: int("no memory"), lambda: "less", told.append, CPU, "trying")

    def never():
        raise MemoryError

    with pytest.raises(EngineError, match="while trying \\(MemoryError\\)") as caught:
        retry_smaller(never, lambda: None, told.append, CPU, "trying")
    assert caught.value.code == "out-of-memory"


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "HIP out of memory",
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "[enforce fail at alloc_cpu.cpp:115] data. DefaultCPUAllocator: not enough memory: you"
        " tried to allocate 8 bytes.",
        "DefaultCPUAllocator: can't allocate memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "std::bad_alloc",
        "could not create a primitive",
    ],
)
def test_what_says_that_memory_ran_out(text):
    assert out_of_memory(RuntimeError(text))
    problem = classify(RuntimeError(text))
    assert problem.code == "out-of-memory" and "fault in SparseSegNet" not in str(problem)


@pytest.mark.parametrize(
    "text",
    [
        "could not create a primitive descriptor for a convolution",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "shapes differ",
    ],
)
def test_what_does_not(text):
    assert not out_of_memory(RuntimeError(text))


def test_a_number_format_that_the_device_refuses_is_dropped():
    def refuses():
        raise RuntimeError("\"slow_conv3d\" not implemented for 'BFloat16'")

    def exhausts():
        raise MemoryError

    assert tried([refuses, lambda: 32]) == [32]
    with pytest.raises(RuntimeError, match="not implemented"):
        tried([lambda: 16, refuses])
    with pytest.raises(MemoryError):
        tried([exhausts, refuses])


def test_a_number_format_that_is_emulated_is_not_tried(monkeypatch):
    for bfloat16, expected in (
        (0.5, ["bfloat16", "float32"]),
        (1.9, ["bfloat16", "float32"]),
        (30.0, ["float32"]),
        (0.1, ["bfloat16", "float32"]),
    ):
        monkeypatch.setattr(
            number_formats,
            "_convolution_seconds",
            lambda device, name, b=bfloat16: b if name == "bfloat16" else 1.0,
        )
        assert number_formats.candidate_formats(CPU) == expected


@pytest.mark.parametrize("fast", ["bfloat16", "float32"])
def test_shallow_models_take_the_format_that_products_are_fastest_in(monkeypatch, fast):
    def taken(action, device):
        return 1.0 if action().dtype == getattr(torch, fast) else 2.0

    monkeypatch.setattr(number_formats, "seconds_taken", taken)
    assert number_formats.fastest_product(CPU) == fast


def test_the_probe_does_without_bfloat16(monkeypatch):
    """As on older cards, whose convolutions know float32 and float16 alone."""
    _, volume = drawn(*KINDS["half slices"]())
    convolution = torch.nn.functional.conv3d

    def refuse(pixels, *args, **options):
        if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16:
            raise RuntimeError("conv3d not implemented for 'BFloat16'")
        return convolution(pixels, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "conv3d", refuse)
    monkeypatch.setattr(
        torch.nn.Conv3d,
        "_conv_forward",
        lambda self, x, w, b: refuse(
            x, w, b, self.stride, self.padding, self.dilation, self.groups
        ),
    )
    for network in ("auto", "vnet"):
        fingerprint = Fingerprint(volume.shape, (1, 1, 1), 1, 3, 1000, 3)
        own = {} if network == "auto" else {"width": 4, "tile": (16, 16, 16)}
        options = Options(network=network, device="cpu", **own)
        plan, _ = choose_plan(fingerprint, options, lambda shape: volume, CPU, 60.0, volume.shape)
        assert plan.dtype == "float32"


def tensors(thing, path="", seen=None):
    """All tensors that can be reached from an object, each with how."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if torch.is_tensor(thing):
        yield path, thing
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from tensors(value, f"{path}[{key!r}]", seen)
    elif isinstance(thing, (list, tuple, set)):
        for number, value in enumerate(thing):
            yield from tensors(value, f"{path}[{number}]", seen)
    elif isinstance(thing, torch.nn.Module):
        yield from tensors(dict(thing.named_parameters()) | dict(thing.named_buffers()), path, seen)
    elif is_dataclass(thing) and not isinstance(thing, type):
        for each in fields(thing):
            yield from tensors(getattr(thing, each.name), f"{path}.{each.name}", seen)
    elif callable(thing) and getattr(thing, "__closure__", None):
        for cell in thing.__closure__:
            yield from tensors(cell.cell_contents, f"{path}(closure)", seen)
    elif type(thing).__module__.startswith("SparseSegNetLib"):
        yield from tensors(vars(thing), path, seen)


def test_nothing_stays_behind_on_the_other_device():
    """As a pause does, with a device that is another one: torch's meta device."""
    trainer, _ = stacked_trainer(held=True)
    trainer.step(0.1)
    trainer._keep_if_best(trainer.score_held_out())
    labels = trainer.target.labels.clone()
    labels[2:4] = 1
    trainer.change_labels(0, labels, trainer.target.slices)
    trainer._keep_if_best([])
    assert trainer.sampler._favoured is not None and trainer.best is not None
    folds = len({id(f.image) for f in trainer.training_set.stack.folds})
    trainer.move(torch.device("meta"))
    # On the CPU in any case: what chooses patches (places of voxels, millimetres, counters), and
    # the disagreement, of which sums over slices are made.
    stays = ("_index", "_favourites", "['step']", ".spacing", ".disagreement")
    left = [
        path
        for path, t in tensors(trainer)
        if t.device.type != "meta" and not any(word in path for word in stays)
    ]
    assert left == [], "these tensors stay on the device that is to be freed"
    found = dict(tensors(trainer))
    assert any("_favoured" in path for path in found) and any("best" in path for path in found)
    assert len({id(f.image) for f in trainer.training_set.stack.folds}) == folds
    assert trainer.split.fold in trainer.training_set.stack.folds, (
        "a volume that is two things stays one"
    )


def test_a_step_waits_for_its_device_only_to_read_the_loss():
    """Torch's meta device knows no values: whatever asked for one would be an error."""
    trainer, _ = stacked_trainer()
    # No random numbers can be drawn there, as the noise would be.
    trainer.plan = replace(trainer.plan, strength=replace(trainer.plan.strength, noise=0.0))
    trainer.sampler.plan = trainer.plan
    trainer.step(0.1)
    trainer.move(torch.device("meta"))
    trainer.device = CPU  # autocast knows no meta device
    before = dict(trainer.optimiser.state)
    measured = trainer._gradient()
    trainer.optimiser.step()
    update_average(trainer.average, trainer.network, 1, 0.99)
    assert measured.device.type == "meta" and measured.shape == (2,) and before
    with pytest.raises((NotImplementedError, RuntimeError)):
        trainer.step(0.2)


def test_after_a_pause_it_goes_on_where_there_is_memory():
    """The device is full when the pause ends: training goes on on the CPU."""
    trainer, _ = stacked_trainer()
    moved, said = [], []

    def move(device):
        moved.append(str(device))
        if str(device) == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.move, trainer.device = move, torch.device("cuda")
    live = callback.TrainingCallback.__new__(callback.TrainingCallback)
    live.trainer, live.checkpoint = trainer, lambda: None
    live.clock = callback.Clock(10, time.monotonic())

    class Reporter:
        recovered = staticmethod(said.append)

    live.commands, live.reporter = None, Reporter()
    before = callback.pause
    callback.pause = lambda commands, reporter: None
    try:
        live._pause()
    finally:
        callback.pause = before
    assert moved == ["cpu", "cuda", "cpu"] and said == ["the CPU instead of cuda"]


@pytest.mark.parametrize("shape", [(1, 20, 22), (20, 2, 22), (20, 22, 3), (3, 40, 8), (2, 2, 30)])
@pytest.mark.parametrize("finest", [1, 2, 4])
def test_registration_of_thin_volumes(shape, finest):
    from SparseSegNetLib.engine.priors.propagation import Propagation

    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    found = Propagation(image, (1.0, 1.0, 1.0), (0, 1, 2), finest)
    for axis, (up, down) in found._fields.items():
        plane = tuple(n for a, n in enumerate(shape) if a != axis)
        assert up.shape == down.shape == (shape[axis] - 1, 2, *plane)
        assert torch.isfinite(up).all() and torch.isfinite(down).all()


@pytest.mark.parametrize("shape", [(1, 24, 26), (24, 2, 26), (24, 26, 3)])
def test_thin_volumes_from_labels_to_result(tmp_path, shape):
    image, truth = balls(tuple(max(n, 9) for n in shape))
    middle = tuple(
        slice((m - n) // 2, (m - n) // 2 + n) for n, m in zip(shape, truth.shape, strict=True)
    )
    image, truth = image[middle], truth[middle]
    counts = tuple(2 if n > 3 else 0 for n in reversed(shape))
    result, events = densified(tmp_path / "run", image, truth, counts, max_steps=2)
    assert result.shape == shape and events[-1]["step"] == 2
    assert make_plan(Fingerprint(shape, (1, 1, 1), 1, 2, 9, 4)).trainable
