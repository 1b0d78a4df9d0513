"""B-spline deformations: the same numbers as SimpleITK's transform, the published sizes."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SparseSegNetLib.engine.data import augmentation as aug
from SparseSegNetLib.engine.data.deformation import bspline_fields, control_cells, random_controls
from SparseSegNetLib.engine.data.draws import Draws, placed
from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.plan import Plan
from SparseSegNetLib.engine.planning.recipes import RECIPES


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def displacements(patch, strength, spacing, seed=0):
    """Displacements (*patch, 3) in voxels of a patch as large as its volume, before it is fixed."""
    volume = WorkingVolume(torch.zeros(1, *patch), torch.zeros(patch).byte(), spacing, patch)
    plan = Plan(patch, (1.0,) * 3, patch, patch, (), ((3, 3, 3),), 4, 1, strength=strength)
    draws = Draws()
    draws.geometry(0, tuple(n // 2 for n in patch), (0, 1, 2), plan, generator(seed))
    controls = placed(draws, [volume], plan)["controls"]
    return bspline_fields(controls, patch, strength.elastic_grid)[0].movedim(0, -1)


def resampled(image, labels, centre, patch, field=None, mirror=False):
    """Image, labels and coordinates of a patch around a centre, deformed by a field (*patch, 3)."""
    sizes = torch.tensor([labels.shape])
    fields = None if field is None else field.movedim(-1, 0)[None]
    at = aug.sample_coordinates(torch.tensor([centre]), torch.eye(3)[None], fields, patch)
    relative, places = aug.relative_coordinates(at, sizes), aug.label_places(at, sizes)
    pixels = aug.resample_image(image, relative, mirror)
    return pixels[0], aug.resample_labels(labels, places)[0], at[0]


def by_simpleitk(controls, patch, spacing):
    """Displacements (*patch, 3) in voxels (k, j, i) of SimpleITK's BSplineTransform."""
    cells = [n - 3 for n in controls.shape[1:]]
    step = [spacing or max(1, n - 1) for n in patch]
    transform = sitk.BSplineTransform(3, 3)
    extent = [c * s for c, s in zip(cells, step, strict=True)]
    origin = [(n - 1) / 2 - e / 2 for n, e in zip(patch, extent, strict=True)]
    transform.SetTransformDomainOrigin(origin[::-1])
    transform.SetTransformDomainPhysicalDimensions(extent[::-1])
    transform.SetTransformDomainMeshSize(cells[::-1])
    # SimpleITK's order: x, y, z, each with i fastest.
    transform.SetParameters([float(v) for axis in (2, 1, 0) for v in controls[axis].flatten()])
    field = np.zeros((*patch, 3))
    for index in np.ndindex(*patch):
        point = [float(v) for v in index[::-1]]
        moved = transform.TransformPoint(point)
        field[index] = [moved[2 - a] - point[2 - a] for a in range(3)]
    return field


@pytest.mark.parametrize(
    ("patch", "spacing"), [((9, 12, 7), 4.0), ((10, 6, 13), 0.0), ((8, 8, 8), 32.0)]
)
def test_field_agrees_with_simpleitk(patch, spacing):
    cells = control_cells(patch, spacing)
    amounts = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None]
    controls = random_controls(cells, "normal", generator()) * amounts
    found = bspline_fields(controls[None], patch, spacing)[0].movedim(0, -1).numpy()
    wanted = by_simpleitk(controls, patch, spacing)
    # On the rim of its domain SimpleITK's transform gives nothing; inside they must agree.
    inner = tuple(slice(1, -1) for _ in range(3))
    assert np.abs(wanted[inner]).max() > 0.3
    assert np.allclose(found[inner], wanted[inner], atol=1e-4)


def test_control_grids_of_the_papers():
    assert control_cells((116, 132, 132), 32.0) == (4, 5, 5)  # points every 32 voxels
    assert control_cells((64, 64, 64), 24.0) == (3, 3, 3)
    assert control_cells((64, 128, 128), 0.0) == (1, 1, 1)  # 2x2x2 points at the corners
    assert random_controls((1, 1, 1), "normal", generator()).shape == (3, 4, 4, 4)


