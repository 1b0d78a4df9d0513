"""`sparsesegnet train` and `densify --start-from`: what goes in, and what comes out."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from engine_stand_in import StandIn
from model_files import damaged, write_model

from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.cli import densify, resume, train
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.errors import EngineError
from SparseSegNetLib.files.images import geometry_of
from SparseSegNetLib.files.writing import write_labels
from SparseSegNetLib.runfolder.folder import RunFolder

SHAPE = (6, 8, 10)
QUICK = ["--quiet", "--device", "cpu"]


def save(path, array, spacing=(1.0, 1.0, 2.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path), True)
    return path


def scan(seed=0):
    """A box that is bright in its middle: image and dense truth."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:5, 1:7, 1:9] = 1
    truth[2:4, 3:5, 3:7] = 2
    noise = np.random.default_rng(seed).integers(0, 20, SHAPE, np.int16)
    return np.array([0, 60, 160], np.int16)[truth] + noise, truth


def segmentation(folder, name, labels, *names):
    """A .seg.nrrd with these segments; terminology tells nothing."""
    grid = geometry_of(sitk.ReadImage(str(folder / f"{name}.nrrd")))
    segments = [Segment(f"s{n}", one, (1, 0, 0), n) for n, one in enumerate(names, start=1)]
    write_labels(folder / f"{name}.seg.nrrd", labels, grid, segments)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """a with the segments Shell and Core, b with core alone, c without labels; a list of them."""
    for module in (train, densify):
        monkeypatch.setattr(module, "EngineRun", StandIn)
    monkeypatch.setattr(StandIn, "made", [])
    monkeypatch.setattr(StandIn, "faults", {})
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for seed, name in enumerate("abc"):
        save(tmp_path / f"{name}.nrrd", scan(seed)[0])
    truth = scan()[1]
    segmentation(tmp_path, "a", truth, "Shell", "Core")
    segmentation(tmp_path, "b", (truth == 2).astype(np.uint8), "core ")
    cases(tmp_path, "a.nrrd,a.seg.nrrd,k:2 i:5,", "b.nrrd,b.seg.nrrd,k:3,second", "c.nrrd,,,")
    return tmp_path


def cases(folder, *rows, header="image,labels,slices,name"):
    (folder / "cases.csv").write_text("\n".join([header, *rows]) + "\n")


def run(folder, *arguments, model="m.safetensors"):
    here = os.getcwd()
    os.chdir(folder)
    try:
        return cli.main(["train", "cases.csv", "--save-model", model, *map(str, arguments), *QUICK])
    except SystemExit as end:
        return end.code
    finally:
        os.chdir(here)


def refused(capsys, folder, *arguments, **settings):
    before = sorted(folder.rglob("*"))
    assert run(folder, *arguments, **settings) == 2
    told = capsys.readouterr()
    (line,) = told.err.strip().splitlines()
    assert told.out == "" and "Traceback" not in line
    assert StandIn.made == [] and sorted(folder.rglob("*")) == before
    return line


def names(path):
    return sorted(p.name for p in path.iterdir())


