"""Files in and out: geometry to the last bit, labels and segmentations, clear refusals."""

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import geometry_of, read_file, read_volume
from SparseSegNetLib.files.labels import Reading, read_annotation
from SparseSegNetLib.files.writing import check_output, write_labels

SEGMENTS = [
    Segment(
        "Segment_7",
        "Tubule wall",
        (0.9, 0.6, 0.1),
        3,
        {"TerminologyEntry": "Segmentation category~SCT^85756007^Tissue~^^~~^^~^^", "x": "y"},
    ),
    Segment("Segment_9", "Lümen", (0.25, 0.5, 1.0), 300, {}),
]


def rotation(seed: int, left_handed: bool = False) -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    if (np.linalg.det(turn) < 0) != left_handed:
        turn[:, 0] *= -1
    return turn


def save(path, array, seed=0, oblique=True, left_handed=False, spacing=(0.7, 1.3, 3.1)):
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    if oblique:
        image.SetDirection(rotation(seed, left_handed).ravel())
    image.SetSpacing(spacing)
    image.SetOrigin((1 / 3, -200.7, 55.1))
    sitk.WriteImage(image, str(path))
    return path


def sparse_labels(shape=(6, 7, 8)):
    labels = np.full(shape, UNLABELLED, np.uint8)
    labels[2] = 0
    labels[2, 2:5, 3:6] = 1
    labels[2, 3, 4] = 2
    return labels


class TestGeometry:
    @pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd"])
    @pytest.mark.parametrize("seed", range(12))
    def test_nrrd_to_nrrd_to_the_last_bit(self, tmp_path, suffix, seed):
        image = save(
            tmp_path / "a.nrrd",
            np.zeros((6, 7, 8), np.int16),
            seed,
            seed > 0,
            seed % 2 == 1,
            np.random.default_rng(seed).uniform(0.1, 5, 3).tolist(),
        )
        wanted = read_volume([image]).geometry
        write_labels(tmp_path / f"b{suffix}", np.zeros((6, 7, 8), np.uint8), wanted, SEGMENTS)
        assert geometry_of(sitk.ReadImage(str(tmp_path / f"b{suffix}"))) == wanted

    @pytest.mark.parametrize("source", [".nrrd", ".mha", ".nii.gz"])
    @pytest.mark.parametrize("seed", range(4))
    def test_anything_to_mha_to_the_last_bit(self, tmp_path, source, seed):
        image = save(tmp_path / f"a{source}", np.zeros((6, 7, 8), np.int16), seed)
        wanted = read_volume([image]).geometry
        write_labels(tmp_path / "b.mha", np.zeros((6, 7, 8), np.uint8), wanted, SEGMENTS, image)
        assert geometry_of(sitk.ReadImage(str(tmp_path / "b.mha"))) == wanted

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("seed", range(6))
    def test_nifti_to_nifti_to_the_last_bit(self, tmp_path, ending, seed):
        image = save(
            tmp_path / "a.nii.gz", np.zeros((6, 7, 8), np.int16), seed, seed > 0, seed % 2 == 1
        )
        wanted = read_volume([image]).geometry
        labels = np.arange(336).reshape(6, 7, 8).astype(np.uint8) % 3
        write_labels(tmp_path / f"b{ending}", labels, wanted, SEGMENTS, image)
        found = sitk.ReadImage(str(tmp_path / f"b{ending}"))
        assert geometry_of(found) == wanted
        assert set(np.unique(sitk.GetArrayFromImage(found))) == {0, 3, 300}

    @pytest.mark.parametrize("source", [".mha", ".nii.gz"])
    def test_other_formats_to_nrrd_keep_spacing_and_origin_exactly(self, tmp_path, source):
        image = save(tmp_path / f"a{source}", np.zeros((6, 7, 8), np.int16), 3)
        wanted = read_volume([image]).geometry
        write_labels(tmp_path / "b.nrrd", np.zeros((6, 7, 8), np.uint8), wanted, SEGMENTS, image)
        found = geometry_of(sitk.ReadImage(str(tmp_path / "b.nrrd")))
        assert found.origin == wanted.origin
        assert np.allclose(found.spacing, wanted.spacing, rtol=1e-15, atol=0)
        # A NRRD holds the product of spacing and direction: the last digit may differ.
        assert np.allclose(found.directions, wanted.directions, rtol=0, atol=2e-15)

    def test_rounding_format_is_pointed_out_and_lossy_one_refused(self, tmp_path):
        image = save(tmp_path / "a.nrrd", np.zeros((6, 7, 8), np.int16), 3)
        grid = read_volume([image]).geometry
        assert "single precision" in check_output(tmp_path / "b.nii.gz", grid, [image])
        assert check_output(tmp_path / "b.nrrd", grid, [image]) is None
        with pytest.raises(InputError, match="cannot hold the image's geometry"):
            check_output(tmp_path / "b.tif", grid, [image])
        with pytest.raises(InputError, match="cannot be written as"):
            check_output(tmp_path / "b.xyz", grid, [image])
        with pytest.raises(InputError, match="two files"):
            check_output(tmp_path / "b.mhd", grid, [image])
        assert [p.name for p in tmp_path.iterdir()] == ["a.nrrd"], "trials leave nothing behind"


