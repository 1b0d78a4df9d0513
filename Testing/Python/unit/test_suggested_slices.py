"""The next slices to draw: rules one by one, then what the model is unsure of."""

import numpy as np
import pytest

from SparseSegNetLib.annotation.composition import restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.slices import AnnotatedSlice, parse_slices
from SparseSegNetLib.suggestion import scores
from SparseSegNetLib.suggestion.anatomy import axis_words
from SparseSegNetLib.suggestion.extents import correlation_length, extent
from SparseSegNetLib.suggestion.gaps import evenly_added
from SparseSegNetLib.suggestion.ranking import suggest_slices
from SparseSegNetLib.suggestion.sentences import listed, place_within
from SparseSegNetLib.suggestion.situation import Situation
from SparseSegNetLib.suggestion.slice_profiles import SliceProfiles, areas_of, contours_of, split

SHAPE = (40, 44, 48)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def grid(shape=SHAPE, spacing=(1.0, 1.0, 1.0), directions=AXIAL):
    return Geometry(tuple(reversed(shape)), spacing, (0.0, 0.0, 0.0), directions)


def boxes(*corners):
    """A volume with one box per segment: ((k, k), (j, j), (i, i)), half open."""
    truth = np.zeros(SHAPE, np.uint8)
    for value, ranges in enumerate(corners, start=1):
        truth[tuple(slice(*r) for r in ranges)] = value
    return truth


LIVER = ((4, 36), (6, 38), (8, 44))
BLADDER = ((26, 34), (10, 16), (12, 20))  # within the liver's box: drawn over it


def profiles_of(truth, segments, unsure=None):
    """Profiles of a prediction that is the truth. unsure: {(axis, index): segment}, one voxel."""
    areas = areas_of(truth, segments)
    parts = split(np.zeros_like(areas), truth.shape)
    for (axis, index), segment in (unsure or {}).items():
        parts["kji".index(axis)][segment - 1, index] += 1.0
    total = np.concatenate(parts, axis=1)
    return SliceProfiles.of(areas, total, total.sum(axis=0), contours_of(truth), truth.shape)


def suggest(truth, drawn, names, profiles=None, count=1, seed=0, geometry=None):
    slices = parse_slices([drawn])
    labels = restrict_to_slices(truth, slices)
    return suggest_slices(labels, slices, names, geometry or grid(), profiles, count, seed)


class TestCoverage:
    def test_a_segment_that_is_drawn_nowhere_is_named(self):
        truth = boxes(LIVER, BLADDER)
        (found,) = suggest(truth, "i:40 j:30 k:10", ["liver", "bladder"])
        assert found.reason == "bladder is not drawn yet" and found.segment == 2

    def test_it_is_shown_where_a_prediction_knows_it(self):
        truth = boxes(LIVER, BLADDER)
        (found,) = suggest(truth, "i:40 j:30 k:10", ["liver", "bladder"], profiles_of(truth, 2))
        axis, index = found.slice.axis, found.slice.index
        low, high = dict(zip("kji", BLADDER, strict=True))[axis]
        assert low <= index < high

    def test_one_suggestion_at_a_time_looks_for_it(self):
        truth = boxes(LIVER, BLADDER)
        found = suggest(truth, "i:40 j:30 k:10", ["liver", "bladder"], count=3)
        assert ["not drawn" in one.reason for one in found] == [True, False, False]

    def test_a_segment_that_the_volume_lacks_is_looked_for_in_large_gaps_only(self):
        truth = boxes(LIVER)
        drawn = "i:4,12,20,28,36,44 j:4,12,20,28,36,40 k:4,12,20,28,36"
        found = suggest(truth, drawn, ["liver", "bladder"], count=3)
        assert not any("bladder" in one.reason for one in found)

    @pytest.mark.parametrize("predicted", [False, True])
    def test_a_segment_in_one_slice_is_drawn_in_another_direction(self, predicted):
        truth = boxes(LIVER, BLADDER)
        profiles = profiles_of(truth, 2) if predicted else None
        (found,) = suggest(truth, "i:40 j:30 k:30", ["liver", "bladder"], profiles)
        assert found.reason == "bladder is in one slice only" and found.segment == 2
        assert found.slice.axis in "ij"
        assert truth[found.slice.selector()].max() == 2

    def test_the_slice_that_shows_most_of_such_segments(self):
        second = ((24, 32), (30, 36), (30, 40))
        truth = boxes(LIVER, BLADDER, second)
        names = ["liver", "bladder", "spleen"]
        (found,) = suggest(truth, "i:14,34 j:22", names, profiles_of(truth, 3))
        assert found.slice.axis == "k" and 26 <= found.slice.index < 32
        assert found.reason == "bladder and spleen are in one slice only"

    def test_then_a_second_direction(self):
        truth = boxes(LIVER, BLADDER)
        (found,) = suggest(truth, "i:40 j:30 k:28,32", ["liver", "bladder"], profiles_of(truth, 2))
        assert found.reason == "bladder is in axial slices only"
        assert truth[found.slice.selector()].max() == 2 and found.slice.axis != "k"

    def test_few_voxels_at_a_rim_do_not_show_a_segment(self):
        truth = boxes(LIVER, BLADDER)
        truth[10, 20, 20] = 2  # a stray voxel in the axial slice
        (found,) = suggest(truth, "i:40 j:12 k:10", ["liver", "bladder"])
        assert found.reason == "bladder is in one slice only"