class TestTraining:
    def test_classes_are_merged_and_what_a_case_lacks_is_unknown_there(self, folder, capsys):
        assert run(folder, "-o", "out", "--modality", "ct", "--match-histograms") == 0
        (made,) = StandIn.made
        assert made.folder.task == "train" and made.folder.options.modality == "ct"
        assert made.folder.options.match_histograms and made.folder.options.device == "cpu"
        assert [s.name for s in made.folder.segments] == ["Shell", "Core"]
        a, b, c = made.inputs
        assert (a.name, b.name, c.name) == ("a", "second", "c")
        assert a.classes is None and b.classes == (2,)
        truth = scan()[1]
        assert (a.labels[2] == truth[2]).all() and (a.labels[:, :, 5] == truth[:, :, 5]).all()
        assert (b.labels[3] == np.where(truth[3] == 2, 2, 0)).all()
        assert (c.labels == 255).all() and c.predict is None
        said = capsys.readouterr().err
        assert "second: Shell is not among its segments, and so unknown there" in said
        assert "c has no labels: it is an unlabelled scan" in said
        assert "a: 2 annotated slices (i:5 k:2)" in said

    def test_what_is_written(self, folder, capsys):
        assert run(folder, "-o", "out", "--metrics", "m.json", "--run", "run") == 0
        assert names(folder / "out") == ["a.seg.nrrd", "c.seg.nrrd", "second.seg.nrrd"]
        written = sitk.ReadImage(str(folder / "out" / "second.seg.nrrd"))
        assert written.GetMetaData("Segment1_Name") == "Core"
        assert written.GetSpacing() == (1.0, 1.0, 2.0)
        assert cli.main(["model", str(folder / "m.safetensors")]) == 0
        about = json.loads((folder / "m.json").read_text(encoding="utf-8"))
        assert [c["name"] for c in about["cases"]] == ["a", "second", "c"]
        assert about["cases"][1]["segments"] == ["Core"]
        assert about["held_out"][0] == {"segment": "Shell", "iou": 0.5, "dice": 2 / 3, "voxels": 10}
        said = capsys.readouterr().err
        assert "trained on 2 annotated volumes in 3 s, 25 steps" in said
        assert "Shell: IoU 0.800, Dice 0.900 on 321 voxels" in said and "(on annotated" in said
        assert 'sparsesegnet segment "m.safetensors" scan.nii.gz -o' in said
        assert RunFolder.open(folder / "run").task == "train"
        assert names(folder / "temporary") == []

    def test_without_a_folder_nothing_is_segmented(self, folder, capsys):
        assert run(folder) == 0
        assert [item.predict for item in StandIn.made[0].inputs] == [[], []]
        assert "line 4: c is not annotated and is left out" in capsys.readouterr().err
        assert (folder / "m.safetensors").is_file() and names(folder / "temporary") == []

    def test_labels_without_annotation(self, folder, capsys):
        segmentation(folder, "c", np.zeros(SHAPE, np.uint8), "Core")
        save(folder / "d.nrrd", scan(3)[0])
        save(folder / "d-labels.nrrd", np.full(SHAPE, 255, np.uint8))
        cases(
            folder,
            "a.nrrd,a.seg.nrrd,k:2 i:5,",
            "c.nrrd,c.seg.nrrd,,",
            "d.nrrd,d-labels.nrrd,,",
        )
        assert run(folder, "-o", "out") == 0
        said = capsys.readouterr().err
        assert "c: nothing is labelled in c.seg.nrrd: it is an unlabelled scan" in said
        assert "d: nothing is labelled" in said
        assert names(folder / "out") == ["a.seg.nrrd", "c.seg.nrrd", "d.seg.nrrd"]

    def test_channels_are_brought_into_one_order(self, folder, capsys):
        image = scan()[0]
        for name in "pq":
            save(folder / f"{name}_t1.nrrd", image)
            save(folder / f"{name}_t2.nrrd", 2 * image)
        cases(
            folder,
            "p_t1.nrrd;p_t2.nrrd,a.seg.nrrd,k:2,",
            "q_t2.nrrd;q_t1.nrrd,b.seg.nrrd,k:3,",
        )
        assert run(folder) == 0
        p, q = StandIn.made[0].inputs
        assert (p.image == q.image).all() and q.channels == ["q_t1.nrrd", "q_t2.nrrd"]
        assert "q_t2: the channels are taken by their names" in capsys.readouterr().err

    def test_dense_labels_are_named(self, folder, capsys):
        save(folder / "dense.nrrd", scan()[1])
        cases(folder, "a.nrrd,dense.nrrd,,")
        assert "line 2: every voxel of" in (line := refused(capsys, folder))
        assert "in which all stands for a dense segmentation" in line
        cases(folder, "a.nrrd,dense.nrrd,all,")
        assert run(folder) == 0
        assert (StandIn.made[0].inputs[0].labels == scan()[1]).all()

    def test_slices_none_and_values_of_label_images(self, folder):
        labels = scan()[1] + 1
        labels[3:] = 0
        save(folder / "numbers.nrrd", labels)
        cases(folder, "a.nrrd,numbers.nrrd,none,")
        assert run(folder, "--unlabelled", "0", "--background-label", "1") == 0
        expected = np.where(labels == 0, 255, labels.astype(int) - 1)
        assert (StandIn.made[0].inputs[0].labels == expected).all()

    def test_ct_among_others_is_told(self, folder, capsys):
        image = np.where(scan()[1] == 0, -1000, 40).astype(np.int16)
        save(folder / "b.nrrd", image)
        assert run(folder) == 0
        assert (
            "second holds Hounsfield units, as CT does, and a does not" in capsys.readouterr().err
        )

    def test_a_failure_keeps_what_can_help(self, folder, capsys):
        StandIn.faults["a"] = EngineError("died", "the engine ended.", "resume it")
        assert run(folder, "-o", "out") == 5
        assert "the engine ended. resume it" in capsys.readouterr().err
        assert not (folder / "m.safetensors").exists() and not (folder / "out").exists()
        assert len(names(folder / "temporary")) == 1

    def test_cancelled(self, folder, capsys, monkeypatch):
        monkeypatch.setattr(StandIn, "wait", lambda self: self.cancel())
        assert run(folder, "--run", "run") == 3
        said = capsys.readouterr().err
        assert "nothing was written" in said and 'sparsesegnet resume "run"' in said
        assert not (folder / "m.safetensors").exists()

    def test_a_full_disk_loses_nothing(self, folder, capsys, monkeypatch):
        def full(path, *rest):
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(train, "write_labels", full)
        assert run(folder, "-o", "out") == 5
        said = capsys.readouterr().err
        (kept,) = (folder / "temporary").iterdir()
        assert "No space left" in said and str(kept) in said
        assert (kept / "result" / "1.npy").is_file() and (folder / "m.safetensors").is_file()


