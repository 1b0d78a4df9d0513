"""Runs whose engine works on another computer: live, interrupted, resumed; real processes."""

from far_away import far  # noqa: F401
from phantom import iou
from small_runs import named, run_folder, training, until, watched, with_slice


def test_a_run_is_like_one_at_home(tmp_path, far):
    folder, truth = run_folder(tmp_path / "run", time_budget=60)
    run, events = watched(folder)
    assert until(run, lambda: training(run)), (run.state, run.error, events)
    run.stop()
    assert run.wait(60) == "done", run.error
    assert iou(run.result(), truth) > 0.6
    print(folder.log_path.read_text())
