"""The command line ``sparsesegnet``: the same engine without Slicer."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from .. import __version__
from ..errors import EngineError, InputError
from ..runfolder.exit_codes import BAD_INPUT, CANCELLED, DONE, INTERNAL, exit_code
from ..runfolder.signals import answer, raise_terminated
from .arguments import (
    crossvalidate,
    densify,
    doctor,
    environment,
    evaluate,
    export,
    model,
    networks,
    reproduce,
    resume,
    segment,
    suggest,
    train,
)
from .streams import discard_output, prepare_streams
from .training_options import use_remote

# In the order of the help.
COMMANDS = (
    densify,
    train,
    segment,
    model,
    crossvalidate,
    evaluate,
    suggest,
    resume,
    export,
    doctor,
    environment,
    networks,
    reproduce,
)


class Parser(argparse.ArgumentParser):
    """Argument parser that reports a bad argument in one line, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with the code for bad input."""
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(BAD_INPUT)


def parser() -> Parser:
    """Parser of all commands; `run` in what it returns is the command's function."""
    top = Parser(
        prog="sparsesegnet", description="Dense 3D segmentations from a few annotated slices."
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    for command in COMMANDS:
        command.add_parser(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The arguments; those of this process by default.

    Returns:
        The exit code: 0 done, 1 some of several images failed, 2 bad arguments or input,
        3 cancelled, 4 no usable device, 5 internal error.
    """
    try:
        options = parser().parse_args(arguments)
        _check_current_folder()
        use_remote(options)
        return options.run(options)
    except InputError as error:
        return _fail(BAD_INPUT, str(error))
    except EngineError as error:
        more = f"More: {error.link}" if error.link else ""
        return _fail(exit_code(error.code), f"{error.cause} {error.remedy} {more}")
    except KeyboardInterrupt:
        return _fail(CANCELLED, "cancelled; nothing was written.")
    except BrokenPipeError:  # the reader of the output, such as `head -1`, has what it wanted
        discard_output()
        return DONE
    except OSError as error:
        name = f" {error.filename}" if error.filename else ""
        return _fail(
            INTERNAL,
            f"a file cannot be written or read{name}: "
            f"{error.strerror or error}. Check rights and free space.",
        )
    except Exception as error:
        if os.environ.get("SPARSESEGNET_DEBUG"):
            raise
        return _fail(
            INTERNAL,
            f"{type(error).__name__}: {error}. This is a fault in SparseSegNet; "
            "SPARSESEGNET_DEBUG=1 shows where.",
        )


def _check_current_folder() -> None:
    """Raise InputError if the current folder is gone: torch's libraries cannot be loaded then."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise InputError(
            "the current folder has been deleted or moved: change to one that exists (cd)."
        ) from error


def _fail(code: int, message: str) -> int:
    print(f"sparsesegnet: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def entry() -> None:
    """Entry point of the installed script; exits with the command's exit code."""
    prepare_streams()
    answer(raise_terminated)
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    except OSError as error:  # such as a full disk behind '> file'
        discard_output()
        code = _fail(INTERNAL, f"standard output cannot be written: {error.strerror or error}.")
    sys.exit(code)