class TestLater:
    """A training that was kept with --run goes on, and its results are written again."""

    @pytest.fixture
    def kept(self, folder, capsys, monkeypatch):
        monkeypatch.setattr(resume, "EngineRun", lambda folder, **settings: StandIn(folder))
        with monkeypatch.context() as patch:
            patch.setattr(StandIn, "wait", lambda self: self.cancel())
            assert run(folder, "--run", "run") == 3
        capsys.readouterr()
        return folder / "run"

    def test_resume_writes_the_model(self, kept, folder, capsys):
        assert cli.main(["resume", str(kept), "--quiet"]) == 0
        assert f"{folder / 'm.safetensors'} written" in capsys.readouterr().err
        assert cli.main(["model", str(folder / "m.safetensors")]) == 0
        assert cli.main(["resume", str(kept), "--quiet"]) == 0, "its own file may be replaced"
        (folder / "m.safetensors").write_text("mine")
        assert cli.main(["resume", str(kept), "--quiet"]) == 2
        assert (folder / "m.safetensors").read_text(encoding="utf-8") == "mine"
        other = folder / "other.safetensors"
        assert cli.main(["resume", str(kept), "--quiet", "-o", str(other)]) == 0
        assert other.is_file()

    def test_export_writes_the_segmentations(self, kept, folder, capsys):
        out = folder / "out"
        assert cli.main(["export", str(kept), "-o", str(out)]) == 2
        assert "has no result yet" in capsys.readouterr().err and not out.exists()
        assert cli.main(["resume", str(kept), "--quiet"]) == 0
        assert cli.main(["export", str(kept), "-o", str(out)]) == 0
        assert names(out) == ["a.seg.nrrd", "c.seg.nrrd", "second.seg.nrrd"]
        assert geometry_of(sitk.ReadImage(str(out / "a.seg.nrrd"))) == geometry_of(
            sitk.ReadImage(str(folder / "a.nrrd"))
        )

    def test_names_in_a_strangers_run_folder_lead_nowhere_else(self, kept, folder):
        assert cli.main(["resume", str(kept), "--quiet"]) == 0
        about = json.loads((kept / "run.json").read_text(encoding="utf-8"))
        for item, name in zip(about["inputs"], ("../x", "a", "A"), strict=True):
            item["name"] = name
        (kept / "run.json").write_text(json.dumps(about))
        assert cli.main(["export", str(kept), "-o", str(folder / "out")]) == 0
        assert names(folder / "out") == ["1.seg.nrrd", "3.seg.nrrd", "a.seg.nrrd"]


class TestBadInput:
    @pytest.mark.parametrize(
        ("rows", "said"),
        [
            (["a.nrrd,a.seg.nrrd,,", "a.nrrd,b.seg.nrrd,,"], "lines 2 and 3: the file"),
            (["a.nrrd,a.seg.nrrd,,x", "b.nrrd,,,X"], "lines 2 and 3: both volumes"),
            (["a.nrrd,a.seg.nrrd,,", "z.nrrd,,,"], "line 3: the image z.nrrd does not exist"),
            (["a.nrrd,a.seg.nrrd,k:6,"], "line 2: slice k:6 lies outside"),
            (["a.nrrd,a.seg.nrrd,first,"], "line 2: cannot read the slices 'first'"),
            (["a.nrrd,,,", "b.nrrd,,,"], "no volume of cases.csv is annotated"),
            (["a.nrrd,a.seg.nrrd,k:2,", "b.nrrd,z.seg.nrrd,k:2,"], "no class in common (a: Shell"),
            (["a.nrrd,empty.seg.nrrd,k:0,"], "only one class is labelled, background"),
            (
                ["a.nrrd,a.seg.nrrd,k:2,", "b.nrrd;c.nrrd,b.seg.nrrd,k:2,"],
                "line 3: b has 2 channels",
            ),
            (["a.nrrd,other.nrrd,,"], "line 2: the labels other.nrrd do not lie"),
            (["a.nrrd,text.nrrd,,"], "line 2: "),
            (
                ["p_t1.nrrd,a.seg.nrrd,k:2,", "q_flair.nrrd,,,"],
                "line 3: p_t1 (line 2) has a channel",
            ),
        ],
    )
    def test_lists(self, folder, capsys, rows, said):
        truth = scan()[1]
        write_labels(
            folder / "z.seg.nrrd",
            truth,
            geometry_of(sitk.ReadImage(str(folder / "a.nrrd"))),
            [Segment("s", "Bone", (1, 0, 0), 1), Segment("t", "Fat", (0, 1, 0), 2)],
        )
        (folder / "empty.nrrd").write_bytes((folder / "a.nrrd").read_bytes())
        segmentation(folder, "empty", np.zeros(SHAPE, np.uint8), "Core")
        save(folder / "other.nrrd", np.zeros((7, 8, 10), np.uint8))
        (folder / "text.nrrd").write_text("thesis")
        for name in ("p_t1", "q_flair"):
            save(folder / f"{name}.nrrd", scan()[0])
        cases(folder, *rows)
        assert said in refused(capsys, folder)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["-o", "no/out"], "no does not exist: create it first"),
            (["-o", "a.nrrd"], "is a file: name a folder"),
            (["--metrics", "a.nrrd"], "would overwrite the input"),
            (["--metrics", "cases.csv"], "would overwrite the input"),
            (["--metrics", "m.safetensors"], "two outputs have the same name"),
            (["--run", "temporary/../no/run"], "does not exist: create it first"),
            (["--run", "."], "exists already"),
            (["--modality", "mr"], "invalid choice"),
            (["--network", "resnet"], "auto"),
        ],
    )
    def test_arguments(self, folder, capsys, arguments, said):
        assert said in refused(capsys, folder, *arguments)

    def test_a_segmentation_that_would_overwrite_its_labels(self, folder, capsys):
        assert "would overwrite the input" in refused(capsys, folder, "-o", ".")

    def test_a_model_that_cannot_be_written(self, folder, capsys):
        assert "does not exist" in refused(capsys, folder, model="no/m.safetensors")
        assert "would overwrite" in refused(capsys, folder, model="a.seg.nrrd")
        assert "is a folder" in refused(capsys, folder, model="temporary")


