"""The engine process: ``python -m SparseSegNetLib.engine.worker RUN``.

Learns from a run folder and writes the result into it. Events go to stdout and commands come from
stdin, one JSON object per line (client.protocol); the log goes to stderr. Exit codes: 0 done,
2 bad input, 3 cancelled or stopped before anything was learnt, 4 no usable device, 5 internal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

BEGUN = time.monotonic()  # before the heavy imports: they are part of the user's waiting

EXIT = {"input": 2, "locked": 2, "cancelled": 3, "no-device": 4}
INTERNAL = 5


def share_the_cores() -> None:
    """Have idle compute threads sleep soon instead of spinning for each other.

    With the OpenMP runtimes' defaults one busy program beside the engine makes training many
    times slower, since threads burn their share of the cores while they wait; measured in
    docs/lab/speed.md. Read when torch is loaded, so it must be set before.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # GNU's runtime: torch on Linux
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM's and Intel's: macOS and Windows


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m SparseSegNetLib.engine.worker RUN", file=sys.stderr)
        return 2
    # Ctrl-C is for the client to interpret: it sends 'stop' and waits for the best result.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Only events may reach the real stdout; a library that prints goes to the log.
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    share_the_cores()

    from ..client.protocol import encode
    from ..errors import EngineError, InputError
    from .commands import Commands

    def emit(event: str, **data) -> None:
        out.write(encode("event", event, **data))
        out.flush()

    commands = Commands()
    commands.listen(sys.stdin.fileno())
    try:
        emit("started", pid=os.getpid())  # a launcher in between has a pid of its own
        from .device import keep_freed_memory
        from .job import Job  # torch comes along, or fails to
        from .live import Cancelled
    except BrokenPipeError:
        return EXIT["cancelled"]
    except Exception as error:
        return report(error, emit)
    try:
        job = Job(arguments[0], commands, emit, BEGUN)
        if job.options.network == "auto":  # the published ones' blocks have very different sizes
            keep_freed_memory()
        job.run()
        return 0
    except Cancelled as reason:
        print(f"cancelled: {reason}", file=sys.stderr)
        return EXIT["cancelled"]
    except InputError as error:
        emit("error", code="input", cause=str(error), remedy="")
        return EXIT["input"]
    except EngineError as error:
        traceback.print_exc()
        emit("error", code=error.code, cause=error.cause, remedy=error.remedy)
        return EXIT.get(error.code, INTERNAL)
    except BrokenPipeError:
        return EXIT["cancelled"]  # the client has gone
    except Exception as error:
        return report(error, emit)


def report(error: Exception, emit: Callable[..., None]) -> int:
    """The last resort: the client must learn why. Returns the exit code."""
    from .problems import classify

    traceback.print_exc()
    problem = classify(error)
    emit("error", code=problem.code, cause=problem.cause, remedy=problem.remedy)
    return EXIT.get(problem.code, INTERNAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
