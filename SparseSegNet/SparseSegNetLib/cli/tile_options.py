"""Command-line options of volumes that are worked on tile by tile."""

from __future__ import annotations

import argparse


def add_tiles(command: argparse.ArgumentParser) -> None:
    """Adds the options of volumes that are worked on tile by tile."""
    command.add_argument(
        "--region",
        metavar="K,J,I",
        help="of an OME-Zarr only this box: first voxel and the one after the last along k, j and "
        "i, counted from 0, such as 0:100,200:456,:",
    )
    command.add_argument(
        "--memory",
        type=float,
        metavar="GB",
        help="memory that a tile of an OME-Zarr may take, about (default: a quarter of what is "
        "free, at most 4); of densify, what learning may take, too (default: half of what is "
        "free)",
    )
