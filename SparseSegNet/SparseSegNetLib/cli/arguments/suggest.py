"""The arguments of ``sparsesegnet suggest``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..training_options import add_label_reading


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser(
        "suggest",
        help="name the slices to draw next",
        description="Name the slices of a run's volume that are worth drawing next, each with a "
        "reason. The run may be running, finished, or not begun: then it goes by what is drawn.",
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="the run folder")
    command.add_argument(
        "-n", "--number", type=int, default=3, metavar="N", help="of slices at most (default 3)"
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="the annotation as it is now, with the run's segments, where more has been drawn than "
        "the run folder holds",
    )
    command.add_argument(
        "--slices",
        nargs="+",
        default=[],
        metavar="AXIS:INDEX",
        help="the completely annotated slices of --labels, such as k:10,20 i:5 (default: found "
        "from what was drawn)",
    )
    add_label_reading(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..suggest import suggest

    return suggest(options)