class TestImages:
    @pytest.mark.parametrize("kind", [np.int16, np.uint8, np.uint16, np.float32, np.int32])
    def test_types_are_kept(self, tmp_path, kind):
        path = save(tmp_path / "a.nrrd", np.arange(336).reshape(6, 7, 8).astype(kind))
        volume = read_volume([path])
        assert volume.image.dtype == kind and volume.image.shape == (1, 6, 7, 8)
        assert volume.image[0, 0, 0, 7] == 7

    def test_files_and_components_are_channels(self, tmp_path):
        one = save(tmp_path / "a.nrrd", np.full((6, 7, 8), 5, np.int16))
        rgb = save(tmp_path / "b.nrrd", np.zeros((6, 7, 8, 3), np.uint8) + np.uint8([1, 2, 3]))
        volume = read_volume([one, rgb])
        assert volume.image[:, 0, 0, 0].tolist() == [5, 1, 2, 3]
        assert volume.channels == ["a.nrrd", "b.nrrd[0]", "b.nrrd[1]", "b.nrrd[2]"]

    def test_channels_on_different_grids(self, tmp_path):
        one = save(tmp_path / "a.nrrd", np.zeros((6, 7, 8), np.int16))
        two = save(tmp_path / "b.nrrd", np.zeros((6, 7, 9), np.int16))
        with pytest.raises(InputError, match=r"8x7x6 against 9x7x6"):
            read_volume([one, two])

    def test_non_finite_voxels_are_counted(self, tmp_path):
        array = np.ones((6, 7, 8), np.float32)
        array[0, 0, :3] = [np.nan, np.inf, -np.inf]
        path = save(tmp_path / "a.nrrd", array)
        with pytest.raises(InputError, match=r"3 voxels .*--replace-nonfinite"):
            read_volume([path])
        assert (read_volume([path], replace_nonfinite=True).image == 1).all()

    def test_missing_and_damaged_files(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            read_file(tmp_path / "no.nrrd", "the image")
        (tmp_path / "bad.nrrd").write_bytes(b"NRRD0004\nrubbish")
        with pytest.raises(InputError, match="cannot be read"):
            read_file(tmp_path / "bad.nrrd", "the image")
        (tmp_path / "text.txt").write_text("hello")
        with pytest.raises(InputError, match="cannot be read"):
            read_file(tmp_path / "text.txt", "the image")
        (tmp_path / "folder").mkdir()
        with pytest.raises(InputError, match="0 DICOM series"):
            read_file(tmp_path / "folder", "the image")


class TestLabels:
    def grid(self, tmp_path, shape=(6, 7, 8)):
        return read_volume([save(tmp_path / "image.nrrd", np.zeros(shape, np.int16))]).geometry

    def test_image_with_255(self, tmp_path):
        path = save(tmp_path / "l.nrrd", sparse_labels())
        found = read_annotation(path, self.grid(tmp_path))
        assert (found.labels == sparse_labels()).all()
        assert found.slices == [AnnotatedSlice("k", 2)]
        assert [s.value for s in found.segments] == [1, 2]

    def test_values_are_renumbered_and_remembered(self, tmp_path):
        labels = sparse_labels().astype(np.uint16)
        labels[labels == 2], labels[labels == 1] = 1000, 7
        labels[labels == 255] = 60000
        path = save(tmp_path / "l.nrrd", labels)
        found = read_annotation(path, self.grid(tmp_path), Reading(60000))
        assert (found.labels == sparse_labels()).all()
        assert [s.value for s in found.segments] == [7, 1000]
        write_labels(tmp_path / "out.nrrd", found.labels % 255, self.grid(tmp_path), found.segments)
        out = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nrrd")))
        assert set(np.unique(out)) == {0, 7, 1000}

    def test_zero_as_unlabelled_is_read_like_a_segmentation(self, tmp_path):
        labels = sparse_labels()
        labels[labels == 255] = 0
        path = save(tmp_path / "l.nrrd", labels)
        found = read_annotation(path, self.grid(tmp_path), Reading(0))
        assert (found.labels == sparse_labels()).all()
        with pytest.raises(InputError, match="nothing to densify"):
            read_annotation(path, self.grid(tmp_path))

    def test_given_slices_restrict_a_label_image(self, tmp_path):
        labels = np.ones((6, 7, 8), np.uint8)
        labels[:, 3] = 0
        path = save(tmp_path / "l.nrrd", labels)
        found = read_annotation(path, self.grid(tmp_path), Reading(slices=[AnnotatedSlice("i", 4)]))
        assert (found.labels[:, :, 4] == labels[:, :, 4]).all()
        assert (found.labels != UNLABELLED).sum() == 42

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"spacing": (0.7, 1.3, 3.0)}, r"spacing 0.7x1.3x3.1 against 0.7x1.3x3 mm"),
            ({"seed": 1}, "directions"),
        ],
    )
    def test_another_grid(self, tmp_path, change, words):
        path = save(tmp_path / "l.nrrd", sparse_labels(), **change)
        with pytest.raises(InputError, match=words):
            read_annotation(path, self.grid(tmp_path))

    def test_another_size(self, tmp_path):
        path = save(tmp_path / "l.nrrd", sparse_labels((6, 7, 9)))
        with pytest.raises(InputError, match=r"size 8x7x6 against 9x7x6"):
            read_annotation(path, self.grid(tmp_path))

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.full((6, 7, 8), 0.5, np.float32), "not whole numbers"),
            (np.full((6, 7, 8), -3, np.int16), "value -3"),
            (np.zeros((6, 7, 8, 3), np.uint8), "3 components"),
            (np.arange(336).reshape(6, 7, 8).astype(np.int16), "intensity image"),
        ],
    )
    def test_no_label_image(self, tmp_path, array, words):
        path = save(tmp_path / "l.nrrd", array)
        with pytest.raises(InputError, match=words):
            read_annotation(path, self.grid(tmp_path))

    def test_slice_outside(self, tmp_path):
        path = save(tmp_path / "l.nrrd", sparse_labels())
        with pytest.raises(InputError, match=r"k:6 lies outside .* 0 to 5"):
            read_annotation(path, self.grid(tmp_path), Reading(slices=[AnnotatedSlice("k", 6)]))