class TestDirections:
    def test_nothing_is_drawn(self):
        found = suggest(boxes(LIVER), "none", ["liver"], count=3)
        assert {one.slice.axis for one in found} == set("ijk")

    def test_through_the_middle_of_what_is_drawn(self):
        truth = boxes(((4, 36), (20, 40), (8, 28)), ((30, 34), (22, 26), (10, 14)))
        found = suggest(truth, "k:12", ["liver", "bladder"], count=3)
        by_axis = {one.slice.axis: one for one in found if "not drawn" not in one.reason}
        assert by_axis["j"].slice.index in range(26, 34)

    def test_reason_names_the_plane(self):
        truth = boxes(LIVER)
        (found,) = suggest(truth, "k:20 k:28 j:20", ["liver"])
        assert found.reason == "no sagittal slice is drawn yet" and found.slice.axis == "i"

    def test_suggestions_at_once_differ_in_direction(self):
        truth = boxes(LIVER, BLADDER)
        profiles = profiles_of(truth, 2, {("k", 10): 1, ("k", 11): 1, ("k", 33): 2})
        found = suggest(truth, "i:16 j:14 k:30", ["liver", "bladder"], profiles, count=3)
        assert {one.slice.axis for one in found} == set("ijk")


class TestSingleSegment:
    def test_even_spacing_with_that_reason(self):
        (found,) = suggest(boxes(LIVER), "i:26 j:22 k:20", ["liver"])
        assert "evenly spaced" in found.reason and "liver" in found.reason and found.segment == 1

    def test_uncertainty_does_not_change_it(self):
        truth = boxes(LIVER)
        plain = suggest(truth, "i:26 j:22 k:20", ["liver"])
        unsure = profiles_of(truth, 1, {("i", 20): 1, ("k", 16): 1})
        assert suggest(truth, "i:26 j:22 k:20", ["liver"], unsure) == plain

    def test_one_after_the_other_becomes_evenly_spread(self):
        """As evenly as slices that are planned together, but for a quarter of their gap."""
        truth, slices = boxes(LIVER), parse_slices(["i:26 j:22 k:20"])
        while len(slices) < 9:
            labels = restrict_to_slices(truth, slices)
            slices += [s.slice for s in suggest_slices(labels, slices, ["liver"], grid(), None, 1)]
        for axis in "ijk":
            own = sorted(s.index for s in slices if s.axis == axis)
            even = [s.index for s in spread_slices((3, 3, 3), SHAPE, truth > 0) if s.axis == axis]
            assert len(own) == 3 and np.abs(np.array(own) - even).max() <= 3


class TestEnds:
    def test_near_the_end_beyond_two_slices(self):
        truth = boxes(LIVER, BLADDER)
        drawn = "i:16,32 j:12,14,30 k:28,32"
        (found,) = suggest(truth, drawn, ["liver", "bladder"], profiles_of(truth, 2))
        assert found.slice.axis == "k" and 4 < found.slice.index < 14
        assert found.reason == "the inferior end of the segments lies far from any axial slice"

    def test_not_with_one_slice_inside(self):
        truth = boxes(LIVER, BLADDER)
        found = suggest(truth, "i:16 j:14 k:30", ["liver", "bladder"], profiles_of(truth, 2))
        assert "end of" not in found[0].reason


