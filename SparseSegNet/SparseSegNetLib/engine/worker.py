"""The engine process: ``python -m SparseSegNetLib.engine.worker RUN``.

Trains on a run folder and writes the result into it. Events go to stdout, one JSON object per line
(runfolder.protocol); the log goes to stderr. With --client commands come from stdin in the same
way, and its end is the client's; without, as in a batch system, stdin is never read. SIGTERM,
SIGHUP, Ctrl-Break (and Ctrl-C without a client) write a checkpoint and end the process. Started by
torchrun on several graphics cards or computers it trains on all of them: rank 0 does everything
but the other ranks' gradients, and it alone sends events and writes the run folder. Exit codes: 0
done, 2 bad input, 3 cancelled, ended by such a signal or with a lost rank, or stopped before
anything was learnt, 4 no usable device, 5 internal.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineError, InputError
from ..runfolder.exit_codes import CANCELLED, DONE, exit_code

if TYPE_CHECKING:
    from .interaction.commands import Commands
    from .training.together import Alone

BEGUN = time.monotonic()  # before the heavy imports: they are part of the user's waiting

LOOK_AGAIN = 0.1  # seconds, whether a lock has become free


def prepare_environment() -> None:
    """Sets the environment variables that torch reads when it is loaded.

    Idle compute threads sleep soon instead of spinning for each other: with the OpenMP runtimes'
    defaults one busy program beside the engine makes training many times slower, since threads
    burn their share of the cores while they wait (docs/lab/speed.md). Operations that torch lacks
    on Apple's GPUs are done on the CPU, instead of being an error.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # GNU's runtime: torch on Linux
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM's and Intel's: macOS and Windows
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def parser() -> argparse.ArgumentParser:
    """Parser of the process's arguments."""
    top = argparse.ArgumentParser(
        prog="python -m SparseSegNetLib.engine.worker",
        description="Train on a run folder and write the result into it.",
    )
    top.add_argument("run_folder", metavar="RUN", help="the run folder")
    top.add_argument(
        "--client",
        action="store_true",
        help="a client began this: take its commands from stdin, end with it",
    )
    top.add_argument(
        "--changes",
        metavar="DIR",
        help="options and labels to resume with, as runfolder.changes.Changes leaves them",
    )
    top.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds to wait for another engine on this folder to end (default 0)",
    )
    return top


def open_streams() -> None:
    """Replaces streams that a batch system has closed by ones that discard everything."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
            setattr(sys, f"__{name}__", nowhere)  # else main's exchange of stdout would close it


def main(arguments: list[str]) -> int:
    """Carries out the run of the process's arguments; returns the exit code."""
    open_streams()
    options = parser().parse_args(arguments)
    # Only events may reach the real stdout; a library that prints goes to the log.
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    prepare_environment()
    # Both are torchrun's, see compute.ranks.
    if os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0":
        from .interaction.following import follow

        return follow()

    from ..runfolder.protocol import encode
    from ..runfolder.signals import answer
    from .interaction.commands import Commands

    def emit(event: str, **data) -> None:
        out.write(encode("event", event, **data))
        out.flush()

    commands = Commands()
    if options.client:
        # Ctrl-C is for the client to interpret: it sends 'stop' and waits for the best result.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        answer(commands.interrupt)
        commands.listen(sys.stdin.fileno())
    else:
        answer(commands.interrupt, "SIGINT")
    try:
        emit("started", pid=os.getpid())  # a launcher in between has a pid of its own
        # torch comes along, or fails to.
        from . import job, scoring_job, segmentation_job, training_job  # noqa: F401

        partners = partners_of(commands, emit)
    except BrokenPipeError:
        return CANCELLED
    except (EngineError, InputError) as error:
        return fail(error, emit)
    except Exception as error:
        return report(error, emit)
    code = carry_out(options, commands, emit, partners)
    partners.end(code)
    return code


def partners_of(commands: Commands, emit: Callable[..., None]) -> Alone:
    """The other ranks that torchrun has started, once they have come.

    Args:
        commands: Get an interrupt when another rank is asked to end.
        emit: Sends the event when another one gives no sign of life.

    Raises:
        EngineError: 'rank-lost'.
        InputError: The environment tells of no possible ranks.
    """
    from .compute.ranks import Ranks
    from .training.together import Alone, Leader

    ranks = Ranks.of_environment()
    if ranks is None:
        return Alone()
    global BEGUN
    waiting = time.monotonic()
    ranks.join()
    BEGUN += time.monotonic() - waiting  # until the others came is no part of the time budget
    ranks.watch(
        lambda error: end_process(fail(error, emit)),
        lambda: commands.put({"command": "interrupt"}),
    )
    return Leader(ranks)