class TestStartFrom:
    def densify(self, folder, model, *arguments, images=("a.nrrd",)):
        files = [str(folder / name) for name in (*images, "a.seg.nrrd")]
        options = ["-o", str(folder / "out.nrrd"), "--slices", "k:2", "--start-from", str(model)]
        return cli.main(["densify", *files, *options, *map(str, arguments), *QUICK])

    def test_the_run_gets_the_model(self, folder, capsys):
        model = write_model(folder / "start.safetensors")
        assert self.densify(folder, model, "--save-model", folder / "new.safetensors") == 0
        (made,) = StandIn.made
        assert made.folder.task == "densify" and made.given_model
        assert (folder / "new.safetensors").read_bytes() == model.read_bytes()
        assert "note: Core" not in capsys.readouterr().err

    def test_segments_that_the_model_does_not_know(self, folder, capsys):
        known = [Segment("x", " CORE", (1.0, 0.0, 0.0), 1)]
        model = write_model(folder / "start.safetensors", segments=known, scores=None)
        assert self.densify(folder, model) == 0
        assert "Shell: not in the model" in capsys.readouterr().err
        other = [Segment("x", "Bone", (1.0, 0.0, 0.0), 1)]
        write_model(model, segments=other, scores=None)
        assert self.densify(folder, model) == 2
        assert "knows Bone, and a.nrrd is annotated with Shell, Core" in capsys.readouterr().err

    def test_channels(self, folder, capsys):
        two = {"channels": ["x_t1", "x_t2"], "ranges": [(0.0, 1.0)] * 2}
        model = write_model(folder / "start.safetensors", **two)
        assert self.densify(folder, model) == 2
        assert "a.nrrd has 1 channel and the model needs 2" in capsys.readouterr().err
        image = scan()[0]
        save(folder / "p_t1.nrrd", image)
        save(folder / "p_t2.nrrd", 2 * image)
        assert self.densify(folder, model, images=("p_t2.nrrd", "p_t1.nrrd")) == 0
        item = StandIn.made[0].inputs[0]
        assert item.channels == ["p_t1.nrrd", "p_t2.nrrd"] and (item.image[0] == image).all()

    def test_what_is_learnt_anew_is_no_reason_to_refuse(self, folder):
        model = write_model(
            folder / "start.safetensors", modality="ct", spacing=(9.0, 9.0, 9.0), cases=[]
        )
        assert self.densify(folder, model) == 0

    @pytest.mark.parametrize("fault", ["truncated", "pickle", "text", "missing"])
    def test_what_is_no_model(self, folder, capsys, fault):
        path, word = damaged(folder)[fault]
        assert self.densify(folder, path) == 2
        assert word in capsys.readouterr().err and StandIn.made == []

    def test_the_model_is_not_overwritten(self, folder, capsys):
        model = write_model(folder / "start.safetensors")
        assert self.densify(folder, model, "--save-model", model) == 2
        assert "would overwrite the input" in capsys.readouterr().err