class TestScores:
    NAMES = ("liver", "bladder")
    DRAWN = "i:16,37 j:13,31 k:11,30"

    @pytest.fixture(autouse=True)
    def quiet(self, monkeypatch):
        monkeypatch.setattr(scores, "NOISE", 0.0)

    def scored(self, unsure, seed=0, drawn=DRAWN):
        truth = boxes(LIVER, BLADDER)
        (found,) = suggest(truth, drawn, self.NAMES, profiles_of(truth, 2, unsure), seed=seed)
        return found

    def test_where_the_model_is_unsure(self):
        found = self.scored({("k", 21): 1})
        assert abs(found.slice.index - 21) <= 1 and found.slice.axis == "k"
        assert found.reason == "the model is unsure in the middle of liver" and found.segment == 1

    def test_a_small_segment_counts_as_much_as_a_large_one(self):
        found = self.scored({("k", 21): 1, ("j", 21): 2})
        assert found.slice.axis == "j" and found.segment == 2

    def test_never_beside_a_drawn_slice(self):
        found = self.scored({("k", 29): 1, ("k", 31): 1, ("k", 21): 1})
        assert found.slice.axis == "k" and abs(found.slice.index - 30) > 2

    def test_one_direction_is_not_drawn_ahead_of_the_others(self):
        found = self.scored({("k", 21): 1, ("i", 25): 1}, drawn=self.DRAWN + " k:20")
        assert found.slice.axis != "k"

    def test_noise_is_that_of_the_seed_and_decays(self, monkeypatch):
        monkeypatch.setattr(scores, "NOISE", 1.0)
        truth = boxes(LIVER, BLADDER)
        unsure = {(axis, n): 1 for axis in "ijk" for n in range(14, 29)}
        profiles = profiles_of(truth, 2, unsure)

        def spread(drawn):
            slices = parse_slices([drawn])
            labels = restrict_to_slices(truth, slices)
            state = Situation.of(labels, slices, self.NAMES, grid(), profiles)
            logs = [np.log(scores.slice_scores(state, seed)["i"][22]) for seed in range(20)]
            return np.std(logs), scores.slice_scores(state, 3)["i"]

        few, many = spread("i:16,34 j:30 k:30"), spread(self.DRAWN + " j:8 j:36 k:6 k:36")
        assert many[0] < few[0] / 2
        assert (spread("i:16,34 j:30 k:30")[1] == few[1]).all()

    def test_nothing_is_unsure(self):
        assert "evenly spaced" in self.scored({}).reason


class TestWords:
    @pytest.mark.parametrize(
        ("directions", "words"),
        [
            (AXIAL, ("axial", "inferior", "superior")),
            ((-1, 0, 0, 0, 0, -1, 0, -1, 0), ("coronal", "posterior", "anterior")),
            ((1, 0, 0, 0, 0.707, -0.707, 0, 0.707, 0.707), ("k", "first", "last")),
        ],
    )
    def test_axes(self, directions, words):
        found = axis_words(grid(directions=directions))["k"]
        assert (found.plane, found.low, found.high) == words

    def test_places(self):
        words = axis_words(grid())["k"]
        places = [place_within(share, words) for share in (0.05, 0.3, 0.5, 0.7, 0.95)]
        assert places == [
            "at the inferior end of",
            "in the inferior half of",
            "in the middle of",
            "in the superior half of",
            "at the superior end of",
        ]

    def test_long_lists_are_cut(self):
        assert listed(["a"]) == "a" and listed(["a", "b"]) == "a and b"
        assert listed(list("abcde")) == "a, b and 3 more"


class TestExtents:
    def test_stray_voxels_do_not_stretch_them(self):
        row = np.zeros(50)
        row[10:30], row[48] = 100, 2
        assert extent(row) == (10, 29) and extent(np.zeros(4)) is None

    def test_correlation_length_is_in_mm(self):
        areas = dict.fromkeys("ijk", np.array([[0, 1, 1, 1, 1, 0]]))
        single = correlation_length(areas, dict.fromkeys("ijk", 1.0))
        assert correlation_length(areas, dict.fromkeys("ijk", 3.0)) == pytest.approx(3 * single)

    def test_anisotropic_slices_are_never_drawn_twice(self):
        truth = boxes(LIVER)
        geometry = grid(spacing=(1.0, 1.0, 20.0))
        found = suggest(truth, "k:20 k:22 i:26 j:22", ["liver"], count=9, geometry=geometry)
        places = [(one.slice.axis, one.slice.index) for one in found]
        assert len(set(places)) == len(places) and not {("k", 20), ("k", 22)} & set(places)


def test_nothing_is_left():
    truth = boxes(LIVER)
    every = " ".join(f"{a}:{n}" for a, size in zip("kji", SHAPE, strict=True) for n in range(size))
    assert suggest(truth, every, ["liver"], count=3) == []


def test_a_slice_annotated_in_part():
    """What its box shows counts at the place of the box."""
    truth = boxes(LIVER)
    item = AnnotatedSlice("k", 20, ((10, 20), (30, 40)))
    labels = restrict_to_slices(truth, [item])
    found = suggest_slices(labels, [item], ["liver"], grid(), None, 2)
    by_axis = {one.slice.axis: one.slice.index for one in found}
    assert by_axis["j"] in range(10, 20) and by_axis["i"] in range(30, 40)


def test_slices_that_even_spacing_would_add():
    assert evenly_added([], 10, 30, 1) == [20]
    assert evenly_added([12, 28], 10, 30, 1) == [20]
    assert evenly_added([20], 10, 30, 2) == [13, 27], "an end is held by a slice near it"
    assert evenly_added([10, 11, 12], 10, 12, 2) == []
    assert sorted(evenly_added([], 0, 3, 9)) == [0, 1, 2, 3], "no more than there are"
