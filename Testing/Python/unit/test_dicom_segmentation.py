"""DICOM segmentations as labels, and DICOM files of several frames; written by highdicom."""

import builtins
import math
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import ROOT, voxels, write_series

hd = pytest.importorskip(
    "highdicom", reason="DICOM segmentations are written by highdicom: pip install highdicom"
)
pydicom = pytest.importorskip("pydicom")

from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.dense import read_dense_pair
from SparseSegNetLib.files.dicom_segmentation import lab_to_rgb
from SparseSegNetLib.files.images import read_file, read_volume
from SparseSegNetLib.files.labels import read_annotation

SHAPE = (8, 7, 9)
LIVER = pydicom.sr.codedict.codes.SCT.Liver
ORGAN = pydicom.sr.codedict.codes.SCT.Organ


def describe(number, name, color=None):
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=ORGAN,
        segmented_property_type=LIVER,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        display_color=color,
    )


def save_seg(path, files, masks, kind="BINARY", names=("organ", "tumour"), colors=(None, None)):
    """masks: (k, j, i, segment) in the order of the files."""
    sources = [pydicom.dcmread(p) for p in files]
    for one in sources:
        one.StudyInstanceUID, one.FrameOfReferenceUID = ROOT + "99", ROOT + "98"
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"):
            setattr(one, name, getattr(one, name, "") or "")
        for name in ("AccessionNumber", "ReferringPhysicianName", "StudyDate", "StudyTime"):
            setattr(one, name, getattr(one, name, None))
    if kind == "LABELMAP":
        masks = (masks * np.arange(1, masks.shape[-1] + 1)).max(axis=-1).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd.seg.Segmentation(
            sources,
            masks,
            kind,
            [
                describe(n, name, color)
                for n, (name, color) in enumerate(zip(names, colors, strict=True), 1)
            ],
            series_instance_uid=hd.UID(),
            series_number=9,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="none",
            manufacturer_model_name="none",
            software_versions="1",
            device_serial_number="1",
        ).save_as(path)
    return path


def drawing():
    """Two segments in planes 2 and 6: one slice each that is drawn completely."""
    masks = np.zeros((*SHAPE, 2), np.uint8)
    masks[2, 1:6, 1:7, 0] = 1
    masks[6, 2:5, 2:5, 0] = 1
    masks[6, 2:4, 6:8, 1] = 1
    return masks


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "s", voxels(*SHAPE))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_lie_in_their_planes(tmp_path, series, kind):
    masks = drawing()
    path = save_seg(tmp_path / "seg.dcm", series, masks, kind)
    found = read_annotation(path, read_volume([tmp_path / "s"]).geometry)
    assert [s.name for s in found.segments] == ["organ", "tumour"]
    assert {(s.axis, s.index) for s in found.slices} == {("k", 2), ("k", 6)}
    assert (found.labels[[2, 6]] == (masks[..., 0] + 2 * masks[..., 1])[[2, 6]]).all()
    assert (np.delete(found.labels, [2, 6], axis=0) == 255).all()
    assert "SCT^10200004^Liver" in found.segments[0].tags["TerminologyEntry"]


def test_segments_that_overlap_are_kept_apart(tmp_path, series):
    masks = drawing()
    masks[2, 2:4, 2:4, 1] = 1
    image = read_file(save_seg(tmp_path / "seg.dcm", series, masks), "the label file", labels=True)
    assert image.GetNumberOfComponentsPerPixel() == 2
    found = read_annotation(tmp_path / "seg.dcm", read_volume([tmp_path / "s"]).geometry)
    assert (found.labels[2] == np.where(masks[2, ..., 1], 2, masks[2, ..., 0])).all()


