"""`sparsesegnet segment` and `model`: what a model does with one or many images."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from engine_stand_in import StandIn
from model_files import DESCRIPTION, damaged, write_model

from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.cli import segment_image
from SparseSegNetLib.errors import EngineError
from SparseSegNetLib.runfolder.signals import Terminated

SHAPE = (6, 8, 10)


def save(path, array, spacing=(1.0, 1.0, 2.0), direction=None):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-12.5, 1.0, 100.0))
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path), True)
    return path


def scan(seed=0):
    """A box that is bright in its middle."""
    image = np.zeros(SHAPE, np.int16)
    image[1:5, 1:7, 1:9] = 60
    image[2:4, 3:5, 3:7] = 160
    return image + np.random.default_rng(seed).integers(0, 20, SHAPE, np.int16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model and the images a, b and c; runs of the engine are stood in for."""
    monkeypatch.setattr(segment_image, "EngineRun", StandIn)
    monkeypatch.setattr(StandIn, "made", [])
    monkeypatch.setattr(StandIn, "faults", {})
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(segment_image.tempfile, "tempdir", str(temporary))
    write_model(tmp_path / "m.safetensors")
    for seed, name in enumerate("abc"):
        save(tmp_path / f"{name}.nrrd", scan(seed))
    return tmp_path


def run(folder, *arguments, model="m.safetensors", quiet=True):
    here = os.getcwd()
    os.chdir(folder)
    try:
        options = ["--quiet"] if quiet else []
        return cli.main(["segment", str(model), *map(str, arguments), *options])
    except SystemExit as end:
        return end.code
    finally:
        os.chdir(here)


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def names(path):
    return sorted(p.name for p in path.iterdir())


def refused(capsys, folder, *arguments, **settings):
    before = sorted(folder.rglob("*"))
    assert run(folder, *arguments, **settings) == 2
    told = capsys.readouterr()
    (line,) = told.err.strip().splitlines()
    assert told.out == "" and "Traceback" not in line
    assert StandIn.made == [] and sorted(folder.rglob("*")) == before
    return line