@pytest.mark.parametrize(
    ("name", "kind", "amount", "grid"),
    [
        ("unet3d", "normal", 4.0, 32.0),
        ("fcn3d", "uniform", 4.0, 24.0),
        ("vnet", "normal", 15.0, 0.0),
    ],
)
def test_displacements_of_the_papers(name, kind, amount, grid):
    strength = RECIPES[name].strength
    assert (strength.elastic_kind, strength.elastic, strength.elastic_grid) == (kind, amount, grid)
    assert not strength.elastic_vary and strength.in_voxels
    amounts = aug.elastic_amounts(strength, torch.tensor([[3.0, 1.0, 1.0]]), None)
    assert amounts.tolist() == [[amount] * 3]
    controls = amount * random_controls((20, 20, 20), kind, generator())
    if kind == "uniform":
        assert controls.abs().max() <= amount and controls.std() > 0.55 * amount
    else:
        assert controls.std() == pytest.approx(amount, rel=0.03)


def test_an_anisotropic_volume_is_deformed_in_voxels_as_published_and_in_mm_by_auto():
    spacing = torch.tensor([5.0, 1.0, 1.0])

    def sizes(strength):
        fields = [displacements((20, 40, 40), strength, spacing, n) for n in range(40)]
        return torch.stack(fields).flatten(0, 3).std(dim=0)

    published = sizes(RECIPES["unet3d"].strength)
    assert published[0] == pytest.approx(published[1].item(), rel=0.4)
    ours = sizes(aug.Strength(elastic_vary=False))
    assert ours[0] == pytest.approx(ours[1].item() / 5, rel=0.4)


def test_a_flat_patch_is_not_moved_out_of_its_slice():
    strength = RECIPES["unet2d"].strength
    field = displacements((1, 64, 64), strength, torch.ones(3))
    assert (field[..., 0] == 0).all() and field[..., 1:].std() > 0.3
    spacing = torch.tensor([3.0, 1.0, 0.5]).repeat(5, 1)
    for affine in aug.random_affines(strength, spacing, torch.rand(5, 3, 3)):
        assert affine[0].tolist() == [1, 0, 0] and affine[1:, 0].tolist() == [0, 0]


def test_image_and_labels_move_together_and_unlabelled_stays_unlabelled():
    """A gradient image says where each voxel came from; its labels must be of that place."""
    shape = (24, 24, 24)
    ramp = torch.stack(torch.meshgrid(*(torch.arange(24.0),) * 3, indexing="ij"))
    labels = torch.full(shape, 255, dtype=torch.uint8)
    labels[12], labels[:, :, 7] = 1, 2
    field = displacements(shape, RECIPES["vnet"].strength, torch.ones(3), 3)
    image, moved, at = resampled(ramp, labels, (11.5, 11.5, 11.5), shape, field)
    inside = ((at > 0) & (at < 23)).all(dim=-1)
    assert torch.allclose(image.movedim(0, -1)[inside], at[inside], atol=1e-3)
    places = at.round().long().clamp(0, 23)
    wanted = labels[places[..., 0], places[..., 1], places[..., 2]]
    assert torch.equal(moved[inside], wanted[inside])
    assert set(moved.unique().tolist()) <= {1, 2, 255}, "labels are never mixed"


def test_histogram_matching_gives_the_other_volumes_intensities():
    dark = torch.randn((1, 30, 30, 30), generator=generator(0)).exp()
    bright = 50 + 10 * torch.randn((1, 30, 30, 30), generator=generator(1))

    def matching(source, target):
        tables = (aug.quantiles(source)[None], aug.quantiles(target)[None])
        return aug.match_histogram(source[None], *tables)[0]

    matched = matching(dark, bright)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert torch.quantile(matched, share) == pytest.approx(
            torch.quantile(bright, share).item(), abs=0.5
        )
    order = dark.flatten().argsort()
    assert (matched.flatten()[order].diff() >= 0).all(), "the order of grey values stays"
    assert torch.allclose(matching(dark, dark), dark, atol=1e-4)
