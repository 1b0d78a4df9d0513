"""The arguments of ``sparsesegnet networks``."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser("networks", help="list the networks and their properties")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..networks import networks

    return networks(options)
