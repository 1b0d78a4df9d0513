"""`segment` and `densify` of volumes in OME-Zarr, from the command line."""

import errno
import json

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("zarr")
torch = pytest.importorskip("torch")
import zarr
from engine_stand_in import THRESHOLDS, StandIn
from phantom import iou, nested
from small_models import small_model
from zarr_stores import write_store

from SparseSegNetLib.cli import dense_stages, densify_stored
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.engine.planning import auto_plan
from SparseSegNetLib.files import ngff_labels
from SparseSegNetLib.files.ngff_labels import LabelStore
from SparseSegNetLib.runfolder.lock import FolderLock
from SparseSegNetLib.tiles import fine_region, fine_set, fine_training, segmenting
from SparseSegNetLib.tiles.done_file import beside

SHAPE = (24, 26, 34)
IMAGE, TRUTH = nested(SHAPE, 3)
LABELS = "labels/segmentation/0"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    small_model(None).save(path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch, model_file):
    monkeypatch.setattr(ngff_labels, "CHUNK", 16)
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "a.ome.zarr", IMAGE)
    (tmp_path / "m.safetensors").write_bytes(model_file.read_bytes())
    return tmp_path


def segment(*more, image="a.ome.zarr", output="o.ome.zarr"):
    words = ["segment", "m.safetensors", image, "-o", output, "--device", "cpu"]
    return cli.main([*words, "--memory", "0", "--quiet", *more])


def test_cancelled_and_resumed(folder, monkeypatch, capsys):
    assert segment(output="whole.ome.zarr") == 0
    real, done = segmenting.segment_tile, []

    def interrupted(*arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(arguments[2])
        return real(*arguments)

    monkeypatch.setattr(segmenting, "segment_tile", interrupted)
    assert segment() == 3
    assert "3 of 12 tiles are done and stay in o.ome.zarr" in capsys.readouterr().err
    monkeypatch.setattr(segmenting, "segment_tile", real)
    assert segment() == 2
    assert "--resume computes the others" in capsys.readouterr().err
    assert segment("--resume") == 0
    found, expected = (zarr.open_group(n)[LABELS][:] for n in ("o.ome.zarr", "whole.ome.zarr"))
    assert (found == expected).all() and len(np.unique(found)) == 3
    assert not beside(folder / "o.ome.zarr").exists()
    assert segment("--resume") == 0
    assert "there already" in capsys.readouterr().err


def test_a_full_disk_keeps_the_tiles(folder, monkeypatch, capsys):
    real = ngff_labels.LabelStore.write

    def full(store, low, labels):
        if low[0] > 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(store, low, labels)

    monkeypatch.setattr(ngff_labels.LabelStore, "write", full)
    assert segment() == 5
    told = capsys.readouterr().err
    assert "the disk is full" in told and "--resume" in told and "errors/#disk-full" in told
    assert len(beside(folder / "o.ome.zarr").read_text(encoding="utf-8").splitlines()) == 7


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--uncertainty"], "--uncertainty does not work on an OME-Zarr"),
        (["--region", "0:99,:,:"], "--region 0:99,:,:"),
    ],
)
def test_what_it_does_not_do(folder, capsys, more, said):
    assert segment(*more) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "o.ome.zarr").exists()


def test_outputs_that_do_not_fit(folder, capsys):
    assert segment(output="o.nrrd") == 2
    assert "name it o.ome.zarr" in capsys.readouterr().err
    assert segment(output="a.ome.zarr/o.ome.zarr") == 2
    assert "would lie in the image" in capsys.readouterr().err
    np.save("x.npy", np.stack([IMAGE, IMAGE]))
    assert segment(image="x.npy") == 2
    assert "2 channels and the model needs 1" in capsys.readouterr().err
    words = ["segment", "m.safetensors", "a.nrrd", "b.nrrd", "-o"]
    assert cli.main([*words, "o.ome.zarr"]) == 2
    assert "is segmented alone" in capsys.readouterr().err
    assert cli.main([*words, "o", "--memory", "1"]) == 2
    assert "are for volumes in OME-Zarr" in capsys.readouterr().err


