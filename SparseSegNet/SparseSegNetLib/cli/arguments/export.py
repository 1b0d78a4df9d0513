"""The arguments of ``sparsesegnet export``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser(
        "export",
        help="write the result of a finished run again",
        description="Write the dense segmentation of a run folder to a file, in any format. "
        "Nothing is computed.",
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="the run folder")
    command.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="the dense segmentation"
    )
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..export import export

    return export(options)
