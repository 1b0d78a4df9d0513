"""Segments drawn on any grid: what was drawn arrives on the image's, or it is said what did not."""

import numpy as np
import pytest

from SparseSegNetLib.annotation.carry import carry, carry_slices, count_outside
from SparseSegNetLib.annotation.drawn import (
    BACKGROUND_DRAWN,
    NO_SEGMENT,
    Drawing,
    label_array,
)
from SparseSegNetLib.annotation.drawn_messages import Source
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.grid_map import GridMap
from SparseSegNetLib.annotation.layers import Layer, merge_layers, overlaps_of
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import InputError

TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
SHAPE = (10, 14, 16)
K3, K6, I5 = AnnotatedSlice("k", 3), AnnotatedSlice("k", 6), AnnotatedSlice("i", 5)


def grid(shape=SHAPE, spacing=(0.5, 0.7, 2.0), start=(0, 0, 0), directions=TURN):
    """A grid with its voxel (0, 0, 0) at `start`, in voxels (k, j, i) of the default grid."""
    usual = Geometry((1, 1, 1), (0.5, 0.7, 2.0), (-3.0, 4.0, 50.0), tuple(TURN.ravel()))
    k, j, i = start
    place = usual.position(i, j, k)
    return Geometry(tuple(reversed(shape)), spacing, place, tuple(directions.ravel()))


IMAGE = grid()


def truth():
    array = np.zeros(SHAPE, np.uint16)
    array[2:8, 3:10, 3:12] = 1
    array[3:7, 5:8, 5:9] = 2
    return array


def drawn(slices=(K3, K6, I5)):
    """The truth in annotated slices."""
    array = np.zeros(SHAPE, np.uint16)
    for item in slices:
        array[item.selector()] = truth()[item.selector()]
    return array


def composed(slices=(K3, K6, I5)):
    """The labels that `drawn` stands for."""
    labels = np.full(SHAPE, 255, np.uint8)
    for item in slices:
        labels[item.selector()] = truth()[item.selector()]
    return labels


def read(numbers, own, slices=None, names=("A", "B"), **options):
    source = Source("Drawn", names, "name the slices", "Draw Background")
    return label_array([Drawing(numbers, own)], IMAGE, slices, source, **options)


class TestSameVoxels:
    def test_as_drawn(self):
        found = read(drawn(), IMAGE)
        assert (found.labels == composed()).all() and not found.warnings
        assert found.slices == [I5, K3, K6]

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_flipped(self, axis):
        start = [0, 0, 0]
        start[axis] = SHAPE[axis] - 1
        directions = TURN.copy()
        directions[:, 2 - axis] *= -1
        found = read(np.flip(drawn(), axis), grid(start=start, directions=directions))
        assert (found.labels == composed()).all() and found.slices == [I5, K3, K6]

    def test_permuted(self):
        own = grid((16, 10, 14), (0.7, 2.0, 0.5), directions=TURN[:, [1, 2, 0]])
        found = read(drawn().transpose(2, 0, 1), own)
        assert (found.labels == composed()).all() and found.slices == [I5, K3, K6]

    def test_cropped_to_its_content(self):
        """Slices reach through the volume although the file holds a part of them."""
        own = grid((6, 7, 9), start=(2, 3, 3))
        found = read(drawn()[2:8, 3:10, 3:12], own)
        assert (found.labels == composed()).all() and not found.warnings

    def test_larger_than_the_image(self):
        numbers = np.zeros((14, 14, 16), np.uint16)
        numbers[2:12] = drawn()
        numbers[12, 3:9, 3:9] = 1
        found = read(numbers, grid((14, 14, 16), start=(-2, 0, 0)))
        assert (found.labels == composed()).all()
        assert "36 of" in found.warnings[0] and "outside the volume" in found.warnings[0]
        assert found.warnings[1].startswith("1 of 4 drawn slices")

    def test_elsewhere(self):
        with pytest.raises(InputError, match=r"do not overlap: all \d+ drawn voxels"):
            read(drawn(), grid(start=(50, 0, 0)))

    def test_nearly_the_same(self):
        assert GridMap.between(grid(start=(0.008, 0, 0)), IMAGE).whole().start == (0, 0, 0)
        assert GridMap.between(grid(start=(0.02, 0, 0)), IMAGE).whole() is None


class TestFiner:
    @pytest.mark.parametrize("sub", [(0, 1, 2), (0, 0, 0), (2, 2, 2)])
    def test_one_sub_slice_is_drawn(self, sub):
        """Three times as fine along k: each drawn slice is one fine slice thick."""
        slices = (K3, K6, AnnotatedSlice("k", 4))
        fine = np.zeros((30, *SHAPE[1:]), np.uint16)
        for item, n in zip(slices, sub, strict=True):
            fine[3 * item.index + n] = truth()[item.index]
        found = read(fine, grid(fine.shape, (0.5, 0.7, 2 / 3), (-1 / 3, 0, 0)))
        assert (found.labels == composed(slices)).all() and found.slices == sorted(slices)

    @pytest.mark.parametrize("times", [2, 3])
    def test_oversampled(self, times):
        """Twice and three times as fine along all axes."""
        fine = drawn()
        for axis in range(3):
            fine = fine.repeat(times, axis)
        shift = -(times - 1) / (2 * times)
        own = grid(fine.shape, (0.5 / times, 0.7 / times, 2 / times), (shift,) * 3)
        # All fine slices of one slice: named, since side by side they look like a solid object.
        found = read(fine, own, [K3, K6, I5])
        assert (found.labels == composed()).all() and not found.warnings

    def test_the_majority_counts(self):
        """In-plane, the background of a drawn fine slice counts as well as what is drawn."""
        fine = np.zeros((10, 28, 32), np.uint16)
        fine[3, 6:15, 6:17] = 1  # 4.5 voxels wide and 5.5 long
        own = grid(fine.shape, (0.25, 0.35, 2.0), (0, -0.25, -0.25))
        labels = read(fine, own, names=("A",)).labels
        wanted = np.zeros(SHAPE[1:], np.uint8)
        wanted[3:8, 3:9] = 1  # half a voxel counts for the segment
        wanted[7, 8] = 0  # a quarter does not
        assert (labels[3] == wanted).all() and (labels[4] == 255).all()

    def test_a_tiny_segment_is_not_outvoted(self):
        fine = np.zeros((10, 42, 48), np.uint16)
        fine[3, 9:30, 9:36] = 1
        fine[3, 20, 20] = 2
        own = grid(fine.shape, (0.5 / 3, 0.7 / 3, 2.0), (0, -1 / 3, -1 / 3))
        labels = read(fine, own).labels
        assert (labels == 2).sum() == 1 and labels[3, 6, 6] == 2


