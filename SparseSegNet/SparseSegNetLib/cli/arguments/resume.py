"""The arguments of ``sparsesegnet resume``."""

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
        "resume",
        help="resume an interrupted run",
        description="Resume the training of a run folder from its last checkpoint (at most "
        "half a minute old), predict and write the result.",
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="the run folder")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="where to write the dense segmentation (default: the output named for the run)",
    )
    command.add_argument(
        "--time-budget",
        type=float,
        metavar="S",
        help="seconds in total, including those already used (default: as before)",
    )
    add_remote(command)
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..resume import resume

    return resume(options)
