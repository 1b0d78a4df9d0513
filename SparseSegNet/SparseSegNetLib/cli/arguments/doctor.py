"""The arguments of ``sparsesegnet doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..training_options import add_remote


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser(
        "doctor",
        help="check Python, torch, the device, memory and disk",
        description="Check what the engine needs, in a process of its own, with a real 3D "
        "convolution forward and backward on the device. Exit code 0 if all is well, "
        "4 if the engine cannot run.",
    )
    command.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps …"
    )
    command.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="where run folders are to lie (default: the temporary folder)",
    )
    add_remote(command)
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..doctor import doctor

    return doctor(options)
