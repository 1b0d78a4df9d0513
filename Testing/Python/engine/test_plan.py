"""The plan adapts to the grid: thick slices, tiny and huge volumes."""

import json
import math

import pytest
import torch

from SparseSegNetLib.engine.compute.boxes import box_within, working_shape
from SparseSegNetLib.engine.networks import build
from SparseSegNetLib.engine.plan import Fingerprint, Plan
from SparseSegNetLib.engine.planning.auto_plan import levels, make_plan

GRIDS = [
    ((112, 101, 122), (3.0, 3.0, 3.0)),
    ((26, 166, 164), (5.0, 0.8, 0.8)),
    ((20, 512, 512), (47.5, 9.2, 9.2)),
    ((16, 16, 16), (1.0, 1.0, 1.0)),
    ((1, 64, 64), (5.0, 1.0, 1.0)),
    ((17, 33, 200), (1.0, 2.0, 0.5)),
    ((500, 500, 500), (0.01, 0.01, 0.01)),
]


def print_of(shape, spacing, classes=3):
    return Fingerprint(shape, spacing, 1, classes, 1000, 8)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_network_takes_patch_and_tile_and_gives_logits_of_the_same_size(shape, spacing):
    plan = make_plan(print_of(shape, spacing), width=2)
    network = build(plan, 6, 3).eval()
    assert all(
        p % d == 0 and t % d == 0
        for p, t, d in zip(plan.patch, plan.tile, plan.divisor, strict=True)
    )
    with torch.inference_mode():
        assert network(torch.zeros(1, 6, *plan.patch)).shape == (1, 3, *plan.patch)


def test_thick_slices_are_not_pooled_until_the_voxels_are_near_isotropic():
    strides, kernels = levels((16, 96, 96), (5.0, 0.8, 0.8))
    assert strides[0] == (1, 2, 2) and kernels[0] == (1, 3, 3)
    spacing = [5.0, 0.8, 0.8]
    for stride in strides:
        if stride[0] == 2:
            assert spacing[0] < 2 * min(spacing[1:])
        spacing = [a * b for a, b in zip(spacing, stride, strict=True)]


def test_isotropic_volumes_are_pooled_alike_along_all_axes():
    strides, kernels = levels((32, 32, 32), (1.0, 1.0, 1.0))
    assert set(strides) == {(2, 2, 2)} and set(kernels) == {(3, 3, 3)}


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_box_has_about_the_voxels_asked_for(shape, spacing):
    box = box_within(shape, spacing, 20**3)
    assert all(1 <= b <= n for b, n in zip(box, shape, strict=True))
    wanted = min(20**3, math.prod(shape))
    assert 0.7 * wanted <= math.prod(box) <= 1.3 * wanted


def test_working_grid_reduces_the_finest_axes_first():
    assert working_shape((26, 166, 164), (5.0, 0.8, 0.8), 1e9) == (26, 166, 164)
    small = working_shape((26, 512, 512), (5.0, 0.8, 0.8), 26 * 150**2)
    assert small[0] == 26 and small[1] == small[2] < 160
    tiny = working_shape((500, 500, 500), (1.0, 1.0, 1.0), 100**3)
    assert set(tiny) == {100} or math.prod(tiny) <= 1.02 * 100**3


def test_a_plan_survives_json():
    plan = make_plan(print_of((26, 166, 164), (5.0, 0.8, 0.8)))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_network_refuses_levels_that_do_not_fit():
    from SparseSegNetLib.engine.networks.residual_unet import ResidualUNet

    with pytest.raises(ValueError, match="levels"):
        ResidualUNet(1, 2, (4, 8), (), ((3, 3, 3),))
