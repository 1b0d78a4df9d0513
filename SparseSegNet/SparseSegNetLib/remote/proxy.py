"""A process here that stands for the engine over there.

``python -m SparseSegNetLib.remote.proxy --ssh COMMAND --python PYTHON -m MODULE ARGUMENT...``

To its client it is the engine: it takes the same arguments and commands, prints the same events,
owns the run folder's lock and ends with the engine's exit code. It keeps the folder here and the
folder there the same. Of what comes from there nothing is executed, and nothing is written but
files of a run folder.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from ..errors import EngineError, InputError
from ..runfolder.exit_codes import BAD_INPUT, exit_code
from ..runfolder.protocol import encode
from .connection import Connection
from .frames import whole_of
from .link import Link

KILLED = 128  # and the signal's number: exit code of a program that a signal ended


def parser() -> argparse.ArgumentParser:
    """Parser of the process's arguments."""
    top = argparse.ArgumentParser(
        prog="python -m SparseSegNetLib.remote.proxy",
        description="Run a module of the engine on another computer, over an SSH command.",
    )
    top.add_argument("--ssh", required=True, metavar="COMMAND", help="such as 'ssh me@gpu-box'")
    top.add_argument("--python", required=True, help="what starts Python there")
    top.add_argument("-m", dest="module", required=True, help="the module to run")
    top.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    return top


def run_program(connection: Connection, module: str, arguments: list[str]) -> int:
    """Runs a program without a run folder over there, such as the doctor.

    Args:
        connection: To the agent.
        module: The module.
        arguments: Its arguments; a folder of this computer becomes the folder of runs over there.

    Returns:
        The exit code.

    Raises:
        EngineError: It could not be run to its end.
    """
    link = Link(connection)
    link.send("open")
    there = [None if os.path.isabs(a) and os.path.isdir(a) else a for a in arguments]
    link.send("start", arguments=["-m", module, *there])
    while True:
        header, payload = link.receive()
        if header["kind"] == "out":
            _print(payload)
        elif header["kind"] == "exit":
            link.send("bye")
            return whole_of(header, "code", 1)


def _print(data: bytes) -> None:
    sys.__stdout__.buffer.write(data)  # type: ignore[union-attr]
    sys.__stdout__.buffer.flush()  # type: ignore[union-attr]


def main(arguments: list[str]) -> int:
    """Serves as the process's arguments say; returns the exit code."""
    # Only events may reach the real stdout.
    sys.stdout = sys.stderr
    options = parser().parse_args(arguments)

    def connect() -> Connection:
        return Connection(options.ssh, options.python)

    try:
        if "--client" in options.arguments:
            from .run_proxy import RunProxy

            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client's to interpret
            code = RunProxy(connect, options.module, options.arguments, _print).run()
        else:
            code = run_program(connect(), options.module, options.arguments)
    except InputError as error:
        _tell(EngineError("input", str(error)))
        return BAD_INPUT
    except EngineError as error:
        _tell(error)
        return exit_code(error.code)
    if -KILLED < code < 0:
        return KILLED - code
    return code & 0xFFFFFFFF if os.name == "nt" else min(code, 255)  # Windows has larger ones


def _tell(error: EngineError) -> None:
    with suppress(OSError):  # the client may have gone
        print(f"{error.cause} {error.remedy}".strip(), file=sys.stderr, flush=True)
        _print(encode("event", "error", code=error.code, cause=error.cause, remedy=error.remedy))


def end_process(code: int) -> NoReturn:
    """Ends the process at once: threads may wait for input that never comes."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
