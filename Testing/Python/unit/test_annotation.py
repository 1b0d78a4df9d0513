"""What is labelled: slices, cover, composition, spread, geometry."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SparseSegNetLib.annotation.composition import (
    UNLABELLED,
    check_trainable,
    compose_labels,
    keep_drawn,
    restrict_to_slices,
)
from SparseSegNetLib.annotation.cover import cover_slices, looks_solid
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.labelled_count import count_labelled
from SparseSegNetLib.annotation.slices import (
    AnnotatedSlice,
    check_slices,
    format_slices,
    parse_slices,
)
from SparseSegNetLib.errors import InputError


def ball(shape, radius):
    k, j, i = np.ogrid[tuple(slice(0, n) for n in shape)]
    centre = [(n - 1) / 2 for n in shape]
    return (k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 <= radius**2


class TestSlices:
    def test_read_and_written_alike(self):
        slices = parse_slices(["k:10,20", "i:5 K=10"])
        assert slices == [AnnotatedSlice("k", 10), AnnotatedSlice("k", 20), AnnotatedSlice("i", 5)]
        assert format_slices(slices) == "i:5 k:10,20"

    @pytest.mark.parametrize("text", ["x:3", "k", "k:", "k:1.5", "k:1,,2", "10", "k:a"])
    def test_nonsense_is_refused_by_name(self, text):
        with pytest.raises(InputError, match="cannot read the slices"):
            parse_slices([text])

    @pytest.mark.parametrize(("axis", "index"), [("k", 4), ("j", 5), ("i", 6), ("i", -1)])
    def test_outside_the_volume(self, axis, index):
        with pytest.raises(InputError, match="outside the volume"):
            check_slices([AnnotatedSlice(axis, index)], (4, 5, 6))

    def test_each_axis_selects_its_plane_in_kji_arrays(self):
        array = np.zeros((4, 5, 6), int)
        array[AnnotatedSlice("k", 1).selector()] += 1
        array[AnnotatedSlice("j", 2).selector()] += 10
        array[AnnotatedSlice("i", 3).selector()] += 100
        assert array[1].min() >= 1 and array[:, 2].min() >= 10 and array[:, :, 3].min() >= 100
        assert array.sum() == 5 * 6 + 10 * 4 * 6 + 100 * 4 * 5

    def test_box_is_in_array_order_and_checked(self):
        item = AnnotatedSlice("j", 2, ((1, 3), (0, 4)))
        array = np.zeros((4, 5, 6), int)
        array[item.selector()] = 1
        assert array.sum() == 8 and array[1:3, 2, 0:4].all()
        assert AnnotatedSlice.from_json(json.loads(json.dumps(item.to_json()))) == item
        with pytest.raises(InputError, match="does not fit"):
            check_slices([AnnotatedSlice("j", 2, ((1, 9), (0, 4)))], (4, 5, 6))


class TestComposition:
    def test_three_ways_of_being_labelled(self):
        drawn = np.zeros((4, 5, 6), np.uint8)
        drawn[1, 2, 3] = 2
        background = np.zeros(drawn.shape, bool)
        background[3, 4, 5] = background[1, 2, 3] = True
        labels = compose_labels(drawn, [AnnotatedSlice("k", 0)], background)
        assert labels.dtype == np.uint8
        assert (labels[0] == 0).all()
        assert labels[1, 2, 3] == 2, "a segment wins against the Background segment"
        assert labels[3, 4, 5] == 0
        assert (labels == UNLABELLED).sum() == labels.size - 5 * 6 - 2

    def test_restricting_leaves_other_voxels_unlabelled(self):
        labels = np.ones((4, 5, 6), np.uint8)
        kept = restrict_to_slices(labels, [AnnotatedSlice("i", 2)])
        assert (kept[:, :, 2] == 1).all() and (kept != UNLABELLED).sum() == 20

    def test_drawn_voxels_win(self):
        labels = np.full((2, 2, 2), UNLABELLED, np.uint8)
        labels[0, 0, 0], labels[1, 1, 1] = 0, 3
        result = keep_drawn(np.full((2, 2, 2), 1, np.uint8), labels)
        assert result[0, 0, 0] == 0 and result[1, 1, 1] == 3 and (result == 1).sum() == 6

    def test_what_cannot_teach_is_refused(self):
        labels = np.full((3, 3, 3), UNLABELLED, np.uint8)
        with pytest.raises(InputError, match="no voxel is labelled"):
            check_trainable(labels)
        labels[0] = 0
        with pytest.raises(InputError, match=r"only one class is labelled, background"):
            check_trainable(labels)
        labels[0] = 1
        with pytest.raises(InputError, match="only one class is labelled, 'kidney'"):
            check_trainable(labels, ["kidney"])
        labels[1] = 0
        check_trainable(labels)


class TestCover:
    def test_nothing_drawn(self):
        assert cover_slices(np.zeros((5, 5, 5), bool)) == []

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_finds_the_slices_that_were_drawn(self, data):
        shape = tuple(data.draw(st.integers(18, 30), label="size") for _ in range(3))
        solid = ball(shape, min(shape) * 0.4)
        # Slices through the middle part, no two of an axis side by side.
        wanted = []
        for axis, name in enumerate("kji"):
            half = round(min(shape) * 0.25)
            positions = list(range(shape[axis] // 2 - half, shape[axis] // 2 + half, 2))
            chosen = data.draw(st.sets(st.sampled_from(positions), max_size=3), label=name)
            wanted += [AnnotatedSlice(name, p) for p in chosen]
        drawn = np.zeros(shape, bool)
        for item in wanted:
            drawn[item.selector()] = solid[item.selector()]
        assert set(cover_slices(drawn)) == set(wanted)

    def test_tips_in_several_slices_are_not_taken_for_one_plane_across(self):
        drawn = np.zeros((40, 30, 30), bool)
        for k in (5, 15, 25, 35):
            drawn[k, 10:12, 10:13] = True
        assert cover_slices(drawn) == [AnnotatedSlice("k", k) for k in (5, 15, 25, 35)]

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_always_explains_every_voxel_and_no_plane_is_superfluous(self, seed):
        drawn = np.random.default_rng(seed).random((6, 7, 8)) < 0.05
        found = cover_slices(drawn)
        for left_out in [None, *found]:
            covered = np.zeros_like(drawn)
            for item in found:
                if item != left_out:
                    covered[item.selector()] = True
            assert (covered | ~drawn).all() == (left_out is None)

    def test_a_solid_object_is_noticed(self):
        assert looks_solid(cover_slices(ball((20, 20, 20), 6)))
        assert not looks_solid([AnnotatedSlice("k", n) for n in (1, 2, 3, 9)])


class TestSpread:
    def test_even_over_the_volume(self):
        slices = spread_slices((1, 2, 5), (50, 40, 30))
        assert [s.index for s in slices if s.axis == "i"] == [15]
        assert [s.index for s in slices if s.axis == "j"] == [10, 30]
        assert [s.index for s in slices if s.axis == "k"] == [5, 15, 25, 35, 45]

    def test_over_the_extent_of_a_structure(self):
        inside = np.zeros((50, 40, 30), bool)
        inside[20:30, 5:9, 2:4] = True
        slices = spread_slices((1, 1, 2), inside.shape, inside)
        assert [(s.axis, s.index) for s in slices] == [("i", 3), ("j", 7), ("k", 22), ("k", 27)]

    def test_shifted(self):
        for shift, expected in (
            (0.25, [7, 17, 27, 37, 47]),
            (-0.25, [2, 12, 22, 32, 42]),
            (-0.5, [0, 10, 20, 30, 40]),
        ):
            slices = spread_slices((0, 0, 5), (50, 40, 30), shift=shift)
            assert [s.index for s in slices] == expected

    def test_more_slices_than_voxels(self):
        with pytest.raises(InputError, match="do not fit"):
            spread_slices((0, 0, 6), (5, 40, 30))


class TestGeometry:
    def make(self, **changes):
        base = {
            "size": (8, 9, 10),
            "spacing": (0.5, 0.6, 2.0),
            "origin": (1.0, 2.0, 3.0),
            "directions": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        }
        return Geometry(**{**base, **changes})

    def test_json_keeps_every_bit(self):
        odd = self.make(spacing=(0.1 + 0.2, 1 / 3, 2**-40), origin=(1e-300, -1 / 7, 3e5))
        assert Geometry.from_json(json.loads(json.dumps(odd.to_json()))) == odd

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"size": (8, 9, 11)}, ["size", "8x9x10", "8x9x11"]),
            ({"spacing": (0.5, 0.6, 3.0)}, ["spacing", "0.5x0.6x2", "0.5x0.6x3"]),
            ({"origin": (1.0, 2.0, 4.0)}, ["origin", "(1, 2, 3)", "(1, 2, 4)"]),
            ({"directions": (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)}, ["directions"]),
        ],
    )
    def test_differences_are_named_with_both_values(self, change, words):
        told = self.make().difference(self.make(**change))
        assert all(word in told for word in words)

    def test_last_digits_do_not_matter(self):
        assert self.make().difference(self.make(origin=(1.0, 2.0, 3.0 + 1e-6))) is None

    def test_position_uses_columns_of_the_directions(self):
        turned = self.make(directions=(0.0, -1.0, 0, 1.0, 0.0, 0, 0, 0, 1.0))
        assert turned.position(2, 0, 0) == (1.0, 3.0, 3.0)
        assert turned.position(0, 1, 1) == (0.4, 2.0, 5.0)


class TestShare:
    @pytest.mark.parametrize("seed", range(30))
    def test_as_counted_one_by_one(self, seed):
        random = np.random.default_rng(seed)
        shape = (6, 7, 8)
        drawn = (random.random(shape) < 0.1).astype(np.uint8)
        slices = {}
        for _ in range(random.integers(0, 7)):
            axis = "ijk"[random.integers(3)]
            sides = [n for a, n in zip("kji", shape, strict=True) if a != axis]
            box = None
            if random.random() < 0.5:
                box = tuple(
                    (int(lo), int(lo + random.integers(1, n - lo + 1)))
                    for n in sides
                    for lo in [random.integers(0, n)]
                )
            index = int(random.integers(shape["kji".index(axis)]))
            slices[axis, index] = AnnotatedSlice(axis, index, box)
        known = drawn > 0
        for item in slices.values():
            known[item.selector()] = True
        assert count_labelled(drawn, slices.values()) == known.sum()

    def test_a_slice_listed_twice(self):
        twice = [AnnotatedSlice("k", 1), AnnotatedSlice("k", 1, ((0, 2), (0, 2)))]
        with pytest.raises(ValueError, match="listed twice"):
            count_labelled(np.zeros((3, 3, 3)), twice)
