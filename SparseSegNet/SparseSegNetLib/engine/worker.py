"""The engine process: ``python -m SparseSegNetLib.engine.worker RUN``.

Learns from a run folder and writes the result into it. Events go to stdout and commands come from
stdin, one JSON object per line (client.protocol); the log goes to stderr. Exit codes: 0 done,
2 bad input, 3 cancelled or stopped before anything was learnt, 4 no usable device, 5 internal.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback

BEGUN = time.monotonic()  # before the heavy imports: they are part of the user's waiting

EXIT = {"input": 2, "cancelled": 3, "no-device": 4}
INTERNAL = 5


class Commands:
    """What the client has asked for; a thread reads stdin, the training looks in between steps."""

    def __init__(self, descriptor: int):
        self.stop = threading.Event()
        self.cancel = threading.Event()
        self._descriptor = descriptor
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        from ..client.protocol import LineBuffer, decode

        lines = LineBuffer()
        # Unbuffered reads: a thread inside sys.stdin's lock would abort the interpreter's exit.
        while data := os.read(self._descriptor, 65536):
            for line in lines.feed(data):
                message = decode(line, "command")
                if message is None:
                    print(f"not a command: {line[:200]!r}", file=sys.stderr)
                elif message["command"] == "stop":
                    self.stop.set()
                elif message["command"] == "cancel":
                    self.cancel.set()
        # The end of stdin means that the client has gone: nobody waits for the result.
        self.cancel.set()


def share_the_cores() -> None:
    """Have idle compute threads sleep soon instead of spinning for each other.

    With the OpenMP runtimes' defaults one busy program beside the engine makes training many
    times slower, since threads burn their share of the cores while they wait; measured in
    Testing/Benchmark/RESULTS.md. Read when torch is loaded, so it must be set before.
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
    commands = Commands(sys.stdin.fileno())
    share_the_cores()

    from ..client.protocol import encode

    def emit(event: str, **data) -> None:
        out.write(encode("event", event, **data))
        out.flush()

    from ..errors import EngineError, InputError
    try:
        from .job import Cancelled, Job

        Job(arguments[0], commands, emit, BEGUN).run()
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
    except Exception as error:  # the last resort: the client must learn why
        traceback.print_exc()
        from .problems import classify

        problem = classify(error)
        emit("error", code=problem.code, cause=problem.cause, remedy=problem.remedy)
        return EXIT.get(problem.code, INTERNAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
