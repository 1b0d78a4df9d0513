"""Strokes, outlines, background values, 0/255 masks and one label file per structure."""

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.line_drawing import count_lines, drawn_as_strokes
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice, parse_slices
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import geometry_of
from SparseSegNetLib.files.labels import Reading, read_annotation, read_structures
from SparseSegNetLib.files.segmentation_file import metadata
from SparseSegNetLib.files.writing import check_writable, write_labels

SHAPE = (12, 40, 44)
SLICES = (3, 6, 9)


def sitk_image(array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.5, 2.0))
    image.SetOrigin((7.0, -3.0, 11.0))
    return image


GRID = geometry_of(sitk_image(np.zeros(SHAPE, np.uint8)))


def save(path, array, origin=None, head=None):
    image = sitk_image(array)
    if origin is not None:
        image.SetOrigin(origin)
    for key, value in (head or {}).items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path), True)
    return path


def named(path, array, *names):
    segments = [Segment(n, n, (1, 0, 0), place) for place, n in enumerate(names, start=1)]
    return save(path, array, head=metadata(segments, SHAPE))


def strokes():
    """A in a cross, B beside it, background (3) around; brush of two voxels."""
    array = np.zeros(SHAPE, np.uint8)
    for k in SLICES:
        array[k, 10:12, 10:30] = 1
        array[k, 16:18, 14:26] = 2
        array[k, 30:32, 4:40] = 3
        array[k, 4:28, 38:40] = 3
    return array


def complete():
    array = np.zeros(SHAPE, np.uint8)
    for k in SLICES:
        array[k, 8:22, 8:32] = 1
        array[k, 14:20, 12:28] = 2
    return array


class TestStrokes:
    def test_with_background(self, tmp_path):
        path = named(tmp_path / "s.seg.nrrd", strokes(), "A", "B", "Background")
        found = read_annotation(path, GRID)
        wanted = np.array([255, 1, 2, 0], np.uint8)[strokes()]
        assert (found.labels == wanted).all()
        assert [s.index for s in found.slices] == list(SLICES)
        assert "Background is drawn in 3 of 3 slices" in found.warnings[0]
        # Named slices are complete whatever is drawn in them.
        found = read_annotation(path, GRID, Reading(slices=parse_slices(["k:3,6,9"])))
        assert (found.labels[[3, 6, 9]] != 255).all() and not found.warnings

    def test_background_of_a_few_voxels(self, tmp_path):
        """As a correction leaves it: the slice stays complete."""
        array = complete()
        array[3, 1, 1:4] = 3
        path = named(tmp_path / "s.seg.nrrd", array, "A", "B", "Background")
        found = read_annotation(path, GRID)
        assert (found.labels[list(SLICES)] != 255).all() and not found.warnings

    def test_without_background(self, tmp_path):
        array = np.where(strokes() == 3, 0, strokes()).astype(np.uint8)
        path = named(tmp_path / "s.seg.nrrd", array, "A", "B")
        with pytest.raises(InputError, match=r"strokes, not filled .* called Background .* none"):
            read_annotation(path, GRID)
        found = read_annotation(path, GRID, Reading(slices=[]))
        assert (found.labels == np.where(array > 0, array, 255)).all()
        found = read_annotation(path, GRID, Reading(slices=[AnnotatedSlice("k", 3)]))
        assert (found.labels[3] == array[3]).all() and (found.labels[4] == 255).all()

    def test_short_ones(self, tmp_path):
        """Three times as long as the brush is wide."""
        array = np.zeros(SHAPE, np.uint8)
        for k in SLICES:
            array[k, 10:13, 10:19] = 1
            array[k, 20:29, 30:33] = 2
        with pytest.raises(InputError, match="strokes, not filled"):
            read_annotation(named(tmp_path / "s.seg.nrrd", array, "A", "B"), GRID)

    def test_one_long_structure_may_be_complete(self, tmp_path):
        array = np.where(strokes() == 1, 1, 0).astype(np.uint8)
        found = read_annotation(named(tmp_path / "s.seg.nrrd", array, "A"), GRID)
        assert "strokes, not filled" in found.warnings[0] and (found.labels[3] == array[3]).all()

    def test_labels_of_ilastik(self, tmp_path):
        array = np.array([0, 2, 3, 1], np.uint8)[strokes()]
        path = save(tmp_path / "l.nrrd", array)
        with pytest.raises(InputError, match=r"--background-label 1.*--slices none"):
            read_annotation(path, GRID, Reading(0))
        found = read_annotation(path, GRID, Reading(0, background=1))
        assert (found.labels == np.array([255, 1, 2, 0], np.uint8)[strokes()]).all()
        assert [s.value for s in found.segments] == [2, 3]
        found = read_annotation(path, GRID, Reading(0, []))
        assert (found.labels == np.array([255, 2, 3, 1], np.uint8)[strokes()]).all()
        for reading, said in (
            (Reading(0, background=7), "no voxel of .* has the value 7"),
            (Reading(0, background=0), "0 cannot mark both"),
            (Reading(background=1), "holds the value 0 besides background 1"),
        ):
            with pytest.raises(InputError, match=said):
                read_annotation(path, GRID, reading)

    def test_outlines(self, tmp_path):
        array = complete()
        array[:, 9:21, 9:31] = 0
        array[array == 2] = 0
        array[list(SLICES), 26:36, 10:20] = 2
        found = read_annotation(named(tmp_path / "s.seg.nrrd", array, "wall", "mass"), GRID)
        assert [w for w in found.warnings if "'wall' is drawn as outlines" in w]
        assert not [w for w in found.warnings if "'mass' is" in w]

    def test_filled_structures_are_none(self, tmp_path):
        path = named(tmp_path / "s.seg.nrrd", complete(), "A", "B")
        assert not read_annotation(path, GRID).warnings
        j, i = np.indices(SHAPE[1:])
        thick = np.zeros(SHAPE, np.uint8)
        thick[6] = np.abs(np.hypot(j - 20, i - 20) - 12) < 2 + 3 * np.sin(i / 5)  # a ring, uneven
        assert not drawn_as_strokes(count_lines(thick, [AnnotatedSlice("k", 6)]))

    def test_empty_segments_are_named(self, tmp_path):
        found = read_annotation(named(tmp_path / "s.seg.nrrd", complete(), "A", "B", "C"), GRID)
        assert "nothing is drawn of 'C'" in found.warnings[0]


