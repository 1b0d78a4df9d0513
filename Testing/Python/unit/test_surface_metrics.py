"""Surface Dice and 95 % Hausdorff distance: by hand, and against MONAI's."""

import numpy as np
import pytest

from SparseSegNetLib.annotation.surface_metrics import border, surface_agreement

SPACING = (2.0, 0.7, 0.3)


def agreement(found, truth, tolerance=0.3, counted=None, steps=None):
    steps = np.diag(SPACING) if steps is None else steps
    return surface_agreement(found, truth, steps, tolerance, counted)


def ball(shape, centre, radius):
    places = np.moveaxis(np.indices(shape), 0, -1) - centre
    return (places**2).sum(axis=-1) <= radius**2


def box(shape=(9, 10, 11), *, at):
    mask = np.zeros(shape, bool)
    mask[at] = True
    return mask


def test_the_border_is_what_has_a_neighbour_outside():
    mask = box(at=np.s_[2:6, 2:6, 2:6])
    inner = box(at=np.s_[3:5, 3:5, 3:5])
    assert (border(mask) == (mask & ~inner)).all()
    whole = np.ones((4, 4, 4), bool)
    assert border(whole).sum() == 4**3 - 2**3, "beyond the array all is outside"


@pytest.mark.parametrize(
    ("axis", "distance"), [(0, 2.0), (1, 0.7), (2, 0.3)], ids=["along k", "along j", "along i"]
)
def test_two_voxels_that_lie_side_by_side(axis, distance):
    one, other = box(at=(4, 4, 4)), np.roll(box(at=(4, 4, 4)), 1, axis)
    found = agreement(one, other, tolerance=distance)
    assert found.surface_dice == 1, "a distance of just the tolerance is within it"
    assert found.hausdorff95 == pytest.approx(distance)
    assert agreement(one, other, tolerance=0.99 * distance).surface_dice == 0


def test_steps_of_a_rotated_and_of_a_sheared_grid():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    a, b = box(at=np.s_[2:6, 2:6, 2:6]), box(at=np.s_[3:8, 2:5, 1:6])
    straight, turned = agreement(a, b), agreement(a, b, steps=turn * np.array(SPACING))
    assert turned.surface_dice == straight.surface_dice
    assert turned.hausdorff95 == pytest.approx(straight.hausdorff95)
    sheared = np.diag(SPACING)
    sheared[1, 0] = 1.5  # a tilted gantry: from slice to slice 1.5 mm along j too
    one, other = box(at=(4, 4, 4)), box(at=(5, 4, 4))
    assert agreement(one, other, steps=sheared).hausdorff95 == pytest.approx(2.5)


def test_empty_masks():
    empty, full = box(at=np.s_[:0]), box(at=np.s_[2:6, 2:6, 2:6])
    assert agreement(empty, empty) == agreement(full, full, counted=empty)
    assert agreement(empty, empty).surface_dice is None
    for found in (agreement(empty, full), agreement(full, empty)):
        assert found.surface_dice == 0 and found.hausdorff95 is None


def test_the_edge_of_what_counts_is_no_surface():
    a, b = box(at=np.s_[1:8, 1:9, 1:6]), box(at=np.s_[1:8, 1:9, 1:8])
    counted = box(at=np.s_[:, :, :4])  # ends within both, whose far ends differ
    found = agreement(a, b, tolerance=0.0, counted=counted)
    assert found.surface_dice == 1 and found.hausdorff95 == 0
    assert agreement(a, b, tolerance=0.0).surface_dice < 1


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_monai_agrees():
    monai = pytest.importorskip("monai.metrics", reason="the peer of these figures")
    torch = pytest.importorskip("torch")
    shape, generator = (16, 24, 28), np.random.default_rng(0)
    for _ in range(4):
        # Half of them are cut by the border of the image.
        masks = [
            ball(shape, generator.uniform((0, 4, 4), (15, 20, 24)), generator.uniform(4, 7))
            ^ (generator.random(shape) < 0.002)
            for _ in range(2)
        ]
        a, b = (torch.from_numpy(mask[None, None]) for mask in masks)
        for tolerance in (0.3, 1.0, 3.1):
            ours = agreement(*masks, tolerance)
            dice = monai.compute_surface_dice(a, b, [tolerance], True, spacing=SPACING)
            assert ours.surface_dice == pytest.approx(dice.item(), abs=1e-6)
        far = monai.compute_hausdorff_distance(a, b, True, percentile=95, spacing=SPACING)
        assert ours.hausdorff95 == pytest.approx(far.item(), rel=1e-5)
