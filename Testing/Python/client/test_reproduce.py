"""`reproduce` and `networks`: the paper's experiments on the user's volumes, resumable."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.composition import restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.slices import AnnotatedSlice, parse_slices
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.cli import networks, reproduce
from SparseSegNetLib.cli.reproduce import Training, _key
from SparseSegNetLib.cli.reproduce_cases import SETUPS, folds, read_cases, setups, untouched
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.recipes import published_plan
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.presets import PRESETS, preset

QUICK = ["--quiet", "--steps", "1", "--width", "1", "--tile", "100", "--device", "cpu"]
SHAPE = (12, 12, 12)  # what one tile of the 3D U-Net predicts, to be quick


def save(path, array):
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), True)


def volumes(folder, count=1, values=(0, 1, 2)):
    """Volumes a, b, c … with dense labels, and the list of them."""
    rng = np.random.default_rng(0)
    names = "abc"[:count]
    for name in names:
        truth = np.full(SHAPE, values[0], np.uint8)
        truth[3:11, 3:12, 3:14] = values[1]
        truth[5:9, 5:9, 5:11] = values[2]
        save(folder / f"{name}.nrrd", truth * 50 + rng.normal(0, 5, SHAPE).astype(np.float32))
        save(folder / f"{name}-labels.nrrd", truth)
    rows = [f"{name}.nrrd,{name}-labels.nrrd" for name in names]
    path = folder / "cases.csv"
    path.write_text("\n".join(["image,labels", *rows]) + "\n", encoding="utf-8")
    return path


def run(*arguments):
    return cli.main(["reproduce", *map(str, arguments)])


class TestDivision:
    def cases(self, tmp_path, count=2, spread=(9, 9, 7)):
        return read_cases(volumes(tmp_path, count), spread, 255)

    def test_a_dense_volume_is_annotated_in_spread_slices(self, tmp_path):
        case = self.cases(tmp_path, 1)[0]
        assert len(case.slices) == 25
        known = case.labels != 255
        for item in case.slices:
            assert known[item.selector()].all()
        assert (
            known.sum() == (restrict_to_slices(np.zeros(SHAPE, np.uint8), case.slices) == 0).sum()
        )

    def test_folds_partition_all_slices_uniformly(self, tmp_path):
        cases = self.cases(tmp_path, 2)
        parts = folds(cases)
        assert len(parts) == 3
        sizes = [sum(map(len, part)) for part in parts]
        assert sum(sizes) == 50 and max(sizes) - min(sizes) <= 1
        for number, case in enumerate(cases):
            dealt = [s for part in parts for s in part[number]]
            assert sorted(dealt) == case.slices
            for part in parts:  # neighbours along an axis are in different folds
                order = [case.slices.index(s) for s in part[number]]
                assert np.diff(order).min() >= 3

    def test_setups_of_table_2_leave_slices_for_the_test(self, tmp_path):
        possible, test = setups(self.cases(tmp_path, 1)[0])
        assert [counts for counts, _ in possible] == list(SETUPS)
        for counts, chosen in possible:
            assert tuple(sum(s.axis == a for s in chosen) for a in "ijk") == counts
            assert not set(chosen) & set(test)
        assert {s.axis for s in test} == set("ijk")

    def test_too_few_slices_allow_fewer_setups(self, tmp_path):
        possible, test = setups(self.cases(tmp_path, 1, spread=(3, 3, 2))[0])
        assert [counts for counts, _ in possible] == [(1, 1, 1), (2, 2, 1), (3, 3, 2)]
        assert test == []  # nothing left to test on: the command leaves the volume out

    def test_voxels_that_training_saw_are_not_tested(self, tmp_path):
        case = self.cases(tmp_path, 1)[0]
        test = [s for s in case.slices if s.axis == "i"][:2]
        training = restrict_to_slices(case.labels, [s for s in case.slices if s not in test])
        mask = untouched(case, test, training)
        assert mask.any() and not mask[training != 255].any()
        outside = np.ones(SHAPE, bool)
        for item in test:
            outside[item.selector()] = False
        assert not mask[outside].any()

    def test_sparse_labels_keep_their_own_slices(self, tmp_path):
        path = volumes(tmp_path)
        dense = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a-labels.nrrd")))
        slices = spread_slices((2, 2, 2), SHAPE)
        save(tmp_path / "a-labels.nrrd", restrict_to_slices(dense, slices))
        assert read_cases(path, (9, 9, 7), 255)[0].slices == slices
        path.write_text(
            "image,labels,slices\na.nrrd,a-labels.nrrd,k:3 i:4\n".replace(
                "k:3 i:4", f"{slices[0]} {slices[-1]}"
            ),
            encoding="utf-8",
        )
        assert read_cases(path, (9, 9, 7), 255)[0].slices == [slices[0], slices[-1]]


def records_of(out):
    return [json.loads(p.read_text(encoding="utf-8")) for p in (out / "trainings").glob("*.json")]


class Engine:
    """Stands in for runs of the engine, whose work is tested elsewhere: predicts the foreground by
    a threshold and says which network it was asked for."""

    def __init__(self, folder):
        self.folder, options = folder, folder.options
        item = folder.read_input()
        fingerprint = Fingerprint.of(
            item.labels, item.geometry.spacing_kji, 1, len(folder.segments) + 1, len(item.slices)
        )
        self.plan = {"device": "cpu", **published_plan(fingerprint, options).to_json()}
        self.summary = {"seconds": 1.0, "step": options.max_steps}
        self.warnings: list[str] = []
        self.state = "done"

    def result(self, number=1):
        return (self.folder.read_input(number).image[0] > 25).astype(np.uint8)


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(reproduce, "EngineRun", Engine)
    monkeypatch.setattr(reproduce, "follow", lambda run, **settings: run.state)


class TestTables:
    def test_table_1_trains_nine_times_and_says_what_it_skips(self, tmp_path, capsys, stand_in):
        path, out = volumes(tmp_path), tmp_path / "out"
        truth = np.zeros(SHAPE, np.uint8)
        truth[3:11, 3:12, 3:14] = 1
        truth[4, 5, 6] = 2  # in one slice alone, which is some fold's test slice
        slices = [AnnotatedSlice("k", n) for n in range(2, 12)]
        save(tmp_path / "a-labels.nrrd", restrict_to_slices(truth, slices))
        assert run("table1", path, "-o", out, *QUICK) == 0
        text, said = capsys.readouterr()
        rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
        assert rows[-3:] == ["3D without BN", "3D with BN", "2D with BN"]
        assert (out / "table1.md").read_text(encoding="utf-8").strip() == text.strip()
        records = records_of(out)
        assert len(records) == 9
        assert {r["plan"]["network"] for r in records} == {"unet3d", "unet2d"}
        assert sum(r["plan"]["norm"] == "none" for r in records) == 3
        for record in records:
            assert record["iou"] == pytest.approx(
                metrics.mean(c["iou"] for c in record["classes"])
            ), "the printed figure is the mean"
            assert record["test_voxels"] > 0 and record["steps"] == 1
        assert not [p for p in (out / "trainings").iterdir() if p.is_dir()]
        assert said.count("is in no training slice") == 3
        assert "Skipped for want of a training slice" in text
        skipped = [r for r in records if r["skipped"]]
        assert len(skipped) == 3 and all(len(r["classes"]) == 1 for r in skipped)

    def test_goes_on_where_it_was_broken_off(self, tmp_path, capsys, monkeypatch):
        """With the real engine where it is interrupted, and where it goes on."""
        path, out = volumes(tmp_path), tmp_path / "out"
        follow, calls = reproduce.follow, []

        def begun(folder):
            return EngineRun(folder) if len(calls) in (1, 2) else Engine(folder)

        def interrupted(run, **settings):
            calls.append(run)
            if len(calls) == 2:
                run.cancel()
            return run.state if isinstance(run, Engine) else follow(run, **settings)

        monkeypatch.setattr(reproduce, "EngineRun", begun)
        monkeypatch.setattr(reproduce, "follow", interrupted)
        assert run("table2", path, "-o", out, *QUICK) == 3
        assert "resumes from there" in capsys.readouterr().err
        stored = sorted((out / "trainings").iterdir())
        assert len(stored) == 1 and all(p.is_file() for p in stored)
        before = [p.stat().st_mtime_ns for p in stored]
        assert run("table2", path, "-o", out, *QUICK) == 0
        assert len(calls) == 5, "one of four trainings was there already"
        assert [p.stat().st_mtime_ns for p in stored] == before
        text = capsys.readouterr().out
        assert [row in text for row in map(str, SETUPS)] == [True] * 4

    def test_other_settings_are_other_trainings(self, tmp_path):
        cases = read_cases(volumes(tmp_path), (3, 3, 3), 255)
        shown, test = [cases[0].slices[:5]], [cases[0].slices[5:]]

        def key(seed=0, shown=shown, test=test, row="a"):
            return _key(Training(row, "b", Options(seed=seed), shown, test), cases)

        keys = [key(), key(seed=1), key(shown=test), key(test=shown), key(row="c")]
        cases[0].image[0, 0, 0, 0] += 1
        assert len({*keys, key()}) == 6

    def test_table_3_leaves_each_volume_out(self, tmp_path, capsys, stand_in):
        path, out = volumes(tmp_path, 2), tmp_path / "out"
        assert run("table3", path, "-o", out, "--spread", "2,2,2", *QUICK) == 0
        text = capsys.readouterr().out
        assert "| | a | b | average |" in text
        records = records_of(out)
        assert len(records) == 6 and all(r["labelled_share"] > 0.2 for r in records)


class TestBadInput:
    def refused(self, capsys, *arguments):
        try:
            code = run(*arguments)
        except SystemExit as end:
            code = end.code
        told = capsys.readouterr()
        assert code == 2 and told.out == "" and "Traceback" not in told.err
        return told.err

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "lacks the column"),
            ("image,labels\n", "names no volume"),
            ("picture,labels\na.nrrd,a-labels.nrrd\n", "'image'"),
            ("image,labels\na.nrrd,\n", "line 2"),
            ("image,labels\nz.nrrd,a-labels.nrrd\n", "z.nrrd"),
            ("image,labels,slices\na.nrrd,a-labels.nrrd,k:99\n", "outside"),
            ("image,labels,slices\na.nrrd,a-labels.nrrd,first\n", "cannot read the slices"),
        ],
    )
    def test_list_of_cases(self, tmp_path, capsys, text, said):
        path = volumes(tmp_path)
        path.write_text(text, encoding="utf-8")
        assert said in self.refused(capsys, "table1", path, "-o", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_missing_list(self, tmp_path, capsys):
        assert "none.csv" in self.refused(capsys, "table1", tmp_path / "none.csv")

    def test_volumes_that_do_not_go_together(self, tmp_path, capsys):
        path = volumes(tmp_path, 2)
        save(tmp_path / "b-labels.nrrd", np.pad(np.ones((6, 6, 6), np.uint8) * 7, [(0, 6)] * 3))
        assert "all volumes need the same" in self.refused(
            capsys, "table3", path, "--spread", "2,2,2"
        )

    def test_more_slices_than_voxels(self, tmp_path, capsys):
        path = volumes(tmp_path)
        assert "Give fewer with --spread" in self.refused(
            capsys, "table1", path, "--spread", "99,9,9"
        )

    def test_table_3_needs_two_volumes(self, tmp_path, capsys):
        assert "only one" in self.refused(capsys, "table3", volumes(tmp_path), *QUICK)

    def test_table_2_needs_slices_to_test_on(self, tmp_path, capsys):
        assert "enough annotated slices" in self.refused(
            capsys, "table2", volumes(tmp_path), "--spread", "1,1,1", *QUICK
        )

    @pytest.mark.parametrize("spread", ["9", "a,b,c", "0,0,0", "-1,2,3"])
    def test_spread(self, tmp_path, capsys, spread):
        assert "--spread" in self.refused(capsys, "table1", volumes(tmp_path), f"--spread={spread}")

    def test_nothing_is_overwritten_where_the_output_is_a_file(self, tmp_path, capsys):
        path = volumes(tmp_path)
        (tmp_path / "out").write_text("mine")
        assert "cannot be made" in self.refused(
            capsys, "table1", path, "-o", tmp_path / "out", *QUICK
        )
        assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


class TestOptions:
    @pytest.mark.parametrize(
        ("tile", "nearest"),
        [
            ((130, 132, 116), "132x132x116"),
            ((64, 64, 64), "100x100x100"),
            ((140, 141, 150), "140x140x148"),
            ((1, 1, 1), "100x100x100"),
        ],
    )
    def test_a_tile_that_unet3d_cannot_take_names_the_nearest(self, tile, nearest):
        with pytest.raises(InputError, match=f"nearest is {nearest}"):
            Options(network="unet3d", tile=tile)

    @pytest.mark.parametrize(
        ("name", "tile"),
        [
            ("unet3d", (132, 132, 116)),
            ("unet3d", (100, 108, 196)),
            ("fcn3d", (64, 72, 16)),
            ("vnet", (128, 128, 64)),
            ("unet2d", (188, 188, 1)),
            ("unet2d", (100, 132, 1)),
        ],
    )
    def test_tiles_that_fit(self, name, tile):
        assert Options(network=name, tile=tile).tile == tile

    def test_a_flat_network_wants_a_flat_tile(self):
        with pytest.raises(InputError, match="nearest is 188x188x1"):
            Options(network="unet2d", tile=(188, 188, 188))

    @pytest.mark.parametrize("kernel", [1, 4, 7])
    def test_vnet_has_kernels_of_5_and_3(self, kernel):
        assert Options(network="vnet", kernel=3).kernel == 3
        with pytest.raises(InputError, match="choose 5 or 3"):
            Options(network="vnet", kernel=kernel)
        with pytest.raises(InputError, match="unet3d"):
            Options(network="unet3d", kernel=5)

    @pytest.mark.parametrize(
        "settings",
        [
            {"network": "vnet", "batch_norm": False},
            {"network": "auto", "batch_norm": False},
            {"network": "auto", "tile": (64, 64, 64)},
            {"network": "unet3d", "width": 0},
            {"resample": (1.0, 0.0, 1.0)},
            {"resample": (1.0, float("nan"), 1.0)},
            {"network": "unet3d", "tile": (132, 132)},
            {"network": "resnet"},
        ],
    )
    def test_what_cannot_be_is_refused(self, settings):
        with pytest.raises(InputError):
            Options(**settings)

    def test_options_survive_json(self):
        options = Options(
            network="vnet", kernel=3, tile=(64, 64, 32), resample=(1.0, 1.0, 1.5), n4=True
        )
        assert Options.from_json(json.loads(json.dumps(options.to_json()))) == options

    @pytest.mark.parametrize("text", ["1,2", "wide", "1,2,3,4"])
    def test_unreadable_numbers_on_the_command_line(self, text, tmp_path, capsys):
        code = run("table1", volumes(tmp_path), "--tile", text)
        assert code == 2 and f"--tile {text}" in capsys.readouterr().err


class TestNetworks:
    def test_as_text_and_as_json(self, capsys, monkeypatch):
        assert cli.main(["networks", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        monkeypatch.setattr(networks, "describe", lambda: rows)
        assert cli.main(["networks"]) == 0
        text = capsys.readouterr().out
        assert "132x132x116 -> 44x44x28" in text and "551x551x551" in text
        assert [r["name"] for r in rows] == list(PRESETS)
        for row in rows:
            assert row["source"] == preset(row["name"]).source
            assert row["training_memory"] > 2**20


def test_the_cases_are_named_after_their_files(tmp_path):
    assert read_cases(volumes(tmp_path), (3, 3, 3), 255)[0].name == "a"
    assert [str(s) for s in parse_slices(["k:1"])] == ["k:1"]
    assert Path(tmp_path / "cases.csv").exists()
