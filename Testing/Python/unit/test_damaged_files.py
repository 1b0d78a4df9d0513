"""Damaged files, and folders of somebody else: refused with the file's name and a remedy."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.labels import Reading, read_annotation
from SparseSegNetLib.files.writing import write_labels
from SparseSegNetLib.runfolder.atomic import write_array
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.lock import FolderLock
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (4, 5, 6)
GRID = Geometry(SHAPE[::-1], (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
SEGMENTS = [Segment("a", "Shell", (1, 0, 0), 1), Segment("b", "Core", (0, 1, 0), 2)]


def labels():
    found = np.full(SHAPE, UNLABELLED, np.uint8)
    found[2], found[2, 1:3, 1:4] = 0, 1
    return found


@pytest.fixture
def folder(tmp_path):
    item = RunInput(np.zeros((1, *SHAPE), np.int16), labels(), GRID, [AnnotatedSlice("k", 2)])
    run = RunFolder.create(tmp_path / "run", [item], SEGMENTS, Options())
    run.write_result(1, np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8))
    run.write_preview(1, np.zeros(SHAPE, np.uint8))
    run.append_metrics({"step": 1, "seconds": 1.0})
    return run


def changed(path, change):
    """A JSON file after `change(value)`, which may also return another one."""
    value = json.loads(path.read_text("utf-8"))
    other = change(value)
    path.write_text(json.dumps(value if other is None else other), "utf-8")


class TestRunFolder:
    @pytest.mark.parametrize(
        ("file", "change", "said"),
        [
            ("run.json", lambda d: d["options"].update(time_budget="long"), r"options.time_budget"),
            ("run.json", lambda d: d["options"].update(time_budget=float("nan")), "NaN is no JSON"),
            ("run.json", lambda d: d["options"].update(network=[]), r"options.network is '\[\]'"),
            (
                "run.json",
                lambda d: d["options"].update(tile=[1, 2]),
                r"options.tile .* a list of 3",
            ),
            ("run.json", lambda d: d.pop("segments") and None, "segments is missing"),
            ("run.json", lambda d: d.update(segments=d["segments"] * 128), "a list of 1 to 254"),
            ("run.json", lambda d: d["segments"][1].update(value=1.5), r"segments\[1\].value"),
            ("run.json", lambda d: d.update(inputs=[]), "inputs"),
            (
                "run.json",
                lambda d: d["inputs"][0].update(predict=[{"axis": "k", "index": 4}]),
                "k:4",
            ),
            ("run.json", lambda d: d.update(output=3), "output is '3': expected a text"),
            ("run.json", lambda d: [d], "an object with named fields"),
            ("inputs/1/geometry.json", lambda d: d.update(size=[6, 5, 0]), "size is 6x5x0"),
            ("inputs/1/geometry.json", lambda d: d.update(spacing=[1, 1, 0]), "spacing is 1x1x0"),
            ("inputs/1/geometry.json", lambda d: d.update(directions=[1] * 9), "span space"),
            ("inputs/1/geometry.json", lambda d: d.update(directions=[1] * 8), "a list of 9"),
            ("inputs/1/slices.json", lambda d: d[0].update(index=9), "k:9 lies outside"),
            ("inputs/1/slices.json", lambda d: d[0].update(axis="ij"), "must be i, j or k"),
            ("inputs/1/slices.json", lambda d: d[0].update(box=[[0, 9], [0, 1]]), "does not fit"),
            ("inputs/1/slices.json", lambda d: {"k": 2}, "expected a list"),
        ],
    )
    def test_another_form_is_refused_by_name(self, folder, file, change, said):
        changed(folder.path / file, change)
        with pytest.raises(InputError, match=said) as error:
            RunFolder.open(folder.path)
        assert str(folder.path / file) in str(error.value)
        assert "Restore the run folder" in str(error.value)

    @pytest.mark.parametrize("name", ["image.npy", "labels.npy"])
    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data[:-1],
            lambda data: data[:40],
            lambda data: b"",
            lambda data: data.replace(b"5, 6)", b"5, 7)"),
            lambda data: data.replace(b"'fortran_order': False", b"'fortran_order': True "),
            lambda data: data.replace(b"'<i2'", b"'|O' ").replace(b"'|u1'", b"'|O' "),
            lambda data: b"PK\x03\x04" + data,
        ],
        ids=["cut", "cut header", "empty", "shape", "order", "objects", "zip"],
    )
    def test_arrays_are_held_against_the_geometry(self, folder, name, change):
        path = folder.path / "inputs" / "1" / name
        before = path.read_bytes()
        path.write_bytes(change(before))
        assert path.read_bytes() != before
        with pytest.raises(InputError, match="is damaged") as error:
            RunFolder.open(folder.path)
        assert str(path) in str(error.value)

    def test_labels_and_results_without_a_segment(self, folder):
        for name, read in (
            ("inputs/1/labels.npy", folder.read_input),
            ("result/1.npy", folder.read_result),
        ):
            np.save(folder.path / name, np.full(SHAPE, 7, np.uint8))
            with pytest.raises(InputError, match=r"holds the label 7, .* 2 segments"):
                read()

    def test_too_many_segments(self, tmp_path):
        many = [Segment.numbered(n, n) for n in range(1, 256)]
        with pytest.raises(InputError, match="255 segments: at most 254"):
            RunFolder.create(
                tmp_path / "run",
                [RunInput(np.zeros((1, *SHAPE), np.int16), labels(), GRID)],
                many,
                Options(),
            )
        assert not (tmp_path / "run").exists()

    def test_damaged_previews_and_metrics_cost_only_themselves(self, folder):
        (folder.path / "preview" / "1.npy").write_bytes(b"\x93NUMPY")
        (folder.path / "metrics.jsonl").write_text('{"step": "x"}\n[]\n{"step": 2}\n')
        (folder.path / "result" / "1-disagreements.json").write_text("[3]")
        run = RunFolder.open(folder.path)
        assert run.read_preview() is None and run.read_metrics() == [{"step": 2}]
        assert run.read_disagreements() == [] and (run.read_result() == 0).all()
        assert [note for note in run.notes if "2 of its 3 lines" in note]
        assert len(run.notes) == 3

    def test_what_a_run_wrote_is_known_by_its_content(self, folder, tmp_path):
        out = tmp_path / "out.nrrd"
        out.write_bytes(b"result")
        assert not folder.wrote(out)
        folder.remember_written(out)
        assert RunFolder.open(folder.path).wrote(out)
        out.rename(tmp_path / "moved.nrrd")
        assert folder.wrote(tmp_path / "moved.nrrd")
        out.write_bytes(b"edited")
        assert not folder.wrote(out)


def test_a_tile_of_absurd_sides():
    for side in (10**400, 0, -8):
        with pytest.raises(InputError, match="give sides from 1 to"):
            Options(network="vnet", tile=(64, 64, side))


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
class TestLinks:
    @pytest.mark.parametrize(
        "name",
        [
            "metrics.jsonl",
            "log.txt",
            "lock",
            "run.json",
            "checkpoint/state.safetensors",
            "preview",
            "inputs/1",
        ],
    )
    def test_a_link_is_refused_not_followed(self, folder, tmp_path, name):
        place, elsewhere = folder.path / name, tmp_path / "elsewhere"
        if place.exists():
            place.rename(elsewhere)
        else:
            elsewhere.write_text("precious")
        place.symlink_to(elsewhere)
        with pytest.raises(InputError, match="is a link to elsewhere") as error:
            RunFolder.open(folder.path)
        assert str(place) in str(error.value)

    def test_nor_when_it_comes_later(self, folder, tmp_path):
        precious = tmp_path / "precious"
        precious.write_text("as it was")
        for name, action in (
            ("metrics.jsonl", lambda: folder.append_metrics({"step": 2})),
            ("lock", lambda: FolderLock(folder.path)),
        ):
            (folder.path / name).unlink(missing_ok=True)
            (folder.path / name).symlink_to(precious)
            with pytest.raises(InputError, match="is a link to elsewhere"):
                action()
        assert precious.read_text(encoding="utf-8") == "as it was"

    def test_a_pipe_is_refused_without_waiting(self, folder):
        os.mkfifo(folder.path / "log.txt")
        with pytest.raises(InputError, match="neither a file nor a folder"):
            RunFolder.open(folder.path)


class TestHeaders:
    """What would end the process, or never end, inside ITK."""

    def damaged(self, tmp_path, ending, old, new):
        path = tmp_path / f"image{ending}"
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(SHAPE, np.int16)), str(path))
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))
        return path

    @pytest.mark.parametrize(
        ("ending", "old", "new", "said"),
        [
            (".mha", b"NDims = 3", b"NDims = 99", "99 dimensions"),
            (".mha", b"NDims = 3", b"NDims = 3\nNDims =\n99", "99 dimensions"),
            (".mha", b"NDims = 3\n", b"", "no number of dimensions"),
            (".mha", b"TransformMatrix = 1", b"TransformMatrix = 1e308", "TransformMatrix holds"),
            (".mha", b"DimSize = 6 5 4", b"DimSize = 6 5 4000000000", "cannot hold"),
            (".mhd", b"image.raw", b"image%.raw", "expected a file, or a pattern"),
            (".mhd", b"image.raw", b"/dev/zero", "no file there"),
            (".nrrd", b"dimension: 3", b"dimension: 99", "99 dimensions"),
            (".nrrd", b"(1,0,0)", b"(1,0," + b"9" * 5000 + b")", "too long"),
            (".nrrd", b"kinds:", b"key\0:=" + b"x" * 5000 + b"\nkinds:", "no text"),
            (".nrrd", b"sizes: 6 5 4", b"sizes: 6 5 4000000000", "cannot hold"),
            (".nii", b"\x03\x00\x06\x00\x05\x00", b"\x63\x00\x06\x00\x05\x00", "99 dimensions"),
        ],
    )
    def test_refused_before_itk_reads_it(self, tmp_path, ending, old, new, said):
        path = self.damaged(tmp_path, ending, old, new)
        with pytest.raises(InputError, match=said) as error:
            read_volume([path])
        assert str(path) in str(error.value)


class TestLabelValues:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("LabelValue", "one"),
            ("LabelValue", "1.5"),
            ("LabelValue", "0"),
            ("Layer", "x"),
            ("Layer", "-1"),
        ],
    )
    def test_a_segments_field_that_is_no_whole_number(self, tmp_path, field, value):
        path = tmp_path / "drawn.seg.nrrd"
        write_labels(path, np.where(labels() == UNLABELLED, 0, labels()), GRID, SEGMENTS)
        image = sitk.ReadImage(str(path))
        image.SetMetaData(f"Segment1_{field}", value)
        sitk.WriteImage(image, str(path))
        with pytest.raises(InputError, match=f"{field} of the segment 'Core' is '{value}'"):
            read_annotation(path, GRID)

    @pytest.mark.parametrize(
        ("ignored", "kind"),
        [
            (-1, np.int16),
            (-1, np.float32),
            (-100, np.int64),
            (-32768, np.int16),
            (65535, np.uint16),
            (254, np.uint8),
        ],
    )
    def test_usual_ignore_values(self, tmp_path, ignored, kind):
        values = np.where(labels() == UNLABELLED, ignored, labels().astype(np.int64)).astype(kind)
        image = sitk.GetImageFromArray(values)
        sitk.WriteImage(image, str(tmp_path / "l.nrrd"))
        found = read_annotation(tmp_path / "l.nrrd", GRID, Reading(ignored))
        assert (found.labels == labels()).all() and [s.value for s in found.segments] == [1]

    def test_another_negative_value_is_said(self, tmp_path):
        values = np.where(labels() == UNLABELLED, -1, 0).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "l.nrrd"))
        with pytest.raises(InputError, match=r"value -1.*--unlabelled -1"):
            read_annotation(tmp_path / "l.nrrd", GRID)


@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float16", "float32", "bool"])
def test_arrays_come_back(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for written in (array, array[:, ::-1], np.asfortranarray(array), array[:, :0]):
        write_array(tmp_path / "a.npy", written)
        assert np.array_equal(np.load(tmp_path / "a.npy"), written)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a file's size")
@pytest.mark.parametrize("missing", [1, 100, 5000])
def test_an_array_that_does_not_fit_the_disk_is_not_written(tmp_path, missing):
    import resource

    array = np.zeros(20_000, np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_128 - missing, before[1]))
    try:
        with pytest.raises(OSError):
            write_array(tmp_path / "a.npy", array)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