class TestOneImage:
    def test_to_a_file_with_the_models_names(self, folder, capsys):
        assert run(folder, "a.nrrd", "-o", "out.seg.nrrd") == 0
        written = sitk.ReadImage(str(folder / "out.seg.nrrd"))
        assert written.GetMetaData("Segment0_Name") == "Shell"
        assert "SCT^10200004" in written.GetMetaData("Segment0_Tags")
        assert written.GetSpacing() == (1.0, 1.0, 2.0) and written.GetOrigin()[0] == -12.5
        assert (read(folder / "out.seg.nrrd") == np.digitize(scan(), (30, 100))).all()
        out = capsys.readouterr().out.splitlines()
        assert out[0].split() == ["image", "seconds", "uncertain", "result"]
        assert out[1].split()[0] == "a" and out[1].split()[-1] == "written"
        assert names(folder / "temporary") == []

    def test_the_run_gets_the_model_and_nothing_labelled(self, folder):
        assert run(folder, "a.nrrd", "-o", "out.nrrd", "--device", "cpu") == 0
        (made,) = StandIn.made
        assert made.folder.task == "segment" and made.folder.options.device == "cpu"
        assert [s.name for s in made.folder.segments] == ["Shell", "Core"]
        assert (made.inputs[0].labels == 255).all() and made.inputs[0].name == "a"

    def test_into_a_folder_that_is_made(self, folder):
        assert run(folder, "a.nrrd", "-o", "out", "--uncertainty") == 0
        assert names(folder / "out") == ["a-uncertainty.nrrd", "a.seg.nrrd"]
        uncertainty = sitk.ReadImage(str(folder / "out" / "a-uncertainty.nrrd"))
        labels = np.digitize(scan(), (30, 100))
        assert (sitk.GetArrayFromImage(uncertainty) == np.where(labels == 1, 200, 0)).all()
        assert uncertainty.GetSpacing() == (1.0, 1.0, 2.0)

    def test_channels_are_put_into_the_models_order(self, folder):
        write_model(
            folder / "two.safetensors", channels=["x_t1.nii", "x_t2.nii"], ranges=[(0, 1), (0, 1)]
        )
        save(folder / "p_t1.nrrd", scan())
        save(folder / "p_t2.nrrd", scan() * 2)
        assert run(folder, "p_t2.nrrd;p_t1.nrrd", "-o", "o.nrrd", model="two.safetensors") == 0
        item = StandIn.made[0].inputs[0]
        assert (item.image[0] == scan()).all() and item.channels == ["p_t1.nrrd", "p_t2.nrrd"]

    def test_what_does_not_fit_can_be_accepted(self, folder, capsys):
        save(folder / "thick.nrrd", scan(), (1.0, 1.0, 4.0))
        assert run(folder, "thick.nrrd", "-o", "o.nrrd") == 1
        told = capsys.readouterr()
        assert "2 times off" in told.out and "--accept spacing" in told.out
        assert StandIn.made == [] and not (folder / "o.nrrd").exists()
        assert run(folder, "thick.nrrd", "-o", "o.nrrd", "--accept", "spacing") == 0
        assert "accepted" in capsys.readouterr().err

    def test_an_image_turned_by_its_header_is_told(self, folder, capsys):
        sagittal = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        save(folder / "turned.nrrd", scan(), (1.0, 2.0, 1.0), sagittal)
        assert run(folder, "turned.nrrd", "-o", "o.nrrd") == 0
        assert "orientation PSL and is turned to the model's, LPS" in capsys.readouterr().err
        half = np.sqrt(0.5)
        save(folder / "between.nrrd", scan(), direction=(half, -half, 0, half, half, 0, 0, 0, 1))
        assert run(folder, "between.nrrd", "-o", "o.nrrd") == 1
        assert "45 degrees off" in capsys.readouterr().out
        assert run(folder, "between.nrrd", "-o", "o.nrrd", "--accept", "orientation") == 0

    def test_a_list_of_one(self, folder):
        (folder / "list.csv").write_text("image,name\na.nrrd,first\n")
        assert run(folder, "list.csv", "-o", "o.nrrd") == 0
        assert run(folder, "list.csv", "-o", "out") == 0
        assert names(folder / "out") == ["first.seg.nrrd"]

    def test_a_ct_model_on_other_values(self, folder, capsys):
        write_model(folder / "ct.safetensors", modality="ct")
        assert run(folder, "a.nrrd", "-o", "o.nrrd", model="ct.safetensors") == 1
        assert "does not hold Hounsfield units" in capsys.readouterr().out
        arguments = ["a.nrrd", "-o", "o.nrrd", "--accept", "intensities"]
        assert run(folder, *arguments, model="ct.safetensors") == 0

    def test_another_number_of_channels(self, folder, capsys):
        assert run(folder, "a.nrrd;b.nrrd", "-o", "o.nrrd") == 1
        assert "has 2 channels and the model needs 1" in capsys.readouterr().out