def carry_out(
    options: argparse.Namespace, commands: Commands, emit: Callable[..., None], partners: Alone
) -> int:
    """Carries out a run, and reports how it ended.

    Args:
        options: The process's arguments.
        commands: Of the client.
        emit: Sends an event.
        partners: The ranks that train, too.

    Returns:
        The exit code.
    """
    from ..runfolder.changes import Changes
    from ..runfolder.folder import RunFolder
    from .compute.allocation import keep_freed_memory
    from .job import Job
    from .scoring_job import ScoringJob
    from .segmentation_job import SegmentationJob
    from .stopping import Cancelled
    from .training_job import TrainingJob

    folder = None
    try:
        folder = RunFolder.open(options.run_folder)
        waiting = time.monotonic()
        lock = acquire_lock(folder.path, commands, options.wait)
        if lock is None:
            raise Cancelled("asked to")
        with lock:
            if options.changes:
                Changes.read(options.changes).apply(folder)
            kinds: dict[str, type[Job] | type[TrainingJob] | type[SegmentationJob]] = {
                "train": TrainingJob,
                "segment": SegmentationJob,
                "crossvalidate": ScoringJob,
            }
            kind = kinds.get(folder.task, Job)
            job = kind(options.run_folder, commands, emit, BEGUN + time.monotonic() - waiting, lock)
            job.partners = partners
            if job.options.network == "auto":  # the published ones' blocks differ in size
                keep_freed_memory()
            job.run()
        return DONE
    except Cancelled as reason:
        print(f"cancelled: {reason}", file=sys.stderr)
        if commands.interrupted:
            steps, cause, remedy = resume_hint(folder)
            print(f"{cause} {remedy}", file=sys.stderr)
            with suppress(OSError):
                emit("paused", step=steps)
                emit("interrupted", cause=cause, remedy=remedy)
        return CANCELLED
    except InputError as error:
        if folder is not None and not folder.path.is_dir():
            return report(FileNotFoundError(errno.ENOENT, str(error)), emit, folder.path)
        return fail(error, emit)
    except EngineError as error:
        traceback.print_exc()
        return fail(error, emit)
    except BrokenPipeError:
        return CANCELLED  # the client has gone
    except Exception as error:
        return report(error, emit, None if folder is None else folder.path)


def acquire_lock(path, commands, patience: float):
    """Acquires the run folder's lock, a runfolder.lock.FolderLock.

    Args:
        path: The run folder.
        commands: Commands of the client.
        patience: Seconds to wait for another engine on this folder to end.

    Returns:
        The lock; None when the client cancels meanwhile.

    Raises:
        EngineError: 'locked'.
    """
    from ..runfolder.lock import FolderLock

    end = time.monotonic() + patience
    while not commands.cancel.is_set():
        try:
            return FolderLock(path)
        except EngineError:
            if time.monotonic() >= end:
                raise
        commands.cancel.wait(LOOK_AGAIN)
    return None


def resume_hint(folder) -> tuple[int, str, str]:
    """Steps of the checkpoint of a run that was interrupted, cause and remedy."""
    from ..runfolder.checkpoints import readable_checkpoints

    command = f"'sparsesegnet resume \"{folder.path}\"'"
    state = next(readable_checkpoints(folder.state_paths), None)
    if state is None:
        return (
            0,
            "the training was interrupted before its first checkpoint.",
            f"{command} begins it again.",
        )
    return (
        state[1]["steps"],
        f"the training was interrupted; its checkpoint is of step {state[1]['steps']}.",
        f"{command} resumes from its last checkpoint.",
    )


def fail(error: EngineError | InputError, emit: Callable[..., None]) -> int:
    """Reports an error to the client; returns the exit code."""
    if isinstance(error, InputError):
        error = EngineError("input", str(error))
    with suppress(OSError):  # the client may have gone
        emit("error", code=error.code, cause=error.cause, remedy=error.remedy)
    return exit_code(error.code)


def report(error: Exception, emit: Callable[..., None], folder: Path | None = None) -> int:
    """Reports an unexpected error to the client; returns the exit code."""
    from .compute.problems import classify

    traceback.print_exc()
    return fail(classify(error, folder), emit)


def end_process(code: int) -> None:
    """Ends the process at once.

    The interpreter takes half a second to take torch down, for which the client would wait.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