class TestSegmentations:
    def write(self, tmp_path, drawn, segments=SEGMENTS):
        image = save(tmp_path / "image.nrrd", np.zeros(drawn.shape, np.int16))
        grid = read_volume([image]).geometry
        write_labels(tmp_path / "s.seg.nrrd", drawn, grid, segments)
        return grid, tmp_path / "s.seg.nrrd"

    def drawn(self):
        drawn = sparse_labels()
        drawn[drawn == UNLABELLED] = 0
        return drawn

    def test_names_colours_and_tags_come_back(self, tmp_path):
        grid, path = self.write(tmp_path, self.drawn())
        found = read_annotation(path, grid)
        assert (found.labels == sparse_labels()).all()
        for got, wanted in zip(found.segments, SEGMENTS, strict=True):
            assert (got.id, got.name, got.tags) == (wanted.id, wanted.name, wanted.tags)
            assert got.color == pytest.approx(wanted.color, abs=1e-5)
        assert found.slices == [AnnotatedSlice("k", 2)]

    def test_slicer_core_reads_what_we_write(self, tmp_path):
        slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
        _, path = self.write(tmp_path, self.drawn())
        scene = slicer.vtkMRMLScene()
        storage = slicer.vtkMRMLSegmentationStorageNode()
        node = slicer.vtkMRMLSegmentationNode()
        scene.AddNode(storage)
        scene.AddNode(node)
        storage.SetFileName(str(path))
        assert storage.ReadData(node)
        segmentation = node.GetSegmentation()
        assert [segmentation.GetNthSegment(n).GetName() for n in range(2)] == [
            s.name for s in SEGMENTS
        ]
        assert segmentation.GetNthSegmentID(1) == "Segment_9"
        assert segmentation.GetNthSegment(1).GetColor() == pytest.approx((0.25, 0.5, 1.0))

    def test_background_segment_labels_background(self, tmp_path):
        drawn = self.drawn()
        drawn[5, 0, 0] = 3
        extra = [*SEGMENTS, Segment("b", "background", (0, 0, 0), 3)]
        grid, path = self.write(tmp_path, drawn, extra)
        found = read_annotation(path, grid)
        assert len(found.segments) == 2 and found.labels[5, 0, 0] == 0
        assert (found.labels == 0).sum() == 56 - 9 + 1

    def test_empty_slices_can_be_named(self, tmp_path):
        grid, path = self.write(tmp_path, self.drawn())
        found = read_annotation(
            path, grid, Reading(slices=[AnnotatedSlice("k", 2), AnnotatedSlice("k", 0)])
        )
        assert (found.labels[0] == 0).all() and (found.labels[1] == UNLABELLED).all()

    def test_overlapping_layers_the_later_segment_wins(self, tmp_path):
        layers = np.zeros((6, 7, 8, 2), np.uint8)
        layers[2, 2:5, 3:6, 0] = 1
        layers[2, 3:6, 4:7, 1] = 1
        image = sitk.GetImageFromArray(layers, isVector=True)
        for n in range(2):
            for key, value in {
                "ID": f"S{n}",
                "Name": f"N{n}",
                "Color": "1 0 0",
                "LabelValue": "1",
                "Layer": str(n),
            }.items():
                image.SetMetaData(f"Segment{n}_{key}", value)
        path = tmp_path / "two.seg.nrrd"
        sitk.WriteImage(image, str(path))
        found = read_annotation(path, geometry_of(image))
        assert (found.labels == 1).sum() == 5 and (found.labels == 2).sum() == 9

    def test_a_cropped_segmentation_is_put_on_the_image_grid(self, tmp_path):
        grid, path = self.write(tmp_path, self.drawn())
        whole = sitk.ReadImage(str(path))
        part = sitk.RegionOfInterest(whole, (5, 5, 3), (2, 1, 1))
        for key in whole.GetMetaDataKeys():
            part.SetMetaData(key, whole.GetMetaData(key))
        sitk.WriteImage(part, str(tmp_path / "part.seg.nrrd"))
        found = read_annotation(tmp_path / "part.seg.nrrd", grid)
        assert (found.labels == sparse_labels()).all()

    def test_elsewhere_in_space(self, tmp_path):
        _, path = self.write(tmp_path, self.drawn())
        image = sitk.ReadImage(str(path))
        grid = geometry_of(image)
        image.SetOrigin((5000.0, 0.0, 0.0))
        sitk.WriteImage(image, str(tmp_path / "far.seg.nrrd"))
        with pytest.raises(InputError, match="do not overlap"):
            read_annotation(tmp_path / "far.seg.nrrd", grid)

    def test_solid_segments_are_pointed_out(self, tmp_path):
        drawn = np.zeros((16, 16, 16), np.uint8)
        drawn[4:12, 4:12, 4:12] = 1
        grid, path = self.write(tmp_path, drawn, SEGMENTS[:1])
        assert "3D brush" in read_annotation(path, grid).warnings[0]
