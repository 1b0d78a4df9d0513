"""Over a real SSH connection: a whole session, a lost connection, and what the server refuses."""

from phantom import iou
from small_runs import named, run_folder, training, until, watched, with_slice

from SparseSegNetLib.annotation.slices import AnnotatedSlice


def test_a_session_with_preview_labels_pause_and_resume(tmp_path, far_by_ssh):
    folder, truth = run_folder(tmp_path / "run", counts=(1, 1, 0), time_budget=60)
    run, events = watched(folder)
    assert until(run, lambda: training(run)), run.error
    labels, slices = with_slice(folder, truth, "k", 9)
    run.change_labels(labels, slices)
    run.preview(["k:10"])
    assert until(run, lambda: named(events, "labels")), run.error
    assert named(events, "labels")[0]["labelled"] == (labels != 255).sum()
    assert until(run, lambda: any(e.get("planes") for e in named(events, "preview"))), run.error
    assert folder.read_preview_slice(1, AnnotatedSlice("k", 10)).shape == truth[10].shape
    run.pause()
    assert until(run, lambda: run.state == "paused"), run.error
    run.resume()
    assert until(run, lambda: training(run)), run.error
    run.stop()
    assert run.wait(60) == "done", run.error
    result = run.result()
    assert (result[labels != 255] == labels[labels != 255]).all() and iou(result, truth) > 0.6