class TestOther:
    def test_coarser(self):
        """Half as fine along k: a coarse slice is both slices whose centres lie in it."""
        coarse = np.zeros((5, *SHAPE[1:]), np.uint16)
        coarse[[1, 3], 3:10, 3:12] = 1
        found = read(coarse, grid(coarse.shape, (0.5, 0.7, 4.0), (0.5, 0, 0)), names=("A",))
        assert [s.index for s in found.slices] == [2, 3, 6, 7]
        assert (found.labels[[2, 3, 6, 7], 3:10, 3:12] == 1).all()
        assert (found.labels == 1).sum() == 4 * 7 * 9 and (found.labels[[4, 5]] == 255).all()

    def test_half_a_voxel_beside(self):
        own = grid(start=(0.5, 0, 0))
        found = read(drawn((K3, K6)), own)
        assert found.slices == [AnnotatedSlice("k", 4), AnnotatedSlice("k", 7)]
        assert (found.labels[[4, 7]] == truth()[[3, 6]]).all()
        assert (np.delete(found.labels, [4, 7], 0) == 255).all()

    def test_oblique(self):
        turn = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
        own = grid(start=(0, 0, 2), directions=TURN @ turn)
        found = read(drawn((K3, K6)), own)
        assert any("oblique" in text and "2 drawn slices" in text for text in found.warnings)
        # Each voxel has the label of the drawn voxel that its centre lies in.
        back = GridMap.between(IMAGE, own)
        points = np.argwhere(found.labels != 255)
        at = back.holders(points)
        inside = ((at >= 0) & (at < SHAPE)).all(1)
        assert inside.sum() > 100 and set(at[inside, 0]) <= {3, 6}
        assert (found.labels[tuple(points[inside].T)] == truth()[tuple(at[inside].T)]).all()

    def test_slices_and_voxels_outside(self):
        place = GridMap.between(grid(start=(-5, 0, 0)), IMAGE)
        assert carry_slices([K3, K6], place) == [AnnotatedSlice("k", 1)]
        assert count_outside(drawn((K3,)) > 0, place) == np.count_nonzero(drawn((K3,)))
        assert (carry(drawn((K3, K6)), place, 0)[1] == truth()[6]).all()

    def test_values_without_segment_and_background(self):
        numbers = drawn((K3, K6))
        numbers[3, 0, 0], numbers[5, 0, 0] = NO_SEGMENT, BACKGROUND_DRAWN
        found = read(numbers, IMAGE)
        assert found.labels[3, 0, 0] == 255 and found.labels[5, 0, 0] == 0
        assert (found.labels[6] == truth()[6]).all()


class TestLayers:
    def layers(self):
        organ, tumour = truth() > 0, np.zeros(SHAPE, bool)
        tumour[4:6, 5:7, 6:8] = True
        part = np.s_[3:7, 4:9, 4:10]  # layers are cropped to their content
        return [
            Layer(tumour[part], grid((4, 5, 6), start=(3, 4, 4)), {1: 1}),
            Layer(organ, IMAGE, {1: 2}),
        ]

    def test_they_are_merged_in_the_given_order(self):
        layers = self.layers()
        found = overlaps_of(layers, 2)
        assert found.shared == {(0, 1): 8} and found.sizes == [8, 6 * 7 * 9]
        (merged,) = merge_layers(layers, [1, 0], IMAGE)
        assert merged.geometry == IMAGE
        assert (merged.numbers == 1).sum() == 8 and (merged.numbers == 2).sum() == 378 - 8
        (merged,) = merge_layers(layers, [0, 1], IMAGE)
        assert (merged.numbers > 0).sum() == 378 and not (merged.numbers == 1).any()

    def test_the_smallest_grid_that_holds_all(self):
        layers = self.layers()
        layers[1] = Layer(layers[1].values[2:8], grid((6, 14, 16), start=(2, 0, 0)), {1: 2})
        (merged,) = merge_layers(layers, [1, 0])
        assert merged.numbers.shape == (6, 14, 16) and (merged.numbers == 1).sum() == 8

    def test_layers_with_other_voxels_stay_apart(self):
        layers = self.layers()
        layers[0] = Layer(layers[0].values, grid((4, 5, 6), (0.25, 0.35, 1.0)), {1: 1})
        assert len(merge_layers(layers, [1, 0], IMAGE)) == 2
        assert overlaps_of(layers, 2).shared == {}
