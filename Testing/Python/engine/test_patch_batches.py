"""A batch of patches: each as if it were cut and varied alone, and nothing waits for the device."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.compute.sending import sent
from SparseSegNetLib.engine.data import augmentation as aug
from SparseSegNetLib.engine.data import sampling
from SparseSegNetLib.engine.data.deformation import bspline_fields
from SparseSegNetLib.engine.data.draws import placed
from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.data.sampling import Sampler
from SparseSegNetLib.engine.plan import Fingerprint, Plan
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.planning.recipes import RECIPES
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.engine.trial import miniature

META = torch.device("meta")
PLANAR = replace(RECIPES["unet2d"].strength, gamma=0.3, noise=0.1)
KINDS = {
    "auto": (aug.Strength(), (8, 10, 12)),
    "flips and half of a patch": (aug.Strength(flips=True, rotation=40.0), (12, 12, 12)),
    "nothing": (aug.Strength.none(), (8, 8, 8)),
    "planar": (PLANAR, (1, 14, 16)),
    "other histograms": (replace(RECIPES["vnet"].strength, contrast=0.1), (8, 12, 12)),
}


def volumes():
    """Three volumes of other shapes and spacings; the second does not tell class 1."""
    made = []
    for n, shape in enumerate([(20, 24, 28), (16, 24, 22), (20, 30, 18)]):
        image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(n))
        labels = torch.full(shape, 255, dtype=torch.uint8)
        labels[8], labels[8, 4:9, 4:9], labels[:, 11] = 0, 1, 2
        slices = [AnnotatedSlice("k", 8), AnnotatedSlice("j", 11)]
        unknown = (1,) if n == 1 else ()
        made.append(
            WorkingVolume(image, labels, torch.tensor([2.0, 1.0, 0.8 + n]), shape, slices, unknown)
        )
    return made


def sampler(kind, seed=0):
    strength, patch = KINDS[kind]
    plan = Plan((20, 24, 28), (1.0,) * 3, patch, patch, (), ((3, 3, 3),), 4, 1, strength=strength)
    if kind.startswith("flips"):
        plan = replace(plan, margin=(3, 2, 1), mirror=True)
    return Sampler(volumes(), 3, plan, torch.Generator().manual_seed(seed))


def drawn(made, size):
    draws = sampling.Draws()
    for _ in range(size):
        made._draw(draws)
    return draws


def one_by_one(made, draws):
    """The patches of a batch, each computed alone by the plain formulas."""
    plan, strength, channels = made.plan, made.plan.strength, 2
    here = placed(draws, made.volumes, plan)
    for n, number in enumerate(draws.numbers):
        volume = made.volumes[number]
        index = torch.meshgrid(*(torch.arange(float(s)) for s in plan.patch), indexing="ij")
        local = torch.stack(index, -1) - torch.tensor([(s - 1) / 2 for s in plan.patch])
        at = local @ here["affines"][n].T + here["centres"][n]
        if "controls" in here:
            spline = bspline_fields(here["controls"][n, None], plan.patch, strength.elastic_grid)
            field = spline[0].movedim(0, -1)
            place = torch.linalg.solve(
                here["affines"][n], torch.tensor(draws.voxels[n]).float() - here["centres"][n]
            )
            where = [
                min(max(0, round(float(x) + (s - 1) / 2)), s - 1)
                for x, s in zip(place, plan.patch, strict=True)
            ]
            at = at + field - field[tuple(where)]
        position = (2 * at + 1) / torch.tensor(volume.shape) - 1
        padding = "reflection" if plan.mirror else "border"
        pixels = F.grid_sample(
            volume.image[None],
            position.flip(-1)[None],
            padding_mode=padding,
            align_corners=False,
        )[0]
        for channel in range(channels):
            x = pixels[channel]
            if strength.histogram:
                own, other = made._quantiles[number], made._quantiles[draws.targets[n]]
                x = _matched(x, own[channel], other[channel])
            contrast, brightness, gamma, noise = draws.intensities[n * channels + channel].tolist()
            if strength.gamma and abs(gamma) > 0.5:
                low, reach = x.min(), (x.max() - x.min()).clamp_min(1e-6)
                power = (1 + strength.gamma) ** (4 * (abs(gamma) - 0.75))
                x = ((x - low) / reach) ** power * reach + low
            x = x * (1 + strength.contrast) ** contrast + strength.brightness * brightness
            seed = draws.seeds[n * channels + channel]
            assert (seed is not None) == (strength.noise > 0 and noise > 0)
            if seed is not None:
                own = torch.Generator().manual_seed(seed)
                x = x + strength.noise * noise * torch.randn(plan.patch, generator=own)
            pixels[channel] = x
        inner = tuple(slice(m, s - m) for m, s in zip(plan.margin, plan.patch, strict=True))
        nearest = at[inner].round().long()
        labels = torch.full(nearest.shape[:3], 255, dtype=torch.uint8)
        inside = ((nearest >= 0) & (nearest < torch.tensor(volume.shape))).all(-1)
        labels[inside] = volume.labels[tuple(nearest[inside].T)]
        yield torch.cat((pixels, position.movedim(-1, 0))), labels, volume.unknown


def _matched(x, own, other):
    """By numpy's rule for piecewise linear functions."""
    return torch.from_numpy(np.interp(x.numpy(), own.numpy(), other.numpy())).float()


