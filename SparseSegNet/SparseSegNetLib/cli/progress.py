"""Progress bar for a run in a terminal, and the handling of Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from ..client.engine_run import EngineRun
from ..runfolder.phases import Phase, RemotePhase
from ..runfolder.signals import Terminated
from ..units import clock

PHASES = {
    RemotePhase.CONNECTING: "connecting",
    RemotePhase.SENDING: "sending the scan",
    RemotePhase.RECEIVING: "getting the result",
    Phase.PREPARING: "preparing",
    Phase.CORRECTING_BIAS: "correcting the bias field",
    Phase.PROBING: "measuring speed",
    Phase.COMPARING_SLICES: "comparing slices",
    Phase.PAUSED: "paused",
    Phase.HELD_OUT: "training",
    Phase.ALL_SLICES: "training, all",
    Phase.PREDICTING: "predicting",
}


def follow(run: EngineRun, quiet: bool = False, keep: bool = True) -> str:
    """Waits for a run and shows step, loss and remaining time.

    The first Ctrl-C stops training and keeps the best result so far, the second cancels. When
    the system asks this program to end, the engine writes a checkpoint and the run's error names
    the command that resumes it.

    Args:
        run: The run.
        quiet: Show no progress bar.
        keep: If False, the first Ctrl-C, or the system's request to end, cancels the run.

    Returns:
        The run's final state.
    """
    bar = tqdm(
        total=100.0,
        disable=quiet,
        file=sys.stderr,
        leave=False,
        bar_format="{desc} |{bar}|{postfix}",
    )

    def show(event: dict) -> None:
        if event["event"] == "progress":
            if event["phase"] != Phase.PREDICTING and (remaining := event["remaining"]) is not None:
                done = event["seconds"] / max(1e-6, event["seconds"] + remaining)
                bar.n = min(100.0, 100 * done)
            bar.set_description_str(PHASES.get(event["phase"], event["phase"]), refresh=False)
            bar.set_postfix_str(_postfix(event))
        elif event["event"] in ("warning", "oom-recovered", "silent"):
            bar.write(f"note: {event['text']}", file=sys.stderr)

    run.observe(show)
    try:
        attend(run, keep, lambda text: bar.write(text, file=sys.stderr))
    finally:
        bar.close()
    return run.state


def attend(
    run: EngineRun,
    keep: bool,
    tell: Callable[[str], None],
    wait: Callable[[EngineRun], object] = lambda run: run.wait(),
) -> None:
    """Waits until a run ends and handles Ctrl-C, as `follow` does, without a progress bar.

    Args:
        run: The run.
        keep: If False, the first Ctrl-C, or the system's request to end, cancels the run.
        tell: Prints a line for the user.
        wait: Waits for the run, or for a part of the time; it may raise KeyboardInterrupt.
    """
    interrupted = False
    try:
        while not run.ended:
            try:
                wait(run)
            except Terminated:
                if not keep:
                    run.cancel()
                    break
                run.interrupt()
                with suppress(OSError):  # the terminal may have gone
                    tell("ending: the engine writes a checkpoint.")
            except KeyboardInterrupt:
                if interrupted or not keep:
                    run.cancel()
                    break
                interrupted = True
                tell("stopping: the best result so far is kept (Ctrl-C again cancels).")
                run.stop()
    finally:
        if not run.ended:
            run.cancel()


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
    """Prints that the run was cancelled, and how to resume it if its folder is kept."""
    hint = "" if kept is None else f" 'sparsesegnet resume \"{kept}\"' resumes the training."
    say(f"cancelled; nothing was written.{hint}")


def say(text: str) -> None:
    """Prints a message for people, hence on stderr."""
    print(text, file=sys.stderr)
