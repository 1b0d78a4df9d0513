"""The arguments of ``sparsesegnet model``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser(
        "model",
        help="describe a model file",
        description="Print what a model segments, what images it needs, what it was trained on and "
        "how good it was. Nothing of the file is executed.",
    )
    command.add_argument("file", type=Path, metavar="MODEL", help="the model file")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..model import model

    return model(options)
