"""The arguments of ``sparsesegnet crossvalidate``."""

from __future__ import annotations

import argparse

from ..training_options import add_computing, add_files


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser(
        "crossvalidate",
        help="tell how good a segmentation from these slices would be, without making one",
        description="Hold out the annotated slices in turn, predict them from the others by priors "
        "and shallow model, and print the expected IoU of each segment in the voxels that were not "
        "annotated, with an 80 % interval, and what more slices are likely worth.",
    )
    add_files(command)
    add_computing(command, 60.0)
    command.add_argument("--json", action="store_true", help="print all figures as JSON")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..crossvalidate import crossvalidate

    return crossvalidate(options)