def test_a_dense_one_is_compared_with_a_label_image(tmp_path, series):
    """Its frames cover a part of the image, and its segments overlap."""
    masks = drawing()
    masks[2, 2:4, 2:4, 1] = 1
    image = sitk.GetImageFromArray((masks[..., 0] > 0).astype(np.uint8))
    image.CopyInformation(read_file(tmp_path / "s", "the image"))
    sitk.WriteImage(image, str(tmp_path / "t.nrrd"))
    path = save_seg(tmp_path / "seg.dcm", series, masks)
    assert read_file(path, "the label file", labels=True).GetSize()[2] < SHAPE[0]
    found, truth = read_dense_pair(path, tmp_path / "t.nrrd")
    assert [s.name for s in found.segments] == ["organ", "tumour"] and not truth.named
    for number in (1, 2):
        mask = np.any([layer == number for layer in found.layers], axis=0)
        at = np.flatnonzero(truth.layers[0].any(axis=(1, 2)))
        assert mask.shape == truth.layers[0].shape and at.tolist() == [2, 6]
        assert (mask == masks[..., number - 1]).all()


def test_a_tilted_series_and_its_segmentation(tmp_path):
    step = 1.7 * math.tan(math.radians(15))
    places = [(0.0, step * k, 1.7 * k) for k in range(8)]
    files = write_series(tmp_path / "s", voxels(*SHAPE), places)
    masks = drawing()
    found = read_annotation(
        save_seg(tmp_path / "seg.dcm", files, masks), read_volume([tmp_path / "s"]).geometry
    )
    assert (found.labels[[2, 6]] == (masks[..., 0] + 2 * masks[..., 1])[[2, 6]]).all()
    assert {s.index for s in found.slices} == {2, 6}


def test_colours(tmp_path, series):
    color = hd.color.CIELabColor(53.2408, 80.0925, 67.2032)  # red, by a table of colours
    path = save_seg(tmp_path / "seg.dcm", series, drawing(), colors=(color, None))
    red = read_annotation(path, read_volume([tmp_path / "s"]).geometry).segments[0].color
    assert red == pytest.approx((1, 0, 0), abs=0.01)
    assert lab_to_rgb(65535, 32896, 32896) == pytest.approx((1, 1, 1), abs=0.01)
    assert lab_to_rgb(0, 32896, 32896) == pytest.approx((0, 0, 0), abs=0.01)


def test_what_cannot_be_labels_is_refused(tmp_path, series):
    path = save_seg(tmp_path / "f.dcm", series, drawing().astype(float), "FRACTIONAL")
    with pytest.raises(InputError, match=r"kind 'FRACTIONAL', expected BINARY .*\.seg\.nrrd"):
        read_file(path, "the label file", labels=True)
    path = save_seg(tmp_path / "seg.dcm", series, drawing())
    with pytest.raises(InputError, match=r"DICOM segmentation \(SEG\): the labels come last"):
        read_volume([path])
    (tmp_path / "own").mkdir()
    path.rename(tmp_path / "own" / "seg.dcm")
    with pytest.raises(InputError, match=r"with the DICOM segmentation seg\.dcm: give this file"):
        read_file(tmp_path / "own", "the label file", labels=True)


