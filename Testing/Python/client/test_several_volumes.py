"""Training on several volumes, and the model on new ones, through the engine's process."""

from dataclasses import replace

import numpy as np
import pytest
from phantom import iou, nested
from small_runs import SEGMENTS, named, until, watched

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.orientation import Turn
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.model_description import ModelDescription
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPES = ((16, 18, 20), (18, 16, 19), (15, 20, 17))
IDENTITY = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
PHASE = "comparing slices"


def scan(number, counts=(1, 1, 1), orientation="LPS", spacing=(1.0, 1.0, 1.0), scale=1.0):
    """An annotated phantom as an input, and its dense truth; counts None: not annotated."""
    shape = SHAPES[number % len(SHAPES)]
    image, truth = nested(shape, seed=number)
    # Asymmetric: what lies at the low end of i is brighter.
    image = scale * (image + np.linspace(60, 0, shape[2]))
    grid = Geometry(tuple(reversed(shape)), spacing, (1.0, 2.0, 3.0), IDENTITY)
    slices = [] if counts is None else spread_slices(counts, shape, truth > 0)
    labels = restrict_to_slices(truth, slices)
    turn = Turn.between("LPS", orientation)
    item = RunInput(
        np.ascontiguousarray(turn.array(image[None])),
        np.ascontiguousarray(turn.array(labels)),
        turn.geometry(grid),
        turn.slices(slices, shape),
        ["T1"],
        name=f"scan {number}",
    )
    return item, np.ascontiguousarray(turn.array(truth))


def trained(path, inputs, segments=SEGMENTS, **options):
    options = {"device": "cpu", "time_budget": 10.0, "max_steps": 4, **options}
    folder = RunFolder.create(path, inputs, segments, Options(**options), "cohort", task="train")
    run = EngineRun(folder)
    assert run.wait(120) == "done", run.error
    return run