def test_a_mapped_file_and_a_region(folder, capsys):
    np.save("x.npy", IMAGE)
    assert segment("--region", "0:16,:,:", image="x.npy") == 0
    assert "no voxel size" in capsys.readouterr().err
    found = zarr.open_group("o.ome.zarr")[LABELS][:]
    assert found[:16].any() and not found[16:].any()


def densify(labels, *more, output="o.ome.zarr"):
    words = ["densify", "a.ome.zarr", labels, "-o", output, "--device", "cpu", "--quiet"]
    return cli.main([*words, *more])


def drawn(*planes):
    labels = np.full(SHAPE, 255, np.uint8)
    for k in planes:
        labels[k, 3:20, 5:30] = TRUTH[k, 3:20, 5:30]
    return labels


@pytest.fixture
def stand_in(folder, monkeypatch):
    monkeypatch.setattr(dense_stages, "EngineRun", StandIn)
    monkeypatch.setattr(StandIn, "made", [])
    monkeypatch.setattr(StandIn, "faults", {})
    from SparseSegNetLib.tiles import dense_region

    monkeypatch.setattr(dense_region, "LEAST", 2)
    return folder


class TestDensify:
    @pytest.mark.parametrize("kind", ["store", "file", "part"])
    def test_the_annotated_region_alone(self, stand_in, capsys, kind):
        labels, path = drawn(8, 12), "l.nrrd"
        if kind == "store":
            colors = [{"label-value": 2, "rgba": [255, 0, 0, 255]}]
            more = {"image-label": {"colors": colors, "properties": []}}
            path = str(write_store(stand_in / "l.ome.zarr", labels, more=more))
        else:
            image = sitk.GetImageFromArray(labels if kind == "file" else labels[4:16])
            image.SetOrigin((0.0, 0.0, 0.0 if kind == "file" else 4.0))
            sitk.WriteImage(image, path)
        assert densify(path) == 0
        (made,) = StandIn.made
        (item,) = made.inputs
        box = (slice(6, 15), slice(0, 24), slice(0, 34))
        assert (item.image[0] == IMAGE[box]).all() and (item.labels == labels[box]).all()
        assert [str(s) for s in item.slices] == ["k:2", "k:6"]
        assert item.geometry.origin == (0.0, 0.0, 6.0)
        found = zarr.open_group("o.ome.zarr")[LABELS][:]
        expected = np.zeros(SHAPE, np.uint8)
        expected[box] = np.digitize(IMAGE[box], THRESHOLDS)
        assert (found == np.where(labels < 255, labels, expected)).all()
        told = capsys.readouterr().err
        assert "level 0, 34x24x9 voxels: the finest" in told
        assert "region 6:15,0:24,0:34; what is outside of it gets background" in told
        if kind == "store":
            assert made.folder.segments[1].color == (1.0, 0.0, 0.0)

    def test_on_a_coarser_level_what_is_drawn_stays(self, stand_in, capsys):
        write_store(stand_in / "a.ome.zarr", IMAGE, IMAGE[::2, ::2, ::2])
        labels = drawn(8, 13)
        write_store(stand_in / "l.ome.zarr", labels)
        assert densify("l.ome.zarr", "--level", "1") == 0
        assert StandIn.made[0].inputs[0].image.shape == (1, 5, 12, 17)
        assert StandIn.made[0].inputs[0].geometry.spacing == (2.0, 2.0, 2.0)
        assert [str(s) for s in StandIn.made[0].inputs[0].slices] == ["k:1", "k:3"]
        found = zarr.open_group("o.ome.zarr")[LABELS][:]
        coarse = np.digitize(IMAGE[6:16:2, :24:2, ::2], THRESHOLDS)
        one = torch.nn.functional.one_hot(torch.from_numpy(coarse), 3).permute(3, 0, 1, 2).float()
        enlarged = torch.nn.functional.interpolate(
            one[None], scale_factor=2, mode="trilinear", align_corners=False
        )
        fine = enlarged[0].argmax(dim=0).numpy()
        part = labels[6:16, :24]
        assert (found[6:16, :24] == np.where(part < 255, part, fine)).all()
        assert "level 1, 17x12x5 voxels as given" in capsys.readouterr().err

    def test_everywhere_by_the_model(self, stand_in, monkeypatch, model_file):
        def with_model(run):
            finish(run)
            run.folder.model_path.write_bytes(model_file.read_bytes())

        finish = StandIn._finish
        monkeypatch.setattr(StandIn, "_finish", with_model)
        write_store(stand_in / "l.ome.zarr", drawn(8, 12))
        assert densify("l.ome.zarr", "--everywhere", "--memory", "0.5") == 0
        assert segment(output="all.ome.zarr") == 0
        found, whole = (zarr.open_group(n)[LABELS][:] for n in ("o.ome.zarr", "all.ome.zarr"))
        outside = np.ones(SHAPE, bool)
        outside[6:15, :24] = False
        assert (found[outside] == whole[outside]).all() and found[outside].any()
        assert (found[6:15, :24] != whole[6:15, :24]).any()

    def test_a_full_disk_keeps_the_tiles(self, stand_in, monkeypatch, capsys):
        real = ngff_labels.LabelStore.write

        def full(store, low, labels):
            if low[1] >= 16:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(store, low, labels)

        write_store(stand_in / "l.ome.zarr", drawn(8, 12))
        assert densify("l.ome.zarr", output="whole.ome.zarr") == 0
        assert not (stand_in / "whole.ome.zarr.run").exists()
        monkeypatch.setattr(ngff_labels.LabelStore, "write", full)
        assert densify("l.ome.zarr") == 5
        told = capsys.readouterr().err
        assert "the disk is full" in told and "the same command with --resume" in told
        assert len(beside(stand_in / "o.ome.zarr").read_text(encoding="utf-8").splitlines()) == 4
        monkeypatch.setattr(ngff_labels.LabelStore, "write", real)
        assert densify("l.ome.zarr") == 2
        assert "--resume" in capsys.readouterr().err
        assert densify("l.ome.zarr", "--resume", output="x.ome.zarr") == 2
        trained = len(StandIn.made)
        assert densify("l.ome.zarr", "--resume") == 0
        assert len(StandIn.made) == trained  # nothing is learnt again
        found, expected = (zarr.open_group(n)[LABELS][:] for n in ("o.ome.zarr", "whole.ome.zarr"))
        assert (found == expected).all() and found.any()
        assert not beside(stand_in / "o.ome.zarr").exists()
        assert not (stand_in / "o.ome.zarr.run").exists()
        assert densify("l.ome.zarr", "--resume") == 0
        assert "there already" in capsys.readouterr().err

    def test_killed_while_tiles_are_written(self, stand_in, monkeypatch, capsys):
        real, written = ngff_labels.LabelStore.write, []

        def killed(store, low, labels):
            if len(written) == 4:
                raise KeyboardInterrupt
            written.append(low)
            real(store, low, labels)

        monkeypatch.setattr(ngff_labels.LabelStore, "write", killed)
        write_store(stand_in / "l.ome.zarr", drawn(8, 12))
        assert densify("l.ome.zarr", "--run", "kept") == 3
        assert "sparsesegnet resume" in capsys.readouterr().err
        again = []
        monkeypatch.setattr(
            ngff_labels.LabelStore,
            "write",
            lambda store, low, labels: (again.append(low), real(store, low, labels)),
        )
        assert cli.main(["resume", "kept", "-o", "x.nrrd"]) == 2
        with FolderLock(stand_in / "kept"):
            assert cli.main(["resume", "kept", "--quiet"]) == 2
        assert "another engine works on the run folder" in capsys.readouterr().err
        assert cli.main(["resume", "kept", "--quiet"]) == 0
        assert len(again) == 2 and not set(again) & set(written)
        assert zarr.open_group("o.ome.zarr")[LABELS][:].any() and (stand_in / "kept").is_dir()

    def test_resume_replaces_nothing_of_others(self, stand_in, monkeypatch, capsys):
        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        write_store(stand_in / "l.ome.zarr", drawn(8, 12))
        monkeypatch.setattr(dense_stages, "go_on", full)
        monkeypatch.setattr(densify_stored, "go_on", full)
        assert densify("l.ome.zarr", "--run", "kept", "--metrics", "m.json") == 5
        monkeypatch.undo()
        monkeypatch.chdir(stand_in)
        (stand_in / "m.json").write_text("mine", encoding="utf-8")
        assert cli.main(["resume", "kept", "--quiet"]) == 2
        assert "m.json, which the run kept names as its output" in capsys.readouterr().err
        (stand_in / "m.json").unlink()
        write_store(stand_in / "a.ome.zarr", IMAGE[:9])  # another one in its place
        assert cli.main(["resume", "kept", "--quiet"]) == 2
        assert "was it replaced?" in capsys.readouterr().err
        write_store(stand_in / "o.ome.zarr", IMAGE)
        assert cli.main(["resume", "kept", "--quiet"]) == 2
        assert "or not what this run began there" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("labels", "more", "said"),
        [
            (np.full(SHAPE, 255, np.uint8), [], "no voxel of l.ome.zarr is labelled"),
            (drawn(8)[1:], [], "differ in size"),
            (drawn(8), ["--level", "1"], "has the levels 0 to 0"),
            (drawn(8), ["--prior", "p.nrrd"], "--prior does not work"),
            (drawn(8), ["--resample-labels"], "--resample-labels does not work"),
            (drawn(8), ["--region", "14:20,:,:"], "no voxel is labelled"),
            (drawn(8).astype(np.float32), [], "are no label image"),
        ],
    )
    def test_what_cannot_be_used(self, stand_in, capsys, labels, more, said):
        write_store(stand_in / "l.ome.zarr", labels)
        assert densify("l.ome.zarr", *more) == 2
        assert said in capsys.readouterr().err
        assert StandIn.made == [] and not (stand_in / "o.ome.zarr").exists()

    def test_voxels_that_are_not_finite(self, stand_in, capsys):
        image = IMAGE.astype(np.float32)
        image[9, 9, 9] = np.nan
        write_store(stand_in / "a.ome.zarr", image)
        write_store(stand_in / "l.ome.zarr", drawn(8, 12))
        assert densify("l.ome.zarr") == 2
        assert "1 voxels that are not finite" in capsys.readouterr().err
        assert densify("l.ome.zarr", "--replace-nonfinite") == 0
        assert StandIn.made[0].inputs[0].image[0, 3, 9, 9] == np.nanmin(image[6:15, :24])

    def test_chunks_of_labels_that_are_not_stored(self, stand_in, capsys):
        labels = np.zeros(SHAPE, np.uint8)
        labels[8, 3:20, 5:30] = TRUTH[8, 3:20, 5:30]
        write_store(stand_in / "l.ome.zarr", labels)
        assert densify("l.ome.zarr") == 2
        assert "give --unlabelled 0" in capsys.readouterr().err
        assert densify("l.ome.zarr", "--unlabelled", "0", "--slices", "k:8,20") == 0
        assert "1 of the slices given with --slices lie outside" in capsys.readouterr().err
        (item,) = StandIn.made[0].inputs
        assert (item.labels != 255).sum() == item.labels[0].size


