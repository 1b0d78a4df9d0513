"""The arguments of ``sparsesegnet evaluate``."""

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
        "evaluate",
        help="compare a segmentation with the truth: Dice, IoU, surface distances, volumes",
        description="Compare two dense segmentations of one volume, segment by segment: Dice, IoU, "
        "surface Dice (the share of the border voxels of both that lie within the tolerance of the "
        "other's), 95 % Hausdorff distance (the larger of the two 95th percentiles of the "
        "distances from one surface to the other) and volumes; and the mean over the segments. "
        "Border voxels are those that an erosion by the six face neighbours removes, as in MONAI. "
        "Segments are compared by name, or by label value where a label image has no names. A "
        "segment that only one of both has is scored like every other, with Dice 0. Voxels of a "
        "label image with the value of --unlabelled, if that is given and not 0, do not count.",
    )
    command.add_argument(
        "prediction",
        type=Path,
        metavar="PREDICTION",
        help="a label image, .seg.nrrd or DICOM segmentation",
    )
    command.add_argument(
        "truth", type=Path, metavar="TRUTH", help="another one, with the same voxels"
    )
    command.add_argument(
        "--tolerance",
        type=float,
        metavar="MM",
        help="the tolerance of surface Dice (default: the finest spacing)",
    )
    command.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="count only the voxels that are above 0 in this image",
    )
    command.add_argument(
        "--unannotated",
        type=Path,
        metavar="LABELS",
        help="count only the voxels that were not annotated, as honest figures of a segmentation "
        "from a few slices need it: the labels that were given to 'densify'",
    )
    command.add_argument(
        "--slices",
        nargs="+",
        default=[],
        metavar="AXIS:INDEX",
        help="the completely annotated slices of LABELS, as for 'densify', counted on the grid of "
        "PREDICTION",
    )
    add_label_reading(command)
    command.add_argument(
        "--json", metavar="FILE", help="write the figures there; - prints them instead of the table"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..evaluate import evaluate

    return evaluate(options)