class TestSeveral:
    def test_one_that_fails_does_not_end_the_others(self, folder, capsys):
        (folder / "b.nrrd").write_bytes((folder / "b.nrrd").read_bytes()[:-40])
        StandIn.faults["c"] = EngineError("crashed", "the engine crashed.", "resume it")
        save(folder / "d.nrrd", scan(3))
        assert run(folder, *(f"{n}.nrrd" for n in "abcd"), "-o", "out") == 1
        assert names(folder / "out") == ["a.seg.nrrd", "d.seg.nrrd"]
        out, err = capsys.readouterr()
        rows = {line.split()[0]: line for line in out.splitlines()}
        assert "failed: the image b.nrrd is cut off" in rows["b"]
        assert (
            "failed: the engine crashed. The log is" in rows["c"] and "resume it" not in rows["c"]
        )
        assert rows["a"].endswith("written") and rows["d"].endswith("written")
        assert "2 of 4 images failed" in err and "--resume" in err
        (kept,) = (folder / "temporary").iterdir()
        assert names(kept) == ["log.txt"], "the log that is named"

    def test_a_machine_that_cannot_is_told_once(self, folder, capsys):
        StandIn.faults["a"] = EngineError("no-device", "there is no GPU.", "--device cpu")
        assert run(folder, "a.nrrd", "b.nrrd", "-o", "out") == 4
        assert len(StandIn.made) == 1 and not (folder / "out").exists()
        assert "there is no GPU" in capsys.readouterr().err

    def test_an_unforeseen_fault_is_one_images(self, folder, capsys):
        StandIn.faults["a"] = ZeroDivisionError("oops")
        assert run(folder, "a.nrrd", "b.nrrd", "-o", "out") == 1
        assert "ZeroDivisionError: oops (a fault in SparseSegNet)" in capsys.readouterr().out
        assert names(folder / "out") == ["b.seg.nrrd"] and names(folder / "temporary") == []

    def test_resume_leaves_out_what_is_whole(self, folder, capsys):
        images = [f"{n}.nrrd" for n in "abc"]
        assert run(folder, *images, "-o", "out") == 0
        first = folder / "out" / "a.seg.nrrd"
        (folder / "out" / "b.seg.nrrd").write_bytes(first.read_bytes()[:-10])
        (folder / "out" / "c.seg.nrrd").unlink()
        before = first.stat().st_mtime_ns
        StandIn.made.clear()
        assert run(folder, *images, "-o", "out", "--resume") == 0
        assert [made.inputs[0].name for made in StandIn.made] == ["b", "c"]
        assert first.stat().st_mtime_ns == before
        assert "there already" in capsys.readouterr().out
        StandIn.made.clear()
        assert run(folder, *images, "-o", "out", "--resume", "--uncertainty") == 0
        assert len(StandIn.made) == 3, "the uncertainty is missing"

    @pytest.mark.parametrize("end", [KeyboardInterrupt, Terminated])
    def test_ctrl_c_keeps_what_is_finished(self, folder, capsys, end):
        StandIn.faults["b"] = end()
        assert run(folder, "a.nrrd", "b.nrrd", "c.nrrd", "-o", "out", "--uncertainty") == 3
        assert names(folder / "out") == ["a-uncertainty.nrrd", "a.seg.nrrd"]
        assert StandIn.made[-1].state == "cancelled" and len(StandIn.made) == 2
        out, err = capsys.readouterr()
        assert "a " in out and "2 of 3 images have no result" in err and "--resume" in err
        assert names(folder / "temporary") == []

    def test_an_output_that_cannot_be_written_leaves_nothing_half(
        self, folder, capsys, monkeypatch
    ):
        def full(path, *rest):
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(segment_image, "write_labels", full)
        assert run(folder, "a.nrrd", "-o", "out", "--uncertainty") == 1
        assert "No space left on device" in capsys.readouterr().out
        assert not (folder / "out").exists()

    def test_a_list_with_names_and_another_format(self, folder, capsys):
        (folder / "list.csv").write_text("image,name\na.nrrd,first\nb.nrrd,\n")
        assert run(folder, "list.csv", "-o", "out", "--format", "nii.gz") == 0
        assert names(folder / "out") == ["b.nii.gz", "first.nii.gz"]
        assert set(np.unique(read(folder / "out" / "first.nii.gz"))) == {0, 1, 2}

    def test_a_folder_of_images(self, folder):
        (folder / "sub").mkdir()
        for name in ("a.nrrd", "b.nii.gz", "drawn.seg.nrrd", "c.mha"):
            save(folder / "sub" / name, scan())
        (folder / "sub" / "notes.txt").write_text("not an image")
        assert run(folder, "sub", "-o", "out") == 0
        assert names(folder / "out") == ["a.seg.nrrd", "b.seg.nrrd", "c.seg.nrrd"]

    def test_a_pattern_that_the_shell_left(self, folder):
        assert run(folder, "[ab].nrrd", "-o", "out") == 0
        assert names(folder / "out") == ["a.seg.nrrd", "b.seg.nrrd"]

    def test_the_bar_shows_images_and_phase(self, folder, capsys):
        assert run(folder, "a.nrrd", "b.nrrd", "-o", "out", quiet=False) == 0
        err = capsys.readouterr().err
        assert "1/2 a" in err and "2/2 b" in err and "predicting, 0:00 left" in err