class TestValues:
    def test_masks_of_0_and_255(self, tmp_path):
        path = save(tmp_path / "l.nrrd", np.where(complete() > 0, 255, 0).astype(np.uint8))
        with pytest.raises(InputError, match=r"only one class .* --unlabelled 0"):
            read_annotation(path, GRID)
        found = read_annotation(path, GRID, Reading(0))
        assert (found.labels[3] == (complete()[3] > 0)).all() and found.segments[0].value == 255

    def test_255_among_others(self, tmp_path):
        path = save(tmp_path / "l.nrrd", np.array([0, 100, 255], np.uint8)[complete()])
        with pytest.raises(InputError, match=r"255 in .* --unlabelled 255, or --unlabelled 0"):
            read_annotation(path, GRID)
        assert len(read_annotation(path, GRID, Reading(0)).segments) == 2
        assert len(read_annotation(path, GRID, Reading(255)).segments) == 1

    def test_two_segments_with_one_value(self, tmp_path):
        head = metadata([Segment(n, n, (1, 0, 0), 1) for n in "AB"], SHAPE)
        head["Segment1_LabelValue"] = "1"
        path = save(tmp_path / "s.seg.nrrd", complete(), head=head)
        with pytest.raises(InputError, match="'A' and 'B' share the label value 1 in layer 0"):
            read_annotation(path, GRID)


class TestGrids:
    def test_a_cropped_label_image(self, tmp_path):
        part = complete()[2:11, 4:30, 6:40]
        path = save(tmp_path / "l.nrrd", part, GRID.position(6, 4, 2))
        found = read_annotation(path, GRID, Reading(0))
        assert (found.labels[3] == complete()[3]).all() and "covers only a part" in found.warnings[
            0
        ]
        path = save(tmp_path / "c.nrrd", part)
        with pytest.raises(InputError, match="size 44x40x12 against 34x26x9"):
            read_annotation(path, GRID, Reading(0))

    def test_other_grids_on_request(self, tmp_path):
        fine = complete().repeat(2, 1).repeat(2, 2)
        image = sitk.GetImageFromArray(fine)
        image.SetSpacing((0.25, 0.25, 2.0))
        image.SetOrigin(GRID.position(-0.25, -0.25, 0))
        sitk.WriteImage(image, str(tmp_path / "l.nrrd"))
        with pytest.raises(InputError, match="--resample-labels"):
            read_annotation(tmp_path / "l.nrrd", GRID, Reading(0))
        found = read_annotation(tmp_path / "l.nrrd", GRID, Reading(0, resample=True))
        assert (found.labels[list(SLICES)] == complete()[list(SLICES)]).all()


class TestStructures:
    def files(self, tmp_path):
        organ = save(tmp_path / "organ.nrrd", (complete() > 0).astype(np.uint8))
        tumour = save(tmp_path / "t.nrrd", np.where(complete() == 2, 255, 0).astype(np.uint8))
        return organ, tumour

    def test_each_in_its_file(self, tmp_path):
        organ, tumour = self.files(tmp_path)
        found = read_structures([("tumour", tumour), ("organ", organ)], GRID, Reading())
        assert [s.name for s in found.segments] == ["tumour", "organ"]
        wanted = np.array([0, 2, 1], np.uint8)[complete()[3]]
        assert (found.labels[3] == wanted).all(), "the inner one counts"
        assert "'tumour' lies within 'organ'" in found.warnings[0]

    def test_background_in_a_file(self, tmp_path):
        paths = [save(tmp_path / f"{n}.nrrd", (strokes() == n).astype(np.uint8)) for n in (1, 2, 3)]
        named = list(zip(("A", "B", "background"), paths, strict=True))
        found = read_structures(named, GRID, Reading())
        assert (found.labels == np.array([255, 1, 2, 0], np.uint8)[strokes()]).all()

    def test_refused(self, tmp_path):
        organ, _ = self.files(tmp_path)
        both = save(tmp_path / "both.nrrd", complete())
        with pytest.raises(InputError, match=r"both\.nrrd .* it holds the values \[1, 2\]"):
            read_structures([("organ", organ), ("x", both)], GRID, Reading())
        empty = save(tmp_path / "empty.nrrd", np.zeros(SHAPE, np.uint8))
        with pytest.raises(InputError, match="'x', but nothing is drawn"):
            read_structures([("organ", organ), ("x", empty)], GRID, Reading())
        own = named(tmp_path / "s.seg.nrrd", complete(), "A", "B")
        with pytest.raises(InputError, match="segments of its own"):
            read_structures([("organ", organ), ("x", own)], GRID, Reading())


def test_what_is_written_is_read_again(tmp_path):
    labels = complete()
    segments = [Segment(n, n, (1, 0, 0), v) for n, v in (("A", 5), ("B", 9))]
    check_writable(tmp_path / "o.nrrd")
    write_labels(tmp_path / "o.nrrd", labels, GRID, segments)
    found = read_annotation(tmp_path / "o.nrrd", GRID, Reading(0))
    assert [s.value for s in found.segments] == [5, 9] and (found.labels[3] == labels[3]).all()
