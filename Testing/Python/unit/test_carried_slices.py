"""Slices and voxels that are carried onto another grid stay where they were in space."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrml_scene import rotation

from SparseSegNetLib.annotation.carried_slices import carry_slice, carry_voxels
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.slices import AnnotatedSlice, check_slices

SIZE = (12, 10, 8)  # i, j, k
TURN = tuple(rotation(3).ravel())
GRID = Geometry(SIZE, (0.7, 0.9, 2.5), (-31.25, 18.5, 104.0), TURN)


def cropped(grid, low, size):
    return replace(grid, size=tuple(size), origin=grid.position(*low))


def rearranged(grid, order, flips):
    """The same voxels with axis n of the new grid along axis `order[n]`, flipped or not."""
    columns = np.reshape(grid.directions, (3, 3))
    corner = [grid.size[a] - 1 if a in flips else 0 for a in range(3)]
    signs = [-1 if a in flips else 1 for a in range(3)]
    turned = np.stack([signs[a] * columns[:, a] for a in order], axis=1)
    return Geometry(
        tuple(grid.size[a] for a in order),
        tuple(grid.spacing[a] for a in order),
        grid.position(*corner),
        tuple(turned.ravel()),
    )


def finer(grid, factors):
    """The grid with each voxel divided into parts, sharing its outer faces."""
    first = [(1 / f - 1) / 2 for f in factors]
    return replace(
        grid,
        size=tuple(n * f for n, f in zip(grid.size, factors, strict=True)),
        spacing=tuple(s / f for s, f in zip(grid.spacing, factors, strict=True)),
        origin=grid.position(*first),
    )


def places(item, grid):
    """The positions of a slice's voxels in space."""
    mask = np.zeros(grid.shape, bool)
    mask[item.selector()] = True
    return {tuple(np.round(grid.position(i, j, k), 3)) for k, j, i in np.argwhere(mask)}


def test_the_same_grid_and_one_that_differs_in_the_last_digits():
    item = AnnotatedSlice("j", 4, ((1, 3), (2, 9)))
    assert carry_slice(item, GRID, GRID) == [item]
    single = replace(GRID, origin=tuple(float(np.float32(x)) for x in GRID.origin))
    assert carry_slice(item, GRID, single) == [item]


def test_a_crop_moves_the_index_and_loses_what_is_outside():
    other = cropped(GRID, (3, 2, 1), (6, 5, 4))
    assert carry_slice(AnnotatedSlice("k", 3), GRID, other) == [AnnotatedSlice("k", 2)]
    assert carry_slice(AnnotatedSlice("i", 3), GRID, other) == [AnnotatedSlice("i", 0)]
    for outside in (
        *(("k", 0), ("k", 5), ("j", 1), ("j", 7), ("i", 2), ("i", 9)),
        ("k", 3, ((0, 2), (0, 12))),  # a box beside the crop
    ):
        assert carry_slice(AnnotatedSlice(*outside), GRID, other) == []
    boxed = AnnotatedSlice("k", 3, ((4, 10), (0, 5)))
    assert carry_slice(boxed, GRID, other) == [AnnotatedSlice("k", 2, ((2, 5), (0, 2)))]


def test_a_whole_slice_of_a_small_volume_is_a_box_of_a_large_one():
    small = cropped(GRID, (3, 2, 1), (6, 5, 4))
    assert carry_slice(AnnotatedSlice("k", 2), small, GRID) == [
        AnnotatedSlice("k", 3, ((2, 7), (3, 9)))
    ]
    # Shorter along the slice's own axis alone: still whole.
    thin = cropped(GRID, (0, 0, 2), (12, 10, 3))
    assert carry_slice(AnnotatedSlice("k", 1), thin, GRID) == [AnnotatedSlice("k", 3)]
    assert carry_slice(AnnotatedSlice("i", 1), thin, GRID) == [
        AnnotatedSlice("i", 1, ((2, 5), (0, 10)))
    ]


def test_flipped_axes_count_from_the_other_end():
    other = rearranged(GRID, (0, 1, 2), {0, 2})
    assert carry_slice(AnnotatedSlice("k", 1), GRID, other) == [AnnotatedSlice("k", 6)]
    assert carry_slice(AnnotatedSlice("j", 1, ((0, 2), (3, 7))), GRID, other) == [
        AnnotatedSlice("j", 1, ((6, 8), (5, 9)))
    ]


boxes = st.tuples(st.integers(0, 7), st.integers(1, 8), st.integers(0, 7), st.integers(1, 8))


