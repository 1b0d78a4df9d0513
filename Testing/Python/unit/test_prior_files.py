"""Files of an external prior: what is matched with what, other grids, and what is refused."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from test_label_files import OBLIQUE, SHAPE, grid

from SparseSegNetLib.annotation.carry_probability import carry_probability, covered_by
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.grid_map import GridMap
from SparseSegNetLib.annotation.reference_geometry import reference_geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import geometry_of
from SparseSegNetLib.files.prior import prior_files, read_prior
from SparseSegNetLib.files.writing import write_labels
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

ORGAN, TUMOUR = (Segment(f"s{v}", name, (1, 0, 0), v) for name, v in (("Organ", 3), ("Tumour", 7)))


@pytest.fixture
def labels():
    """uint8 (k, j, i): a block of organ with a tumour in it; most of it is no plane of strokes."""
    found = np.zeros(SHAPE, np.uint8)
    found[1:5, 2:6, 2:7] = 1
    found[2:4, 3:5, 3:5] = 2
    return found


@pytest.fixture
def geometry(labels):
    return geometry_of(grid(labels))


def save(path, array, change=lambda image: None):
    image = grid(array)
    change(image)
    sitk.WriteImage(image, str(path))
    return path


def carried(values, between):
    return carry_probability(values, between, covered_by(between))


def read(geometry, *texts, segments=(ORGAN, TUMOUR)):
    return read_prior(prior_files([str(t) for t in texts]), geometry, segments)


class TestMatching:
    def test_a_dense_segmentation_by_name(self, tmp_path, labels, geometry):
        """In another order, spelt otherwise, with a segment more and one that is empty."""
        theirs = [Segment("a", n, (0, 1, 0), v) for v, n in enumerate((" tumour", "Bone", "ORGAN"))]
        path = tmp_path / "dense.seg.nrrd"
        write_labels(path, np.array([0, 3, 1], np.uint8)[labels], geometry, theirs)
        found = read(geometry, path)
        assert found.classes == (1, 2) and found.probabilities.dtype == np.uint8
        for place in (0, 1):
            assert np.array_equal(found.probabilities[place], 255 * (labels == place + 1))
        assert "'Organ'" in found.notes[-1] and "dense.seg.nrrd" in found.notes[-1]

    def test_an_empty_segment_is_not_known(self, tmp_path, labels, geometry):
        path = tmp_path / "dense.seg.nrrd"
        write_labels(path, np.where(labels == 2, 0, labels), geometry, [ORGAN, TUMOUR])
        found = read(geometry, path)
        assert found.classes == (1,)
        assert "nothing in 'Tumour'" in found.notes[0]
        assert "does not know 'Tumour'" in found.notes[-1]

    def test_a_label_image_by_value(self, tmp_path, labels, geometry):
        path = save(tmp_path / "labels.nrrd", np.array([0, 7, 9], np.uint8)[labels])
        found = read(geometry, path)
        assert found.classes == (2,) and "label 7" in found.notes[-1]
        assert np.array_equal(found.probabilities[0], 255 * (labels == 1))

    @pytest.mark.parametrize(
        ("kind", "top"), [(np.float32, 1), (np.float64, 1), (np.uint8, 255), (np.uint8, 1)]
    )
    def test_probabilities_and_masks_by_the_given_name(self, tmp_path, labels, geometry, kind, top):
        share = (labels > 0) * (1.0 if top == 1 and kind == np.uint8 else 0.6)
        path = save(tmp_path / "p.nrrd", (share * top).astype(kind))
        found = read(geometry, f" tumour ={path}")
        assert found.classes == (2,)
        assert np.abs(found.probabilities[0] / 255 - share).max() < 0.003

    def test_several_files(self, tmp_path, labels, geometry):
        one = save(tmp_path / "one.nrrd", (labels == 1).astype(np.float32))
        two = save(tmp_path / "two.nrrd", 7 * (labels == 2).astype(np.uint8))
        found = read(geometry, f"organ={one}", two)
        assert found.classes == (1, 2) and found.probabilities.shape == (2, *SHAPE)
        with pytest.raises(InputError, match="two priors are given for 'Tumour'"):
            read(geometry, two, f"Tumour={one}")

    def test_a_dicom_segmentation(self, tmp_path):
        pytest.importorskip("highdicom")
        from dicom_series import voxels, write_series
        from test_dicom_segmentation import SHAPE as SIZE
        from test_dicom_segmentation import save_seg

        from SparseSegNetLib.files.images import read_volume

        files = write_series(tmp_path / "scan", voxels(*SIZE))
        masks = np.zeros((*SIZE, 2), np.uint8)
        masks[2:6, 2:5, 3:7, 0] = 1
        masks[3:5, 5:, :2, 1] = 1
        save_seg(tmp_path / "seg.dcm", files, masks)
        volume = read_volume([tmp_path / "scan"])
        found = read(volume.geometry, tmp_path / "seg.dcm")
        assert found.classes == (1, 2)
        assert sorted((found.probabilities > 0).sum(axis=(1, 2, 3))) == sorted(
            masks.sum(axis=(0, 1, 2))
        )


class TestOtherGrids:
    def test_flipped_voxels_are_copied(self, tmp_path, labels, geometry):
        path = save(tmp_path / "p.nrrd", (labels == 1).astype(np.float32))
        sitk.WriteImage(sitk.Flip(sitk.ReadImage(str(path)), (True, False, True)), str(path))
        found = read(geometry, f"Organ={path}")
        assert np.array_equal(found.probabilities[0], 255 * (labels == 1))
        assert "another grid" in found.notes[0]

    def test_finer_and_coarser_ones_are_resampled(self, geometry):
        """A ramp stays a ramp; of a finer grid each voxel is the mean of those in it."""
        ramp = np.broadcast_to(np.linspace(0, 1, 32, dtype=np.float32), (8, 8, 32))
        fine = Geometry((32, 8, 8), (0.5, 1.0, 1.0), (0.0, 0.0, 0.0), OBLIQUE)
        step = np.array(OBLIQUE).reshape(3, 3)[:, 0]
        coarse = Geometry((16, 8, 8), (1.0, 1.0, 1.0), tuple(0.25 * step), OBLIQUE)
        found = carried(ramp, GridMap.between(fine, coarse))
        means = ramp.reshape(8, 8, 16, 2).mean(axis=-1)
        assert np.abs(found - means)[:, :, 1:-1].max() < 0.04
        back = carried(found, GridMap.between(coarse, fine))
        assert np.abs(back - ramp)[:, :, 2:-2].max() < 0.06

    def test_a_part_of_the_image(self, geometry):
        """Outside of it nothing is said to be there, up to the border of its voxels."""
        size = tuple(geometry.size)
        half = Geometry(
            (size[0], size[1], 2), (*geometry.spacing[:2], 5.0), geometry.origin, OBLIQUE
        )
        found = carried(np.ones(half.shape, np.float32), GridMap.between(half, geometry))
        # Its two slices reach from -2.5 to 7.5 mm, the image's lie every 2 mm.
        assert (found[:4] == 1).all() and (found[4:] == 0).all()

    @pytest.mark.parametrize("kind", ["probability", "labels", "segmentation"])
    def test_a_box_says_nothing_outside(self, tmp_path, labels, geometry, kind):
        low, high = (1, 2, 1), (5, 7, 7)
        box = tuple(map(slice, low, high))
        inside = np.zeros(SHAPE, bool)
        inside[box] = True
        part, place = labels[box], geometry.position(*low[::-1])
        path = tmp_path / ("p.seg.nrrd" if kind == "segmentation" else "p.nrrd")
        if kind == "segmentation":
            write_labels(path, part, geometry.cropped(low, high), [ORGAN, TUMOUR])
            text = path
        else:
            values = 3 * (part == 1).astype(np.uint8)
            values = values if kind == "labels" else values.astype(np.float32) / 3
            save(path, values, lambda image: image.SetOrigin(place))
            text = path if kind == "labels" else f"Organ={path}"
        found = read(geometry, text)
        assert np.array_equal(found.known, np.stack([inside] * len(found.classes)))
        assert np.array_equal(found.probabilities[0], 255 * ((labels == 1) & inside))
        assert f"covers {100 * inside.mean():.3g} %" in found.notes[-1]

    def test_what_slicer_crops_was_looked_at(self, tmp_path, labels, geometry):
        """Slicer may store what is drawn alone and name the grid of the volume in the header."""
        drawn = tuple(slice(a.min(), a.max() + 1) for a in np.nonzero(labels))
        low, high = ([f(s) for s in drawn] for f in (lambda s: s.start, lambda s: s.stop))
        path = tmp_path / "p.seg.nrrd"
        write_labels(path, labels[drawn], geometry.cropped(low, high), [ORGAN, TUMOUR])
        columns = np.array(OBLIQUE).reshape(3, 3) * geometry.spacing
        matrix = np.eye(4)
        matrix[:3] = np.column_stack((columns, geometry.origin))
        matrix[:2] *= -1
        for size, known in ((geometry.size, None), ((geometry.size[0], geometry.size[1], 4), 4)):
            extent = [n for length in size for n in (0, length - 1)]
            image = sitk.ReadImage(str(path))
            grid = ";".join(map(str, [*matrix.ravel().tolist(), *extent]))
            image.SetMetaData(
                "Segmentation_ConversionParameters",
                f"Smoothing factor|0.5|From 0 to 1.&Reference image geometry|{grid};|Of a volume.&",
            )
            sitk.WriteImage(image, str(path))
            found = read(geometry, path)
            if known is None:
                assert found.known is None
            else:  # what is drawn beyond it counts too
                wanted = np.broadcast_to(np.arange(SHAPE[0])[:, None, None] < known, SHAPE)
                assert np.array_equal(found.known[0], wanted | (labels == 1))

    def test_one_without_position_that_names_another_grid(self, tmp_path, labels, geometry):
        """Where the image has no position a file of its size belongs to it voxel by voxel."""
        path = tmp_path / "p.seg.nrrd"
        write_labels(path, labels, geometry, [ORGAN, TUMOUR])
        image = sitk.ReadImage(str(path))
        grid = "1;0;0;900;0;1;0;900;0;0;1;900;0;0;0;1;0;7;0;6;0;5;"
        entry = f"Reference image geometry|{grid}|Of a volume.&"
        image.SetMetaData("Segmentation_ConversionParameters", entry)
        sitk.WriteImage(image, str(path))
        here = Geometry(
            geometry.size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)
        )
        found = read_prior([(None, path)], here, (ORGAN, TUMOUR), by_index=True)
        assert found.known is None

    def test_a_grid_far_larger_than_memory(self, geometry):
        huge = Geometry((10**6,) * 3, (1.01,) * 3, geometry.origin, (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
        inside = covered_by(GridMap.between(huge, geometry))
        steps = np.array(OBLIQUE).reshape(3, 3) * geometry.spacing
        indices = np.stack(np.indices(SHAPE)[::-1], axis=-1)
        expected = (indices @ steps.T >= -0.505 - 1e-9).all(axis=-1)
        assert 0 < inside.sum() < inside.size and np.array_equal(inside, expected)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "1;0",
            "a;" * 22,
            "nan;" * 22,
            "0;" * 22,
            "1;0;0;0;0;1;0;0;0;0;1;0;0;0;0;1;" + "0;-1;" * 3,
        ],
    )
    def test_a_reference_that_is_none(self, text):
        assert reference_geometry(text) is None

    def test_of_several_files_each_says_what_it_covers(self, tmp_path, labels, geometry):
        one = save(tmp_path / "one.nrrd", (labels == 1).astype(np.float32))
        two = save(tmp_path / "two.nrrd", 7 * (labels == 2).astype(np.uint8)[:4])
        found = read(geometry, f"organ={one}", two)
        assert found.known[0].all() and found.known[1, :4].all() and not found.known[1, 4:].any()

    def test_one_elsewhere_is_refused(self, tmp_path, labels, geometry):
        far = save(tmp_path / "p.nrrd", labels, lambda image: image.SetOrigin((900.0, 0.0, 0.0)))
        with pytest.raises(InputError, match=r"p\.nrrd .*do not overlap"):
            read(geometry, far, segments=[Segment.numbered(1, 0)])
        between = save(tmp_path / "q.nrrd", labels, lambda image: image.SetOrigin((900.3, 0.0, 0)))
        with pytest.raises(InputError, match=r"q\.nrrd .*do not overlap"):
            read(geometry, between, segments=[Segment.numbered(1, 0)])


class TestRefused:
    def test_nothing_in_common(self, tmp_path, labels, geometry):
        path = tmp_path / "dense.seg.nrrd"
        write_labels(
            path, labels, geometry, [Segment(n, n, (0, 1, 0), 1) for n in ("Liver", "Gut")]
        )
        with pytest.raises(InputError) as error:
            read(geometry, path)
        for name in ("'Liver'", "'Gut'", "'Organ'", "'Tumour'", "--prior NAME=FILE"):
            assert name in str(error.value)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (np.full(SHAPE, 1.5, np.float32), "from 0 to 1"),
            (np.full(SHAPE, np.nan, np.float32), "from 0 to 1"),
            (np.full(SHAPE, -3, np.int16), "from 0 to 1"),
            (np.full(SHAPE, 300, np.int16), "from 0 to 1"),
            (np.full(SHAPE, 3, np.uint8), "like a label image"),
        ],
    )
    def test_no_probabilities(self, tmp_path, geometry, values, words):
        with pytest.raises(InputError, match=words):
            read(geometry, f"Organ={save(tmp_path / 'p.nrrd', values)}")

    def test_a_probability_without_a_name(self, tmp_path, geometry):
        path = save(tmp_path / "p.nrrd", np.full(SHAPE, 0.3, np.float32))
        with pytest.raises(InputError, match=r"--prior NAME=p\.nrrd"):
            read(geometry, path)

    def test_a_missing_file(self, tmp_path, geometry):
        with pytest.raises(InputError, match="does not exist"):
            read(geometry, tmp_path / "nowhere.nrrd")


class TestRunFolder:
    @pytest.fixture
    def folder(self, tmp_path, labels, geometry):
        prior = np.stack([255 * (labels == 2)]).astype(np.uint8)
        given = RunInput(
            labels[None], labels, geometry, channels=["1"], prior=prior, prior_classes=(2,)
        )
        return RunFolder.create(tmp_path / "run", [given], [ORGAN, TUMOUR], Options())

    def test_it_comes_back(self, folder, labels):
        found = RunFolder.open(folder.path).read_input()
        assert found.prior_classes == (2,)
        assert np.array_equal(found.prior[0], 255 * (labels == 2)) and found.prior_known is None

    def test_of_a_part(self, tmp_path, labels, geometry):
        known = labels[None] > 0
        given = RunInput(
            labels[None], labels, geometry, [], ["1"],
            prior=255 * known.astype(np.uint8), prior_classes=(1,), prior_known=known,
        )  # fmt: skip
        folder = RunFolder.create(tmp_path / "part", [given], [ORGAN, TUMOUR], Options())
        found = RunFolder.open(folder.path).read_input()
        assert np.array_equal(found.prior_known != 0, known)
        (folder.path / "inputs" / "1" / "prior-known.npy").unlink()
        with pytest.raises(InputError, match=r"prior-known\.npy"):
            RunFolder.open(folder.path)

    @pytest.mark.parametrize("classes", [[3], [1, 1], [], [0], "1", [1, 2]])
    def test_damaged_classes(self, folder, classes):
        path = folder.path / "run.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        found["inputs"][0]["prior"] = classes
        path.write_text(json.dumps(found))
        with pytest.raises(InputError, match="is damaged"):
            RunFolder.open(folder.path)

    @pytest.mark.parametrize(
        "array", [np.zeros((1, 2, 3, 4), np.uint8), np.zeros((1, *SHAPE), np.float32)]
    )
    def test_a_damaged_array(self, folder, array):
        np.save(folder.path / "inputs" / "1" / "prior.npy", array)
        with pytest.raises(InputError, match=r"prior\.npy is damaged"):
            RunFolder.open(folder.path)