class TestBadInput:
    @pytest.mark.parametrize(
        "fault",
        [
            "truncated",
            "longer",
            "huge",
            "long header",
            "pickle",
            "old pickle",
            "text",
            "empty",
            "folder",
            "missing",
        ],
    )
    def test_what_is_no_model(self, folder, capsys, fault):
        path, word = damaged(folder)[fault]
        line = refused(capsys, folder, "a.nrrd", "-o", "out", model=path)
        assert word in line and str(path) in line
        assert cli.main(["model", str(path)]) == 2
        assert word in capsys.readouterr().err

    def test_a_real_pickle(self, folder, capsys):
        torch = pytest.importorskip("torch")
        torch.save({"weight": torch.zeros(3)}, folder / "m.pt")
        line = refused(capsys, folder, "a.nrrd", "-o", "out", model="m.pt")
        assert "pickle" in line

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["z.nrrd", "-o", "out"], "z.nrrd does not exist"),
            (["a.nrrd", "b.nrrd", "-o", "out.seg.nrrd"], "one file and there are 2 images"),
            (["a.nrrd", "b.nrrd", "-o", "no/out"], "no does not exist: create it first"),
            (["a.nrrd", "-o", "no/out.nrrd"], "no does not exist: create it first"),
            (["a.nrrd", "b.nrrd", "-o", "a.nrrd/out"], "cannot be made"),
            (["a.nrrd", "b.nrrd", "-o", "m.safetensors"], "is a file: name a folder"),
            (["a.nrrd", "-o", "out.xyz"], "'.xyz'"),
            (["a.nrrd", "b.nrrd", "-o", "out", "--format", ".xyz"], "'.xyz'"),
            (["a.nrrd", "-o", "out.nrrd", "--format", ".nrrd"], "--format is for several"),
            (["a.nrrd", "-o", "a.nrrd"], "would overwrite the input"),
            (["a.nrrd", "b.nrrd", "-o", ".", "--format", ".nrrd"], "would overwrite the input"),
            (["sub/a.nrrd", "a.nrrd", "-o", "out"], "would both be written to out/a.seg.nrrd"),
            (["z*.nrrd", "-o", "out"], "no file matches"),
            (["sub", "-o", "sub"], "would lie among the images of sub: name another folder"),
            (["a.nrrd", "-o", "out", "--accept", "everything"], "invalid choice"),
            (["list.csv", "-o", "out"], "list.csv, lines 2 and 3"),
        ],
    )
    def test_arguments(self, folder, capsys, arguments, said):
        (folder / "sub").mkdir()
        save(folder / "sub" / "a.nrrd", scan())
        (folder / "list.csv").write_text("image\na.nrrd\nsub/a.nrrd\n")
        line = refused(capsys, folder, *arguments).replace(os.sep, "/")
        assert said in line

    def test_two_outputs_that_are_one_file(self, folder, capsys):
        save(folder / "a-uncertainty.nrrd", scan())
        line = refused(
            capsys,
            folder,
            *("a.nrrd", "a-uncertainty.nrrd", "-o", "out", "--format", ".nrrd", "--uncertainty"),
        )
        assert "two results would be written to" in line

    @pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
    def test_a_folder_that_cannot_be_written(self, folder, capsys):
        assert "cannot be" in refused(capsys, folder, "a.nrrd", "b.nrrd", "-o", "/proc/self/out")


class TestCard:
    def test_all_that_is_to_be_known(self, tmp_path, capsys):
        path = write_model(tmp_path / "m.safetensors")
        assert cli.main(["model", str(path)]) == 0
        text = capsys.readouterr().out
        for said in (
            "livers, trained 2026-11-26T12:00:00+00:00",
            "1 Shell #ff0000 (SCT 10200004, Liver)",
            "2 Core #0080ff",
            "a.nrrd: 12 to 340.5",
            "not CT",
            "1x1x2 mm, orientation LPS",
            "a: 3 annotated slices, 1200 labelled voxels of 22x20x18 at 1x1x2 mm; Shell, Core",
            "Shell: IoU 0.800, Dice 0.900 on 321 voxels",
            "Core: could not be scored",
            "left out of training",
            "1 min, 300 steps, seed 7",
            "torch 2.5, python 3.12",
        ):
            assert said in text

    def test_json(self, tmp_path, capsys):
        path = write_model(tmp_path / "m.safetensors", scores=None)
        assert cli.main(["model", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["segments"][0]["name"] == "Shell" and found["scores"] is None
        assert found["cases"][0]["slices"] == DESCRIPTION.cases[0].slices

    def test_a_strangers_names_are_no_commands_to_the_terminal(self, tmp_path, capsys):
        path = write_model(tmp_path / "m.safetensors", name="\x1b]0;owned\x07", scored="a\nb")
        assert cli.main(["model", str(path)]) == 0
        assert "\x1b" not in capsys.readouterr().out
