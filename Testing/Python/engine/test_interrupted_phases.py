"""A batch system ends the engine: whatever it does just then, the run can be resumed.

What the signal does is `Commands.interrupt`; processes that get signals are in client/.
"""

import time

import pytest
from phantom import nested

from SparseSegNetLib.annotation.composition import restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.lock import in_use
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

pytest.importorskip("torch")
from SparseSegNetLib.engine import worker
from SparseSegNetLib.engine.interaction import reporter
from SparseSegNetLib.engine.interaction.commands import Commands
from SparseSegNetLib.engine.training.checkpoint import load_state
from SparseSegNetLib.engine.training.together import Alone

SHAPE = (16, 18, 20)


@pytest.fixture(autouse=True)
def every_step_is_told(small_training, monkeypatch):
    monkeypatch.setattr(reporter, "PROGRESS_EVERY", 0.0)


def run_folder(path, **options):
    image, truth = nested(SHAPE)
    slices = spread_slices((1, 1, 1), SHAPE, truth > 0)
    grid = Geometry(tuple(reversed(SHAPE)), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    item = RunInput(image[None], restrict_to_slices(truth, slices), grid, slices)
    segments = [Segment("a", "Shell", (1, 0, 0), 1), Segment("b", "Core", (0, 1, 0), 2)]
    return RunFolder.create(path, [item], segments, Options(device="cpu", **options))


def carried_out(folder, *steps):
    """Exit code and events of a run to which commands are given.

    steps: Pairs of a test of an event, and the command that is given at the first one that passes
        it, one after the other.
    """
    commands, events, left = Commands(), [], list(steps)
    options = worker.parser().parse_args([str(folder.path)])

    def emit(event, **data):
        events.append({"event": event, **data})
        if left and left[0][0](events[-1]):
            commands.put({"command": left.pop(0)[1]})

    worker.BEGUN = time.monotonic()
    return worker.carry_out(options, commands, emit, Alone()), events


def phase(name, least=0):
    return lambda event: (
        event["event"] == "progress" and event["phase"] == name and event["step"] >= least
    )


def interrupted(code, events):
    """Steps of the checkpoint that the events tell of."""
    assert code == 3
    paused, told = events[-2:]
    assert paused["event"] == "paused" and told["event"] == "interrupted"
    assert "sparsesegnet resume" in told["remedy"]
    return paused["step"]


@pytest.mark.parametrize("name", ["ready", "probing", "comparing slices"])
def test_before_the_first_step_there_is_nothing_to_keep(tmp_path, name):
    folder = run_folder(tmp_path / "run", time_budget=30.0)
    moment = (lambda event: event["event"] == "ready") if name == "ready" else phase(name)
    code, events = carried_out(folder, (moment, "interrupt"))
    assert interrupted(code, events) == 0 and "begins it again" in events[-1]["remedy"]
    assert load_state(folder.state_paths) is None and not in_use(folder.path)


def test_training_paused_and_predicting_it_goes_on_where_it_was(tmp_path):
    folder = run_folder(tmp_path / "run", max_steps=6)
    code, events = carried_out(folder, (phase("all slices", 2), "interrupt"))
    assert interrupted(code, events) == load_state(folder.state_paths)[1]["steps"] == 2
    code, events = carried_out(
        folder,
        (phase("all slices", 4), "pause"),
        (lambda event: event["event"] == "paused", "interrupt"),
    )
    assert next(e for e in events if e["event"] == "resumed")["step"] == 2
    assert interrupted(code, events) == load_state(folder.state_paths)[1]["steps"] == 4
    # The last one is written before it predicts.
    code, events = carried_out(
        folder, (lambda event: event["event"] == "checkpoint" and event["step"] == 6, "interrupt")
    )
    assert interrupted(code, events) == 6 and not folder.has_result()
    code, events = carried_out(folder)
    assert code == 0 and folder.has_result() and events[-1]["event"] == "done"
    assert next(e for e in events if e["event"] == "resumed")["step"] == 6