def applied(path, model, items):
    description = ModelDescription.read(model)
    options = Options(device="cpu", time_budget=60.0)
    folder = RunFolder.create(
        path, items, description.segments, options, task="segment", model=model
    )
    run = EngineRun(folder)
    assert run.wait(120) == "done", run.error
    return run


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A run on two volumes of different sizes and orientations and a scan without annotation."""
    path = tmp_path_factory.mktemp("cohort")
    places = ("LPS", "PIR")
    items = [scan(n, orientation=place) for n, place in enumerate(places)]
    items.append(scan(4, None, "SLA"))
    return trained(path / "run", [item for item, _ in items]), items


def test_each_volume_gets_a_result_on_its_own_grid(cohort):
    run, items = cohort
    for number, (item, truth) in enumerate(items, start=1):
        found = run.result(number)
        drawn = item.labels != UNLABELLED
        assert found.shape == truth.shape and np.array_equal(found[drawn], item.labels[drawn])
        assert iou(found, truth, drawn) > 0.6, item.name


def test_sums_over_slices_are_of_each_volume_as_it_was_given(cohort):
    """Also where it was turned for the training; by them the next slice is suggested."""
    run, items = cohort
    for number in range(1, len(items) + 1):
        found, result = run.folder.read_profiles(number), run.result(number)
        for axis, along in zip("kji", range(3), strict=True):
            rest = tuple(a for a in range(3) if a != along)
            areas = [(result == value).sum(axis=rest) for value in (1, 2)]
            assert np.array_equal(found.areas(axis), areas)
            drawn = [s.index for s in items[number - 1][0].slices if s.axis == axis]
            assert not found.uncertainty(axis)[:, drawn].any() and found.entropy(axis).all()


def test_the_model_says_what_it_is(cohort):
    run, _ = cohort
    model = ModelDescription.read(run.folder.model_path)
    assert [s.name for s in model.segments] == ["Shell", "Core"]
    assert model.orientation == "LPS" and model.channels == ["T1"] and model.modality == "other"
    assert [case.name for case in model.cases] == [f"scan {n}" for n in range(2)]
    assert [case.slices for case in model.cases] == [3, 3]
    assert len(model.scores) == 2 and "fitted without it" in model.scored and model.steps == 4
    assert run.summary["held_out"] == [vars(score) for score in model.scores]
    assert run.summary["held_out_slices"] == [], "of fewer than four volumes none is held out"


def test_a_turned_scan_is_segmented_as_the_one_that_is_not(cohort, tmp_path):
    model = cohort[0].folder.model_path
    straight, truth = scan(4, None)
    turned, turned_truth = scan(4, None, "ASR")
    run = applied(tmp_path / "a", model, [straight, turned])
    first, second = run.result(1), run.result(2)
    assert iou(first, truth) > 0.6 and iou(second, turned_truth) > 0.6
    assert np.array_equal(Turn.between("LPS", "ASR").array(first), second)
    unsure = run.folder.read_uncertainty(1)
    assert unsure.shape == truth.shape and unsure.max() > unsure.min()


def test_a_scan_of_another_scale_and_spacing(cohort, tmp_path):
    model = cohort[0].folder.model_path
    item, truth = scan(4, None, spacing=(1.0, 1.0, 1.3), scale=7.0)
    assert iou(applied(tmp_path / "a", model, [item]).result(1), truth) > 0.5


def test_a_class_that_a_case_lacks_is_unknown_there(tmp_path):
    """In the second volume only the core is drawn: its shell is no background."""
    (first, _), (second, truth) = scan(0, (2, 2, 2)), scan(1, (2, 2, 2))
    second.labels[second.labels == 1] = 0
    second.classes = (2,)
    run = trained(tmp_path / "a", [first, second])
    hidden = run.result(2)[second.labels == UNLABELLED]
    wanted = truth[second.labels == UNLABELLED]
    assert ((hidden == 1) & (wanted == 1)).sum() / (wanted == 1).sum() > 0.3
    new, new_truth = scan(4, None)
    found = applied(tmp_path / "b", run.folder.model_path, [new]).result(1)
    assert iou(found, new_truth) > 0.5


def test_one_volume_has_no_score_and_says_why(tmp_path):
    run = trained(tmp_path / "a", [scan(0, (2, 2, 2))[0]])
    assert run.summary["held_out"] is None
    assert "one volume" in ModelDescription.read(run.folder.model_path).scored


def test_a_published_network_is_a_model_too(tmp_path):
    inputs = [scan(n)[0] for n in (0, 1)]
    run = trained(tmp_path / "a", inputs, network="fcn3d", tile=(16, 16, 16), width=2)
    model = ModelDescription.read(run.folder.model_path)
    assert model.steps == 4
    found = applied(tmp_path / "b", run.folder.model_path, [scan(2, None)[0]]).result(1)
    assert set(np.unique(found)) <= {0, 1, 2}


def test_it_resumes_from_its_checkpoint(tmp_path):
    inputs = [scan(n)[0] for n in (0, 1)]
    options = Options(device="cpu", max_steps=100_000)
    folder = RunFolder.create(tmp_path / "a", inputs, SEGMENTS, options, task="train")
    run, events = watched(folder)
    assert until(run, lambda: any(e["step"] > 3 for e in named(events, "progress")))
    run.interrupt()
    run.wait(30)
    assert run.state == "failed" and run.error.code == "interrupted"
    again, events = watched(folder)
    assert until(again, lambda: bool(named(events, "resumed")))
    assert named(events, "resumed")[0]["step"] > 3
    again.stop()
    assert again.wait(60) == "done" and folder.model_path.is_file()


def test_changed_labels_and_previews_of_any_volume(tmp_path):
    (first, _), (second, truth) = scan(0), scan(1, orientation="PIR")
    options = Options(device="cpu", max_steps=100_000)
    folder = RunFolder.create(tmp_path / "a", [first, second], SEGMENTS, options, task="train")
    run, events = watched(folder)
    assert until(run, lambda: any(e["step"] > 1 for e in named(events, "progress")))
    labels = folder.read_labels(2)
    labels[:, 3] = truth[:, 3]
    run.change_labels(labels, folder.read_slices(2), 2)
    assert until(run, lambda: bool(named(events, "labels")))
    run.preview(["j:3"], 2)
    assert until(run, lambda: any(e.get("planes") == ["j:3"] for e in named(events, "preview")))
    plane = np.load(folder.path / "preview" / "2-j3.npy")
    assert np.array_equal(plane, truth[:, 3]), "drawn voxels are shown as they were drawn"
    run.cancel()


def test_cancel_while_a_model_is_applied(cohort, tmp_path):
    run, _ = cohort
    options = Options(device="cpu", time_budget=60.0)
    description = ModelDescription.read(run.folder.model_path)
    folder = RunFolder.create(
        tmp_path / "a",
        [scan(4, None)[0]],
        description.segments,
        options,
        task="segment",
        model=run.folder.model_path,
    )
    again = EngineRun(folder)
    again.cancel()
    assert again.state == "cancelled" and not folder.has_result()


def test_a_model_that_is_damaged_in_the_folder(cohort, tmp_path):
    run, _ = cohort
    broken = tmp_path / "m.safetensors"
    broken.write_bytes(run.folder.model_path.read_bytes()[:-7])
    options = Options(device="cpu", time_budget=60.0)
    folder = RunFolder.create(
        tmp_path / "a", [scan(4, None)[0]], SEGMENTS, options, task="segment", model=broken
    )
    again = EngineRun(folder)
    assert again.wait(60) == "failed" and "7 bytes are missing" in str(again.error)


def test_the_model_of_a_single_densified_volume(tmp_path):
    item, _ = scan(0, (2, 2, 2))
    options = Options(device="cpu", max_steps=3, save_model=True)
    folder = RunFolder.create(tmp_path / "a", [item], SEGMENTS, options)
    run = EngineRun(folder)
    assert run.wait(120) == "done", run.error
    assert "one volume" in ModelDescription.read(folder.model_path).scored
    new, truth = scan(4, None)
    assert iou(applied(tmp_path / "b", folder.model_path, [new]).result(1), truth) > 0.5


def started_from(model, item, path):
    """The run of a volume that starts from a model, after its end."""
    options = Options(device="cpu", max_steps=1)
    run = EngineRun(RunFolder.create(path, [item], SEGMENTS, options, model=model))
    assert run.wait(120) == "done", run.error
    return run


def test_a_warm_start_from_another_orientation(cohort, tmp_path):
    item, truth = scan(4, (0, 0, 1), "PIR")
    drawn = item.labels != UNLABELLED
    run = started_from(cohort[0].folder.model_path, item, tmp_path / "a")
    assert iou(run.result(), truth, drawn) > 0.9
    assert np.array_equal(run.result()[drawn], item.labels[drawn])


def test_a_warm_start_beside_a_prior_of_a_part(cohort, tmp_path):
    """Both are predictors: noise in a box beside the model costs nothing."""
    item, truth = scan(4, (0, 0, 1))
    drawn = item.labels != UNLABELLED
    known = np.zeros((2, *truth.shape), bool)
    known[:, :, :, : truth.shape[2] // 2] = True
    noise = np.random.default_rng(0).integers(0, 3, truth.shape)
    item.prior = 255 * np.stack([noise == 1, noise == 2]).astype(np.uint8) * known
    item.prior_classes, item.prior_known = (1, 2), known
    run = started_from(cohort[0].folder.model_path, item, tmp_path / "a")
    assert iou(run.result(), truth, drawn) > 0.9


def test_a_warm_start_needs_a_segment_of_the_model(cohort, tmp_path):
    item, _ = scan(4)
    others = [replace(SEGMENTS[0], name="Liver"), replace(SEGMENTS[1], name="Spleen")]
    options = Options(device="cpu", max_steps=1)
    model = cohort[0].folder.model_path
    folder = RunFolder.create(tmp_path / "a", [item], others, options, model=model)
    run = EngineRun(folder)
    assert run.wait(60) == "failed" and "knows none of the segments" in str(run.error)


def test_stop_before_the_network_still_gives_a_model(tmp_path):
    inputs = [scan(n)[0] for n in (0, 1)]
    options = Options(device="cpu", time_budget=600.0)
    folder = RunFolder.create(tmp_path / "a", inputs, SEGMENTS, options, task="train")
    run, events = watched(folder)
    assert until(run, lambda: any(e["phase"] == PHASE for e in named(events, "progress")))
    run.stop()
    assert run.wait(120) == "done", run.error
    model = ModelDescription.read(folder.model_path)
    assert folder.has_result(1) and folder.has_result(2)
    assert "fitted without it" in model.scored or model.steps
