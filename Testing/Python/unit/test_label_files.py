"""Label files as other programs write them: values, layers, gaps, axes in another order."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import geometry_of
from SparseSegNetLib.files.labels import read_annotation
from SparseSegNetLib.files.writing import output_values, values_note, write_labels

SHAPE = (6, 7, 8)
OBLIQUE = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)


def grid(array, vector=False):
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing((0.5, 0.7, 2.0))
    image.SetOrigin((-3.0, 4.0, 50.0))
    image.SetDirection(OBLIQUE)
    return image


def segments(*values):
    return [Segment(f"s{n}", f"S{n}", (1, 0, 0), v) for n, v in enumerate(values)]


class TestOutputValues:
    @pytest.mark.parametrize(
        ("own", "expected"),
        [((3, 7), [3, 7]), ((1, 1), [1, 2]), ((2, 1, 2), [1, 2, 3]), ((0, 4), [1, 2]), ((), [])],
    )
    def test_they_tell_segments_apart(self, own, expected):
        assert output_values(segments(*own)) == expected

    def test_a_note_says_which_is_which(self):
        assert values_note("out.nii.gz", segments(3, 7)) is None
        assert values_note("out.seg.nrrd", segments(1, 1)) is None
        assert "1 = S0, 2 = S1" in values_note("out.nii.gz", segments(1, 1))

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
    def test_layers_are_never_merged(self, tmp_path, suffix):
        labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
        geometry = geometry_of(grid(labels))
        write_labels(tmp_path / f"out{suffix}", labels, geometry, segments(1, 1))
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"out{suffix}")))
        assert (found == labels).all()


class TestSegmentation:
    def written(self, path, array, numbers=(0, 1), values=(1, 2)):
        image = grid(array)
        for number, value in zip(numbers, values, strict=True):
            for key, text in (("ID", f"s{number}"), ("Name", f"S{number}"), ("Layer", "0")):
                image.SetMetaData(f"Segment{number}_{key}", text)
            image.SetMetaData(f"Segment{number}_LabelValue", str(value))
        sitk.WriteImage(image, str(path))
        return geometry_of(image)

    def drawn(self):
        array = np.zeros(SHAPE, np.uint8)
        array[3, 1:6, 1:4], array[3, 1:6, 4:7] = 1, 2
        return array

    def test_a_gap_between_the_segments(self, tmp_path):
        """As when a program has removed the second of three."""
        geometry = self.written(tmp_path / "a.seg.nrrd", self.drawn(), (0, 2))
        found = read_annotation(tmp_path / "a.seg.nrrd", geometry)
        assert [s.name for s in found.segments] == ["S0", "S2"]
        assert (found.labels[3, 1:6, 4:7] == 2).all() and not found.warnings

    def test_a_value_without_a_segment_is_unlabelled(self, tmp_path):
        array = self.drawn()
        array[3, 0, :5] = 9
        geometry = self.written(tmp_path / "a.seg.nrrd", array)
        found = read_annotation(tmp_path / "a.seg.nrrd", geometry)
        assert (found.labels[3, 0, :5] == UNLABELLED).all() and found.labels[3, 0, 6] == 0
        assert any("label value 9 (5 voxels)" in text for text in found.warnings)


class TestAxes:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    @pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
    def test_flipped_and_permuted_axes_are_put_in_order(self, tmp_path, order, flips):
        labels = np.full(SHAPE, UNLABELLED, np.uint8)
        labels[3] = np.random.default_rng(0).integers(0, 3, SHAPE[1:])
        image = grid(labels)
        geometry = geometry_of(image)
        turned = sitk.Flip(sitk.PermuteAxes(image, order), flips, False)
        sitk.WriteImage(turned, str(tmp_path / "labels.nrrd"))
        found = read_annotation(tmp_path / "labels.nrrd", geometry)
        assert (found.labels == labels).all()

    def test_other_angles_are_refused(self, tmp_path):
        labels = np.full(SHAPE, UNLABELLED, np.uint8)
        labels[3] = 1
        labels[3, :3] = 0
        image = grid(labels)
        geometry = geometry_of(image)
        image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(tmp_path / "labels.nrrd"))
        with pytest.raises(InputError, match="do not lie on the image's grid"):
            read_annotation(tmp_path / "labels.nrrd", geometry)
