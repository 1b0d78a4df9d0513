"""The published networks are the published networks: parameters, shapes, receptive fields."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from SparseSegNetLib.engine.compute.tensors_file import read_tensors, save_tensors
from SparseSegNetLib.engine.describe import Living, describe, training_memory
from SparseSegNetLib.engine.networks import build
from SparseSegNetLib.engine.networks.blocks import Conv3d
from SparseSegNetLib.engine.networks.receptive_field import receptive_field, receptive_fields
from SparseSegNetLib.engine.networks.residual_unet import ResidualUNet
from SparseSegNetLib.engine.networks.unet import PlaneUNet, UNet
from SparseSegNetLib.engine.networks.vnet import VNet
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.planning.recipes import published_plan
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.presets import PRESETS

PUBLISHED = ("unet3d", "fcn3d", "vnet", "unet2d")


def on_meta(kind, *arguments, **settings):
    with torch.device("meta"):
        return kind(*arguments, **settings)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def shape_for(network, *shape):
    return tuple(network(torch.empty(shape, device="meta")).shape)


def small(name, **settings):
    """A slim network of that preset, with its plan."""
    options = Options(network=name, width=2, **settings)
    plan = published_plan(Fingerprint((40, 40, 40), (1.0, 1.0, 1.0), 1, 3, 1, 6), options)
    return build(plan, 1, 3), plan


class TestUNet3D:
    def test_has_exactly_the_published_number_of_parameters(self):
        assert parameters(on_meta(UNet, 3, 3, norm="none")) == 19_069_955
        assert parameters(on_meta(UNet, 3, 3, norm="tile")) == 19_069_955 + 4_672

    def test_takes_and_gives_the_published_tiles(self):
        assert shape_for(on_meta(UNet, 3, 3), 1, 3, 116, 132, 132) == (1, 3, 28, 44, 44)

    def test_channels_double_before_the_pooling(self):
        convolutions = [m for m in on_meta(UNet, 3, 3).modules() if isinstance(m, nn.Conv3d)]
        assert [m.out_channels for m in convolutions] == [
            32,
            64,
            64,
            128,
            128,
            256,
            256,
            512,
            256,
            256,
            128,
            128,
            64,
            64,
            3,
        ]
        ups = [m for m in on_meta(UNet, 3, 3).modules() if isinstance(m, nn.ConvTranspose3d)]
        assert [(m.in_channels, m.out_channels) for m in ups] == [
            (512, 512),
            (256, 256),
            (128, 128),
        ]

    def test_normalises_before_each_relu_with_the_tiles_own_statistics(self):
        network, _ = small("unet3d")
        kinds = [type(m) for m in network.modules() if isinstance(m, (nn.BatchNorm3d, nn.ReLU))]
        assert kinds == [nn.BatchNorm3d, nn.ReLU] * 14
        tile = torch.randn(1, 1, 100, 100, 100)
        with torch.inference_mode():
            assert torch.equal(network.eval()(tile), network.train()(tile))
        assert not dict(network.named_buffers()), "no running averages"

    def test_without_batch_normalisation(self):
        network, plan = small("unet3d", batch_norm=False)
        assert plan.norm == "none"
        assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)]


def test_fcn3d_keeps_the_size_and_has_about_19_million_parameters():
    network = on_meta(UNet, 1, 8, padded=True, norm="batch")
    assert shape_for(network, 3, 1, 64, 64, 64) == (3, 8, 64, 64, 64)
    assert 18.5e6 < parameters(network) < 19.5e6


def test_unet2d_is_the_same_network_with_one_dimension_less():
    network = on_meta(PlaneUNet, 1, 2)
    assert shape_for(network, 1, 1, 1, 188, 188) == (1, 2, 1, 100, 100)
    flat = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    full = [m.out_channels for m in on_meta(UNet, 1, 2).modules() if isinstance(m, nn.Conv3d)]
    assert flat == full


class TestVNet:
    STAGES = (
        "left.0",
        "left.1",
        "left.2",
        "left.3",
        "left.4",
        "right.0",
        "right.1",
        "right.2",
        "right.3",
    )

    def test_has_the_published_receptive_fields(self):
        """Milletari 2016, Table 1."""
        fields = receptive_fields(on_meta(VNet, 1, 2))
        found = [
            [size for name, size in fields.items() if name.startswith(f"{stage}.")][-1]
            for stage in self.STAGES
        ]
        assert found == [(n, n, n) for n in (5, 22, 72, 172, 372, 476, 528, 546, 551)]

    def test_keeps_the_size_of_the_published_volume(self):
        assert shape_for(on_meta(VNet, 1, 2), 2, 1, 64, 128, 128) == (2, 2, 64, 128, 128)

    def test_stages(self):
        network = on_meta(VNet, 1, 2)
        assert [len(s.convolutions) for s in network.left] == [1, 2, 3, 3, 3]
        assert [len(s.convolutions) for s in network.right] == [3, 3, 2, 1]
        assert [s.outputs for s in network.left] == [16, 32, 64, 128, 256]
        assert [s.outputs for s in network.right] == [256, 128, 64, 32]
        assert not [m for m in network.modules() if isinstance(m, (nn.ReLU, nn.BatchNorm3d))]

    def test_a_stage_learns_a_residual(self):
        network = VNet(2, 2, width=4)
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        stage = network.left[0]
        for activation in stage.activations:
            nn.init.ones_(activation.weight)  # PReLU with slope 1 lets everything through
        x = torch.randn(1, 2, 4, 4, 4)
        assert torch.equal(stage(x), x.repeat(1, 2, 1, 1, 1))

    def test_the_cheap_kernel_has_a_fifth_of_the_weights(self):
        ratio = parameters(on_meta(VNet, 1, 2, kernel=3)) / parameters(on_meta(VNet, 1, 2))
        assert 0.2 < ratio < 0.25

    def test_other_kernels_are_refused(self):
        with pytest.raises(ValueError, match=r"5 \(published\) or 3"):
            VNet(1, 2, kernel=7)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_shapes_are_what_the_plan_says(name):
    network, plan = small(name)
    with torch.device("meta"):
        network = network.to("meta")
        assert tuple(network(torch.empty(1, 1, *plan.patch)).shape) == (1, 3, *plan.output)


@pytest.mark.parametrize(
    "network",
    [
        ResidualUNet(1, 2, (2, 4, 8), ((1, 2, 2), (2, 2, 2)), ((1, 3, 3), (3, 3, 3), (3, 3, 3))),
        UNet(1, 2, 1, padded=True, norm="none"),
        VNet(1, 2, 2, kernel=3),
    ],
    ids=("auto", "fcn", "vnet"),
)
def test_no_voxel_sees_farther_than_its_receptive_field(network):
    """The count bounds what the gradient says, and is not far above it."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.05)  # nothing cancels and no ReLU is closed
    network = network.eval()
    field = receptive_field(network)
    size = [32 * (n // 32 + 1) if n < 100 else 128 for n in field]
    if max(field) > 128:  # larger than is worth computing: the middle must see everything
        image = torch.rand(1, 1, *[64] * 3).requires_grad_()
        network(image)[0, 0, 32, 32, 32].backward()
        assert (image.grad != 0).float().mean() > 0.9
        return
    image = torch.rand(1, 1, *size).requires_grad_()
    network(image)[0, 0, size[0] // 2, size[1] // 2, size[2] // 2].backward()
    seen = torch.nonzero(image.grad[0, 0])
    extent = (seen.max(dim=0).values - seen.min(dim=0).values + 1).tolist()
    assert all(n <= limit for n, limit in zip(extent, field, strict=True))
    assert all(n >= 0.7 * limit for n, limit in zip(extent, field, strict=True))


@pytest.mark.parametrize("name", PUBLISHED)
def test_state_survives_a_file_bit_for_bit(name, tmp_path):
    torch.manual_seed(0)
    first, plan = small(name)
    about = {"schema": 1, "plan": plan.to_json()}
    save_tensors(tmp_path / "w.safetensors", first.state_dict(), {"about": json.dumps(about)})
    weights, about = read_tensors(tmp_path / "w.safetensors", "about")
    torch.manual_seed(1)
    second = build(type(plan).from_json(about["plan"]), 1, 3)
    second.load_state_dict(weights)
    assert all(
        torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items()
    )
    # The smallest tile will do: a planar network has none along its first axis.
    tile = (
        torch.randn(1, 1, *(min(n, 100) if n > 1 else 1 for n in plan.patch))
        if any(plan.margin)
        else torch.randn(1, 1, 32, 32, 32)
    )
    with torch.inference_mode():
        assert torch.equal(first.eval()(tile), second.eval()(tile))


@pytest.mark.parametrize("name", PRESETS)
def test_description(name):
    row = describe(name)
    assert row["parameters"] > 10_000 and row["training_memory"] > 4 * 4 * row["parameters"]
    assert row["receptive_field"][0] > 10 and row["source"]
    assert row["tile_memory"] > 4 * np.prod(row["input_tile"])
    if name == "unet3d":
        assert row["input_tile"] == [132, 132, 116] and row["output_tile"] == [44, 44, 28]
    if name == "vnet":
        assert row["receptive_field"] == [551] * 3 and row["input_tile"] == [128, 128, 64]


def test_memory_is_counted_without_allocating_it():
    """The tensors that are alive at one moment are as many on the meta device as on a real one."""
    plan = make_plan(Fingerprint((32, 32, 32), (1.0, 1.0, 1.0), 1, 3, 1, 6, volumes=2))
    plan = replace(plan, batch=2)
    peaks = []
    for device in ("meta", "cpu"):
        with torch.device(device):
            network = build(plan, 4, 3).eval()
            with torch.inference_mode(), Living() as living:
                network(torch.zeros(1, 4, 32, 32, 32))
        peaks.append(living.peak)
    assert peaks[0] == peaks[1] >= 4 * 32**3 * (4 + 16 + 3) and living.now < peaks[0] / 4
    with torch.device("meta"):
        network = build(plan, 4, 3)
    few = training_memory(network, replace(plan, batch=100), 4)
    assert 1.7 < training_memory(network, replace(plan, batch=200), 4) / few < 2.1
    assert all(p.grad is None for p in network.parameters())


def test_the_plan_of_auto_is_not_a_published_one():
    assert make_plan(Fingerprint((40, 40, 40), (1.0, 1.0, 1.0), 1, 3, 1, 6)).network == "auto"


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [(3, (2, 2, 2)), (3, (2, 8, 8)), (5, (4, 4, 4)), (5, (3, 8, 8)), (5, (2, 2, 2))],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_on_grids_smaller_than_the_kernel(kernel, shape, channels_last):
    """torch's bfloat16 convolution gives garbage here on some CPUs; ours must not."""
    torch.manual_seed(0)
    layer = Conv3d(16, 16, kernel, padding=kernel // 2)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    image = torch.randn(2, 16, *shape).contiguous(memory_format=layout)
    target = torch.randn(2, 16, *shape)

    def gradient(half):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = layer(image)
        out.float().backward(target)
        return layer.weight.grad.flatten().clone()

    exact, found = gradient(False), gradient(True)
    assert torch.cosine_similarity(exact, found, dim=0) > 0.999
    assert found.norm() == pytest.approx(exact.norm().item(), rel=0.01)
