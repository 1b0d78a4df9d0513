"""Events and commands of the protocol, whole and as client and engine take them."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path

from SparseSegNetLib.cli.progress import follow
from SparseSegNetLib.cli.scores import report
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.files.labels import Annotation
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.protocol import decode, encode
from whole_inputs import SEGMENTS, SHAPE, SLICES, annotation, run_folder


class Said:
    """A transport whose engine says what lies in a file, and ends."""

    def __init__(self, data: bytes):
        self._chunks: list[tuple[str, bytes | int]] = [("out", data), ("end", 0)]

    def receive(self, timeout: float = 0.0) -> tuple[str, bytes | int] | None:
        return self._chunks.pop(0) if self._chunks else None

    def send(self, line: bytes) -> None: ...

    def close_input(self) -> None: ...

    def kill(self) -> None: ...


EVENTS = b"".join(
    encode("event", name, **data)
    for name, data in {
        "started": {"pid": 12},
        "ready": {"pid": 12, "device": "cpu", "torch": "2", "threads": 1},
        "plan": {"device": "cpu", "network": "auto", "shape": SHAPE, "patch": SHAPE, "width": 16},
        "progress": {
            "step": 3,
            "loss": 0.5,
            "seconds": 2.5,
            "phase": "held out",
            "fraction": 0.1,
            "remaining": 9.5,
        },
        "metrics": {
            "step": 3,
            "seconds": 2.5,
            "loss": 0.5,
            "phase": "held out",
            "held_out_dice": 0.5,
            "held_out": [{"dice": 0.5, "iou": 0.4, "voxels": 7}] * 2,
        },
        "warning": {"text": "a"},
        "oom-recovered": {"step": 3, "text": "b"},
        "resumed": {"step": 3, "seconds": 1.0},
        "preview": {"input": 1, "step": 3, "seconds": 3.0},
        "error": {"code": "gpu", "cause": "c", "remedy": "d"},
        "done": {
            "seconds": 9.0,
            "step": 3,
            "held_out": None,
            "held_out_slices": ["k:1"],
            "seconds_aside": {"previews": 0.1},
        },
    }.items()
)


def write_messages(lines: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for n, line in enumerate(lines.splitlines()):
            (folder / f"{n:02}.jsonline").write_bytes(line)

    return make


def _lines(folder: Path) -> bytes:
    return b"".join(p.read_bytes().replace(b"\n", b" ") + b"\n" for p in sorted(folder.iterdir()))


@cache
def _kept(folder: Path) -> RunFolder:
    folder.mkdir()
    run_folder(folder / "run")
    return RunFolder.open(folder / "run")


def read_events(folder: Path) -> object:
    kept = _kept(folder.parent / "kept-for-events")
    kept.log_path.unlink(missing_ok=True)
    run = EngineRun(kept, Said(_lines(folder)))
    if follow(run, quiet=True) == "done" and run.plan is not None:
        json.dumps(report(run, Annotation(annotation(), SEGMENTS, SLICES)), allow_nan=False)
    return run.error, run.metrics, run.summary


COMMANDS = b"".join(
    encode("command", name, **data)
    for name, data in (
        ("set", {"time_budget": 300}),
        ("labels-changed", {"input": 1}),
        ("pause", {}),
        ("resume", {}),
        ("preview", {"input": 1, "planes": ["k:1", "i:2,3"]}),
        ("preview", {}),
        ("stop", {}),
    )
)


def read_commands(folder: Path) -> object:
    from SparseSegNetLib.engine.data.inputs import Inputs
    from SparseSegNetLib.engine.interaction.callback import TrainingCallback
    from SparseSegNetLib.engine.interaction.clock import Clock
    from SparseSegNetLib.engine.interaction.commands import Commands
    from SparseSegNetLib.engine.interaction.reporter import Reporter

    kept, clock = _kept(folder.parent / "kept-for-commands"), Clock(60, 0.0)
    trainer = types.SimpleNamespace(plan=types.SimpleNamespace(seconds_to_predict=1.0), steps=0)
    reporter = Reporter(lambda event, **data: encode("event", event, **data), kept, clock, False)
    commands = Commands()
    live = TrainingCallback(
        trainer,
        Inputs(kept),
        commands,
        clock,
        reporter,
        lambda: None,
        lambda step: None,
        lambda number, before: None,
    )
    for line in _lines(folder).splitlines():
        message = decode(line, "command")
        if message is not None and commands.put(message):
            for taken in commands.take():
                getattr(live, "_on_" + taken["command"].replace("-", "_"))(taken)
    return True
