"""A progress bar for a run in a terminal, and what Ctrl-C does."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from ..client.engine_run import EngineRun
from ..runfolder.signals import Terminated
from ..units import clock

PHASES = {
    "correcting bias": "correcting the bias field",
    "probing": "measuring speed",
    "comparing slices": "comparing slices",
    "paused": "paused",
    "held out": "learning",
    "all slices": "learning, all",
    "predicting": "predicting",
}


def follow(run: EngineRun, quiet: bool = False, keep: bool = True) -> str:
    """Wait for a run, showing step, loss and remaining time. Returns its final state.

    The first Ctrl-C stops training and keeps the best result so far, the second gives up; with
    keep=False the first one gives up. When the system ends this program the engine writes a
    checkpoint and the run's error says how to go on; with keep=False it gives up.
    """
    bar = tqdm(
        total=100.0,
        disable=quiet,
        file=sys.stderr,
        leave=False,
        bar_format="{desc} |{bar}| {postfix}",
    )

    def show(event: dict) -> None:
        if event["event"] == "progress":
            if event["phase"] != "predicting" and (remaining := event["remaining"]) is not None:
                bar.n = 100 * event["seconds"] / max(1e-6, event["seconds"] + remaining)
            bar.set_description_str(PHASES.get(event["phase"], event["phase"]), refresh=False)
            bar.set_postfix_str(_postfix(event))
        elif event["event"] in ("warning", "oom-recovered", "silent"):
            bar.write(f"note: {event['text']}", file=sys.stderr)

    run.observe(show)
    interrupted = False
    try:
        while not run.ended:
            try:
                run.wait()
            except Terminated:
                if not keep:
                    run.cancel()
                    break
                run.interrupt()
                with suppress(OSError):  # the terminal may have gone
                    bar.write("asked to end: the engine writes a checkpoint.", file=sys.stderr)
            except KeyboardInterrupt:
                if interrupted or not keep:
                    run.cancel()
                    break
                interrupted = True
                bar.write(
                    "stopping: the best result so far is kept (Ctrl-C again gives up).",
                    file=sys.stderr,
                )
                run.stop()
    finally:
        if not run.ended:
            run.cancel()
        bar.close()
    return run.state


def _postfix(event: dict) -> str:
    parts = []
    if event["step"]:
        parts.append(f"step {event['step']}")
    if event["loss"] is not None:
        parts.append(f"loss {event['loss']:.3f}")
    if event["remaining"] is not None:
        parts.append(f"{clock(event['remaining'])} left")
    return ", ".join(parts)


def say_cancelled(kept: Path | None) -> None:
    """kept: the run folder, where there is one to go on with."""
    on = "" if kept is None else f" 'sparsesegnet resume \"{kept}\"' goes on with the training."
    say(f"cancelled; nothing was written.{on}")


def say(text: str) -> None:
    """For people, so on stderr."""
    print(text, file=sys.stderr)
