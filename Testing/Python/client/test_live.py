"""While it learns: labels change, previews come, it pauses, stops and takes longer; real
processes."""

import os
from dataclasses import replace

import numpy as np
import pytest
from phantom import iou
from small_runs import named, run_folder, training, until, watched, with_slice

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.folder import RunFolder


def memory(pid):
    """Bytes that a process holds; None where the system does not tell so."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    except FileNotFoundError:
        return None


def test_new_labels_are_learnt_shown_and_kept(tmp_path):
    folder, truth = run_folder(tmp_path / "run", counts=(1, 1, 0), time_budget=60)
    run, events = watched(folder)
    assert until(run, lambda: training(run))
    steps = run.progress["step"]
    labels, slices = with_slice(folder, truth, "k", 9)
    run.change_labels(labels, slices)
    run.preview(["k:10", "j:14"])
    assert until(run, lambda: named(events, "labels"))
    taken = named(events, "labels")[0]
    assert taken["labelled"] == (labels != UNLABELLED).sum() and taken["step"] >= steps
    assert until(run, lambda: any(e.get("planes") for e in named(events, "preview")))
    shown = next(e for e in named(events, "preview") if e.get("planes"))
    assert shown["planes"] == ["k:10", "j:14"]
    plane = folder.read_preview_slice(1, AnnotatedSlice("k", 10))
    assert plane.shape == truth[10].shape and set(np.unique(plane)) <= {0, 1, 2}
    assert run.progress["step"] >= steps, "it did not begin anew"
    # What is drawn last stays, wherever it is drawn.
    labels[3, 3, 3] = 2
    run.change_labels(labels, slices)
    assert until(run, lambda: len(named(events, "labels")) == 2)
    run.stop()
    assert run.wait(90) == "done", run.error
    result = run.result()
    drawn = labels != UNLABELLED
    assert (result[drawn] == labels[drawn]).all()
    assert iou(result, truth) > 0.6


def test_with_little_time_nothing_is_probed_for_a_network(tmp_path):
    """What the slices alone say is the result; given more time, the same run learns."""
    folder, truth = run_folder(tmp_path / "run", time_budget=8)
    run, events = watched(folder)
    assert run.wait(60) == "done", run.error
    assert run.summary["step"] == 0 and iou(run.result(), truth) > 0.6
    assert named(events, "plan")[0]["seconds_per_step"] == 0, "nothing was measured"
    assert any("no network was trained" in text for text in run.warnings)
    folder.options = replace(folder.options, time_budget=60.0)
    folder.description["options"] = folder.options.to_json()
    folder.save()
    again, _ = watched(RunFolder.open(folder.path))
    assert until(again, lambda: training(again))
    again.stop()
    assert again.wait(60) == "done", again.error
    assert again.summary["step"] > 0 and iou(again.result(), truth) > 0.6


def test_labels_that_do_not_fit_are_refused(tmp_path):
    folder, truth = run_folder(tmp_path / "run", time_budget=60)
    run, _events = watched(folder)
    assert until(run, lambda: training(run))
    with pytest.raises(InputError, match=r"needs uint8 of \(24, 28, 30\)"):
        run.change_labels(truth[1:], [])
    with pytest.raises(InputError, match="knows 2 segments"):
        run.change_labels(np.full_like(truth, 7), [])
    with pytest.raises(InputError, match="there is no input 2"):
        run.change_labels(truth, [], number=2)
    run.change_labels(np.full_like(truth, UNLABELLED), [])
    run.preview(["k:99"])
    run.set_time_budget(1.0)
    assert until(run, lambda: len(run.warnings) >= 3)
    assert "no voxel is labelled" in " ".join(run.warnings)
    assert "outside the volume" in " ".join(run.warnings)
    assert "time budget" in " ".join(run.warnings)
    assert run.poll() == "training", "it goes on with what it had"
    run.cancel()


def test_labels_changed_500_times(tmp_path):
    folder, truth = run_folder(tmp_path / "run", shape=(12, 14, 16), time_budget=300)
    run, events = watched(folder)
    assert until(run, lambda: training(run))
    labels, slices = with_slice(folder, truth, "k", 6)
    sizes, files = [], []

    def taken():
        known, told = int((labels != UNLABELLED).sum()), named(events, "labels")
        return told and told[-1]["labelled"] == known

    free = np.argwhere(labels == UNLABELLED)[:500]
    for number, voxel in enumerate(free):
        labels[tuple(voxel)] = number % 3
        run.change_labels(labels, slices)
        run.poll()
        if number % 50 == 49:
            assert until(run, taken), number
        if number in (99, 499):
            sizes.append(memory(run._pid))
            inputs = [p for p in (folder.path / "inputs").rglob("*") if p.is_file()]
            files.append(sum(p.stat().st_size for p in inputs))
            assert {p.name for p in inputs} == {
                "image.npy",
                "labels.npy",
                "slices.json",
                "geometry.json",
            }
    assert files[0] == files[1]
    if sizes[0] is not None:
        assert sizes[1] - sizes[0] < 60e6, sizes
    run.stop()
    assert run.wait(60) == "done", run.error
    drawn = labels != UNLABELLED
    assert (run.result()[drawn] == labels[drawn]).all(), "none is lost"
    assert not list(folder.path.rglob(".writing-*"))


def test_pausing_stops_the_time_and_the_work(tmp_path):
    folder, _ = run_folder(tmp_path / "run", time_budget=60)
    run, events = watched(folder)
    assert until(run, lambda: training(run))
    run.pause()
    assert until(run, lambda: run.state == "paused")

    def beats():
        return [e for e in named(events, "progress") if e["phase"] == "paused"]

    assert until(run, lambda: len(beats()) > 0)
    steps, spent = run.progress["step"], _processor_seconds(run._pid)
    assert until(run, lambda: len(beats()) > 1)
    assert run.state == "paused" and {e["step"] for e in beats()} == {steps}
    assert len({e["seconds"] for e in beats()}) == 1, "its clock stands still"
    if spent is not None:
        assert _processor_seconds(run._pid) - spent < 1.5
    run.resume()
    assert until(run, lambda: training(run) and run.progress["step"] > steps)
    assert named(events, "paused")
    run.cancel()


def _processor_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            user, system = file.read().rsplit(")", 1)[1].split()[11:13]
    except FileNotFoundError:
        return None
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_more_time(tmp_path):
    folder, _ = run_folder(tmp_path / "run", time_budget=60)
    run, _ = watched(folder)
    assert until(run, lambda: training(run))
    run.set_time_budget(600)
    assert until(run, lambda: run.progress["remaining"] > 500)
    assert run.progress["fraction"] < 0.2
    assert RunFolder.open(folder.path).options.time_budget == 600
    # Less than what has passed: it ends.
    run.set_time_budget(max(5.0, run.progress["seconds"]))
    assert run.wait(30) == "done"


@pytest.mark.parametrize("moment", ["ready", "plan", "predicting"])
def test_stop_at_the_worst_moment(tmp_path, moment):
    """During the probe, during the first step, during the prediction: a result all the same."""
    folder, truth = run_folder(tmp_path / "run", time_budget=10 if moment == "predicting" else 60)
    run, _events = watched(folder)
    run.observe(lambda event: moment in (event["event"], event.get("phase")) and run.stop())
    assert run.wait(90) == "done", run.error
    assert moment == "predicting" or run.summary["step"] <= 1, "it did not go on training"
    assert iou(run.result(), truth) > 0.5


def test_cancel_while_paused_and_a_run_without_any_gpu_left_behind(tmp_path):
    folder, _ = run_folder(tmp_path / "run", time_budget=60)
    run, _ = watched(folder)
    assert until(run, lambda: training(run))
    run.pause()
    assert until(run, lambda: run.state == "paused")
    run.cancel()
    assert run.state == "cancelled"
    if os.name != "nt":
        assert run._transport._process.returncode == 3, "it ended by itself"
    with pytest.raises(InputError, match="cancelled cannot be changed"):
        run.change_labels(folder.read_labels(), [])


def test_more_slices_than_at_the_beginning_are_stacked_and_scored(tmp_path):
    """Of one slice nothing is held out, which is said; of three there is an honest score."""
    folder, truth = run_folder(tmp_path / "run", counts=(0, 0, 1), time_budget=90)
    run, events = watched(folder)
    assert until(run, lambda: training(run))
    assert named(events, "plan")[0]["priors"]
    assert any("one annotated slice is very little" in text for text in run.warnings)
    assert not any(event["held_out"] for event in named(events, "metrics"))
    labels, slices = with_slice(folder, truth, "k", 8)
    run.change_labels(labels, slices)
    labels, slices = with_slice(folder, truth, "i", 15)
    run.change_labels(labels, slices)
    assert until(run, lambda: any(event["held_out"] for event in named(events, "metrics")))
    run.stop()
    assert run.wait(90) == "done", run.error
    assert run.summary["held_out"] is not None
    assert iou(run.result(), truth) > 0.6


def test_the_client_says_when_it_hears_nothing(tmp_path, monkeypatch):
    from SparseSegNetLib.client import engine_run as module
    from SparseSegNetLib.client.popen_transport import PopenTransport

    assert module.SILENCE < 20
    monkeypatch.setattr(module, "SILENCE", 1.0)
    folder, _ = run_folder(tmp_path / "run")
    events = []
    run = EngineRun(folder, PopenTransport(["-c", "import time; time.sleep(60)"]))
    run.observe(events.append)
    assert until(run, lambda: run.silent, timeout=10)
    assert "has not been heard of" in named(events, "silent")[0]["text"]
    run.cancel(patience=0.5)
    assert run.state == "cancelled"