@pytest.mark.parametrize("kind", KINDS)
def test_patches_of_a_batch_are_those_cut_one_by_one(kind):
    made = sampler(kind)
    draws = drawn(made, 10)
    assert len(set(draws.numbers)) == 3, "patches of all volumes"
    pixels, labels, unknown = made.cut(draws)
    assert pixels.shape[2:] == made.plan.patch and labels.shape[1:] == made.plan.output
    differing = 0
    for n, (patch, truth, classes) in enumerate(one_by_one(made, draws)):
        assert torch.allclose(pixels[n], patch, atol=2e-4), n
        # Halfway between two voxels rounding decides.
        differing += int((labels[n] != truth).sum())
        assert unknown[n].nonzero()[:, 0].tolist() == list(classes)
    assert differing <= 1e-3 * labels.numel() and (labels != 255).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_the_same_as_its_patches_drawn_one_after_the_other(kind):
    whole, parts = sampler(kind), sampler(kind)
    pixels, labels, _ = whole.batch(6)
    for n in range(6):
        one, own, _ = parts.batch(1)
        assert torch.allclose(pixels[n], one[0], atol=1e-4)
        assert (labels[n] != own[0]).float().mean() < 1e-3
    assert torch.equal(whole.generator.get_state(), parts.generator.get_state())


class Transfers(TorchDispatchMode):
    """Counts the copies from the CPU to another device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [a for a in args if torch.is_tensor(a) and a.dim()]
        if torch.is_tensor(out) and out.device == META:
            self.found += [str(function) for t in tensors if t.device.type == "cpu"]
        return out


class FromNumbers(TorchFunctionMode):
    """Finds tensors that are made of Python's numbers on another device, for which a card waits."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function in (torch.tensor, torch.as_tensor) and out.device == META:
            self.found.append(args[0])
        return out


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_sent_to_the_device_in_one_copy(kind):
    """On a device without values, so that nothing can be read back."""
    made = sampler(kind)
    expected = made.batch(5)
    made.plan = replace(made.plan, strength=replace(made.plan.strength, noise=0.0))
    made.move([v.to(META) for v in made.volumes], META)
    made.batch(1)  # splines' weights, which stay there
    with Transfers() as transfers, FromNumbers() as numbers:
        found = made.batch(5)
    for there, here in zip(found[:2], expected[:2], strict=True):
        assert there.device == META and there.shape == here.shape
    assert len(transfers.found) == 1 and not numbers.found, (transfers.found, numbers.found)


def test_a_whole_step_sends_nothing_else_to_the_device():
    trainer = Trainer(miniature.small_plan("float32"), [miniature.small_volume()], 3, None, 0)
    quiet = replace(trainer.plan.strength, noise=0.0)  # no random numbers are drawn on that device
    trainer.plan = trainer.sampler.plan = replace(trainer.plan, strength=quiet)
    trainer.step(0.3)
    trainer.move(META)
    trainer.device = torch.device("cpu")  # autocast does not know it
    trainer._gradient()
    with Transfers() as transfers, FromNumbers() as numbers:
        trainer._gradient()
        trainer.optimiser.step()
    assert len(transfers.found) == 1 and not numbers.found, (transfers.found, numbers.found)


def test_what_is_sent_arrives_as_it_was(monkeypatch):
    numbers = {
        "flags": torch.tensor([True, False, True]),
        "none": torch.zeros(0),
        "places": torch.arange(6).view(2, 3) << 40,
        "shares": torch.rand(3, 5).T,
    }
    assert sent(numbers, torch.device("cpu")) is numbers
    there = sent(numbers, META)
    assert {n: (t.shape, t.dtype, t.device) for n, t in there.items()} == {
        n: (t.shape, t.dtype, META) for n, t in numbers.items()
    }
    # A device that is the CPU under another name, so that values can be compared.
    other = torch.device("cuda")
    copy = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, to, **how: copy(self, "cpu"))
    for name, tensor in sent(numbers, other).items():
        assert torch.equal(tensor, numbers[name]) and tensor.dtype == numbers[name].dtype


def test_noise_of_a_batch_has_the_size_of_each_row():
    vol = volumes()[0]
    vol = replace(vol, image=torch.zeros_like(vol.image))
    plan = replace(make_plan(Fingerprint(vol.shape, (1.0,) * 3, 2, 3, 900, 2)), position=False)
    quiet = replace(aug.Strength.none(), noise=0.2)
    made = Sampler([vol], 3, replace(plan, strength=quiet), torch.Generator().manual_seed(0))
    draws = drawn(made, 20)
    spread = made.cut(draws)[0].flatten(2).std(dim=2).flatten()
    wanted = torch.stack(draws.intensities)[:, 3].clamp_min(0) * 0.2
    assert torch.allclose(spread, wanted, rtol=0.1) and 0.2 < (wanted == 0).float().mean() < 0.8