@settings(max_examples=60, deadline=None)
@given(
    st.permutations([0, 1, 2]),
    st.sets(st.integers(0, 2)),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
    st.sampled_from("ijk"),
    st.integers(0, 7),
    st.none() | boxes,
)
def test_voxels_of_a_rearranged_crop_stay_at_their_places(order, flips, low, axis, index, box):
    other = rearranged(cropped(GRID, low, (7, 6, 5)), order, flips)
    if box is not None:
        (a, b), (c, d) = sorted(box[:2]), sorted(box[2:])
        box = None if a == b or c == d else ((a, b), (c, d))
    item = AnnotatedSlice(axis, index, box)
    check_slices([item], GRID.shape)
    every = np.ones(other.shape, bool)
    inside = {tuple(np.round(other.position(i, j, k), 3)) for k, j, i in np.argwhere(every)}
    carried = carry_slice(item, GRID, other)
    check_slices(carried, other.shape)
    assert len(carried) <= 1
    found = places(carried[0], other) if carried else set()
    assert found == places(item, GRID) & inside
    # Voxels likewise, and both ways.
    mask = np.zeros(GRID.shape, bool)
    mask[item.selector()] = True
    flat = carry_voxels(np.flatnonzero(mask), GRID, other)
    assert flat.dtype == np.int64 and (np.diff(flat) > 0).all()
    voxels = np.stack(np.unravel_index(flat, other.shape), axis=1)
    assert {tuple(np.round(other.position(i, j, k), 3)) for k, j, i in voxels} == found
    back = carry_voxels(flat, other, GRID)
    assert mask.ravel()[back].all() and back.size == flat.size


def test_a_slice_of_a_finer_grid_lies_in_one_of_the_coarse_grid():
    fine = finer(GRID, (1, 1, 3))
    for part in range(3):
        item = AnnotatedSlice("k", 3 * 5 + part)
        assert carry_slice(item, fine, GRID) == [AnnotatedSlice("k", 5)]
    assert carry_slice(AnnotatedSlice("i", 4), fine, GRID) == [AnnotatedSlice("i", 4)]
    inside = AnnotatedSlice("i", 4, ((6, 12), (1, 3)))
    assert carry_slice(inside, fine, GRID) == [AnnotatedSlice("i", 4, ((2, 4), (1, 3)))]


def test_a_coarse_slice_holds_all_slices_of_a_finer_grid_whose_centres_lie_in_it():
    fine = finer(GRID, (2, 2, 3))
    assert carry_slice(AnnotatedSlice("k", 5), GRID, fine) == [
        AnnotatedSlice("k", n) for n in (15, 16, 17)
    ]
    assert carry_slice(AnnotatedSlice("k", 5, ((2, 4), (0, 3))), GRID, fine) == [
        AnnotatedSlice("k", n, ((4, 8), (0, 6))) for n in (15, 16, 17)
    ]
    reversed_ = rearranged(fine, (2, 0, 1), {2})
    assert carry_slice(AnnotatedSlice("k", 7), GRID, reversed_) == [
        AnnotatedSlice("i", n) for n in (0, 1, 2)
    ]


@pytest.mark.parametrize("spacing", [0.4, 0.61, 1.25, 2.5, 3.3])
def test_every_slice_of_another_spacing_belongs_to_one_slice_at_most(spacing):
    """A slice between two others is claimed by one of them, also where it lies on the border."""
    other = replace(GRID, spacing=(0.7, 0.9, spacing), size=(12, 10, int(20 / spacing) + 1))
    claimed = [s.index for n in range(8) for s in carry_slice(AnnotatedSlice("k", n), GRID, other)]
    if spacing <= 2.5:
        assert sorted(claimed) == list(range(len(claimed))), "none twice, none left out"
    else:
        # The centre of each thin slice lies in the thick one.
        for n in range(8):
            (found,) = carry_slice(AnnotatedSlice("k", n), GRID, other) or (None,)
            inside = n * 2.5 < (other.size[2] - 0.5) * spacing
            assert (found is not None) == inside
            assert not inside or abs(n * 2.5 - found.index * spacing) <= spacing / 2


def test_axes_that_are_not_parallel():
    """A turn by less than a hundredth of a voxel over the volume does not count."""
    item = AnnotatedSlice("k", 3)

    def turned(voxels):
        angle = voxels * 2.5 / (11 * 0.7)  # k runs off by so much along i
        c, s = np.cos(angle), np.sin(angle)
        matrix = np.reshape(GRID.directions, (3, 3)) @ [[c, 0, -s], [0, 1, 0], [s, 0, c]]
        return cropped(replace(GRID, directions=tuple(matrix.ravel())), (0, 0, 1), (12, 10, 7))

    assert [s.index for s in carry_slice(item, GRID, turned(0.001))] == [2]
    assert carry_voxels(np.array([5, 700]), GRID, turned(0.001)) is not None
    assert carry_slice(item, GRID, turned(0.1)) == []
    assert carry_slice(item, GRID, replace(GRID, directions=tuple(rotation(8).ravel()))) == []
    assert carry_voxels(np.array([5]), GRID, turned(0.1)) is None
    diagonal = tuple(np.ravel([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]))
    assert carry_slice(item, replace(GRID, directions=diagonal), GRID) == []


def test_voxels_have_no_place_on_a_grid_of_other_voxels():
    voxels = np.array([0, 41, 500])
    for other in (
        finer(GRID, (1, 1, 2)),
        replace(GRID, origin=GRID.position(0.5, 0, 0)),
        replace(GRID, origin=GRID.position(0, 0.1, 0)),
        replace(GRID, spacing=(0.7, 0.9, 2.52)),
    ):
        assert carry_voxels(voxels, GRID, other) is None
    away = replace(GRID, origin=GRID.position(50, 0, 0))
    assert carry_voxels(voxels, GRID, away).tolist() == []