class TestOnChunks:
    """The region does not fit memory: the network learns on the finest level's chunks."""

    @pytest.fixture
    def drawn_planes(self, folder, monkeypatch):
        make = auto_plan.make_plan
        monkeypatch.setattr(fine_training, "make_plan", lambda f, kind: make(f, kind, 4))
        monkeypatch.setitem(auto_plan.BATCHES, "cpu", (8**3, 4))
        monkeypatch.setattr(fine_set, "SCORED_BOXES", 3)
        write_store(folder / "a.ome.zarr", IMAGE, IMAGE[::2, ::2, ::2])
        labels = np.full(SHAPE, 255, np.uint8)
        for k in (4, 8, 12, 15, 19):
            labels[k] = TRUTH[k]
        labels[:, 13] = TRUTH[:, 13]
        write_store(folder / "l.ome.zarr", labels)
        return labels

    def test_from_the_engine_to_the_store(self, folder, drawn_planes, monkeypatch, capsys):
        more = ("--memory", "0.01", "--steps", "2", "--run", "kept", "--metrics", "m.json")
        real = LabelStore.write

        def killed(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(LabelStore, "write", killed)
        assert densify("l.ome.zarr", *more) == 3
        told = capsys.readouterr().err
        assert "priors and shallow model on level 1" in told
        assert "the network learns on level 0" in told and "2 steps on level 0" in told
        assert "no network was trained" not in told
        monkeypatch.setattr(LabelStore, "write", real)
        monkeypatch.setattr(dense_stages, "EngineRun", None)  # nothing is learnt again
        monkeypatch.setattr(fine_training.Trainer, "step", None)
        assert densify("l.ome.zarr", "--run", "kept", "--resume") == 0
        found = zarr.open_group("o.ome.zarr")[LABELS][:]
        rest = drawn_planes == 255
        assert (found[~rest] == drawn_planes[~rest]).all()
        assert iou(found, TRUTH, ~rest) > 0.7
        metrics = json.loads((folder / "m.json").read_text(encoding="utf-8"))
        assert metrics["options"]["priors_alone"] and metrics["score"]

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--largest-component"], "level 1, 17x13x12 voxels: the finest"),
            (["--largest-component", "--level", "0"], "level 0 as given"),
        ],
    )
    def test_what_looks_at_the_whole_region(
        self, folder, drawn_planes, monkeypatch, capsys, more, said
    ):
        monkeypatch.setattr(dense_stages, "EngineRun", StandIn)
        monkeypatch.setattr(StandIn, "made", [])
        assert densify("l.ome.zarr", "--memory", "0.01", *more) == 0
        assert said in capsys.readouterr().err
        assert densify("l.ome.zarr", "--memory", "0.0001", output="x.ome.zarr") == 2
        assert "--level N tries all the same" in capsys.readouterr().err

    def test_a_chunk_that_cannot_be_read(self, folder, drawn_planes, monkeypatch, capsys):
        """It is named, and once it is mended the run goes on where it was."""
        monkeypatch.setattr(dense_stages, "EngineRun", StandIn)
        monkeypatch.setattr(StandIn, "made", [])
        monkeypatch.setattr(fine_region, "read_fold_priors", lambda *arguments: None)
        chunk = folder / "a.ome.zarr" / "0" / "c" / "1" / "1" / "1"
        content = chunk.read_bytes()
        chunk.write_bytes(b"no chunk")
        assert densify("l.ome.zarr", "--memory", "0.01", "--no-scan-names") == 2
        told = capsys.readouterr().err
        assert str(chunk) in told and "the same command with --resume" in told
        chunk.write_bytes(content)
        assert densify("l.ome.zarr", "--resume") == 0
        told = capsys.readouterr().err
        assert "no network was trained on level 0" in told and len(StandIn.made) == 1
        assert zarr.open_group("o.ome.zarr")[LABELS][:].any()
        assert densify("l.ome.zarr", "--resume") == 0
