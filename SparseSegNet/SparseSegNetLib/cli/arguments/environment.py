"""The arguments of ``sparsesegnet environment``."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser(
        "environment",
        help="the Python that the engine runs in: show, make, remove or choose it",
        description="Without an option, shows the Python that the engine runs in, and why it is "
        "that one. This command line takes its own Python where torch is installed there, else "
        "the one that was chosen for Slicer; SPARSESEGNET_PYTHON=PATH names another one for both. "
        "Exit code 0 done, 2 a Python that cannot be used, 3 cancelled, 5 it failed.",
    )
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--make",
        action="store_true",
        help="make the engine's own environment, with torch for the card that is there (up to "
        "3 GB are downloaded), and choose it; what there is of it is removed first",
    )
    what.add_argument("--remove", action="store_true", help="remove the engine's own environment")
    what.add_argument(
        "--python",
        metavar="PATH",
        help="choose another Python, such as conda's or a cluster's, once it has been checked; "
        "'own' for the engine's own environment, 'auto' for whichever works",
    )
    what.add_argument(
        "--ssh",
        dest="over",
        metavar="COMMAND",
        help="choose another computer, which this command logs in to without a question, such as "
        "'ssh me@gpu-box', once it has been checked",
    )
    command.add_argument(
        "--remote-python",
        dest="there",
        default="python3",
        metavar="PATH",
        help="the Python with torch on that computer (default python3)",
    )
    command.add_argument("--json", action="store_true", help="show it as JSON")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..environment import environment

    return environment(options)