def test_a_segmentation_that_was_cut_off(tmp_path, series):
    path = save_seg(tmp_path / "seg.dcm", series, drawing())
    content = path.read_bytes()
    for size in (len(content) - 12, len(content) // 2, 300):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"seg\.dcm"):
            read_file(path, "the label file", labels=True)


def test_a_segmentation_beside_the_series_does_not_matter(tmp_path, series):
    save_seg(tmp_path / "s" / "seg.dcm", series, drawing())
    assert (read_volume([tmp_path / "s"]).image[0] == voxels(*SHAPE)).all()


def test_another_distance_than_the_header_says(tmp_path, series):
    path = save_seg(tmp_path / "seg.dcm", series, drawing())
    data = pydicom.dcmread(path)
    del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    data.save_as(path)
    found = read_annotation(path, read_volume([tmp_path / "s"]).geometry)
    assert {s.index for s in found.slices} == {2, 6}
    assert "1.7 mm is taken" in found.warnings[0]


def test_without_pydicom_both_ways_are_named(tmp_path, series, monkeypatch):
    path = save_seg(tmp_path / "seg.dcm", series, drawing())
    real = builtins.__import__

    def without(name, *rest):
        if name == "pydicom":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install .*\[dicom\].* Slicer .* \.seg\.nrrd"):
        read_file(path, "the label file", labels=True)


def multiframe(path, array, places, groups=lambda n: {}, slopes=None):
    """An enhanced MR image; frame n lies at places[n]."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedMRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = ROOT + "55"
    data.SOPClassUID, data.Modality = pydicom.uid.EnhancedMRImageStorage, "MR"
    data.SeriesInstanceUID, data.StudyInstanceUID = ROOT + "56", ROOT + "57"
    data.SeriesNumber, data.NumberOfFrames = 4, len(array)
    data.Rows, data.Columns = array.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1

    def item(**elements):
        one = pydicom.Dataset()
        for name, value in elements.items():
            setattr(one, name, value)
        return pydicom.Sequence([one])

    shared = item(
        PixelMeasuresSequence=item(PixelSpacing=["0.9", "0.8"], SliceThickness="1.7"),
        PlaneOrientationSequence=item(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"]),
    )
    data.SharedFunctionalGroupsSequence = shared
    frames = []
    for n, place in enumerate(places):
        own = item(PlanePositionSequence=item(ImagePositionPatient=[f"{v:.5f}" for v in place]))[0]
        for name, elements in groups(n).items():
            setattr(own, name, item(**elements))
        if slopes:
            own.PixelValueTransformationSequence = item(
                RescaleSlope=str(slopes[n]), RescaleIntercept="0", RescaleType="US"
            )
        frames.append(own)
    data.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
    data.PixelData = array.astype("<i2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


PLACES = [(0.0, 0.0, 1.7 * k) for k in range(6)]


class TestMultiframe:
    def test_frames_are_placed_by_their_positions(self, tmp_path):
        order = [3, 0, 5, 1, 4, 2]
        array = voxels()
        path = multiframe(tmp_path / "m.dcm", array[order], [PLACES[n] for n in order])
        for given in (path, tmp_path):
            volume = read_volume([given])
            assert (volume.image[0] == array).all()
            assert volume.geometry.spacing == pytest.approx((0.8, 0.9, 1.7))

    def test_a_missing_frame(self, tmp_path):
        places = [*PLACES[:3], *[(x, y, z + 1.7) for x, y, z in PLACES[3:]]]
        path = multiframe(tmp_path / "m.dcm", voxels(), places)
        with pytest.raises(InputError, match=r"m\.dcm \(frame 4\).* 1 slice is missing"):
            read_volume([path])

    def test_echoes(self, tmp_path):
        array = voxels()

        def echo(n):
            return {"MREchoSequence": {"EffectiveEchoTime": 4.6 if n < 3 else 12.0}}

        path = multiframe(tmp_path / "m.dcm", array, PLACES[:3] * 2, echo)
        with pytest.raises(InputError, match=r"2 volumes in one .* 4/1 .*echo time 4\.6.* 4/2"):
            read_volume([path])
        assert (read_volume([path], series="4/2").image[0] == array[3:]).all()

    def test_factors_of_each_frame(self, tmp_path):
        path = multiframe(tmp_path / "m.dcm", voxels(), PLACES, slopes=[1, 2, 1, 1, 1, 1])
        with pytest.raises(InputError, match="other factors"):
            read_volume([path])

    def test_frames_without_positions(self, tmp_path):
        path = multiframe(tmp_path / "m.dcm", voxels(), PLACES)
        data = pydicom.dcmread(path)
        del data.PerFrameFunctionalGroupsSequence
        data.save_as(path)
        with pytest.raises(InputError, match="6 frames, but no position for each"):
            read_volume([path])


def test_each_slice_of_a_series_has_its_own_factor(tmp_path):
    raw = voxels(3)
    for path, slope in zip(write_series(tmp_path / "s", raw), ("1", "0.5", "0.25"), strict=True):
        data = pydicom.dcmread(path)
        data.RescaleSlope, data.RescaleIntercept = slope, "0"
        data.save_as(path)
    image = read_volume([tmp_path / "s"]).image[0]
    assert image == pytest.approx(raw * np.array([1, 0.5, 0.25])[:, None, None])


def test_a_structure_set_names_the_way(tmp_path):
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.RTStructureSetStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = ROOT + "60"
    data.Modality = "RTSTRUCT"
    data.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"kind RTSTRUCT.* Slicer and save it as \.seg\.nrrd"):
        read_file(tmp_path / "rs.dcm", "the label file", labels=True)
