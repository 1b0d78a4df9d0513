"""The grid of a NIfTI file where its header holds several, or one with axes at other angles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..annotation.geometry import Geometry
from .nifti import PAIR, SUFFIXES, grid_of, read_header

PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"  # read by ITK's reader


def is_nifti(path: Path) -> bool:
    """Tells by its name whether a file is a NIfTI file, or one half of a pair."""
    return path.name.lower().endswith((*SUFFIXES, *PAIR))


@contextmanager
def any_angles() -> Iterator[None]:
    """Context manager in which ITK reads a NIfTI file whose axes are not at right angles.

    It then turns them to the nearest right angles; `true_grid` gives the axes of the header.
    """
    before = os.environ.get(PERMISSIVE)
    os.environ[PERMISSIVE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PERMISSIVE]
        else:
            os.environ[PERMISSIVE] = before


def true_grid(path: Path, found: Geometry) -> tuple[Geometry, list[str]]:
    """The grid of a NIfTI file, and messages about it for the user.

    ITK reads the sform or the qform by rules of its own (as Slicer does), with the voxel size of
    pixdim and the axes at right angles. Its choice between the two is kept, and so is its grid
    where it is that of the header; where it is neither, the sform's counts, as the standard says.

    Args:
        path: The file.
        found: The grid that ITK reads.
    """
    header = read_header(path)
    if header is None:
        return found, []
    if header.sform is None and header.qform is None:
        why = "it is an Analyze file" if header.older else "sform_code and qform_code are 0"
        return found, [
            f"{path.name} says nothing about position and directions ({why}): the voxel size "
            "alone is used, and left and right may be exchanged."
        ]
    sform, qform = (
        None if matrix is None else grid_of(matrix, found.size)
        for matrix in (header.sform, header.qform)
    )
    taken, name = found, "sform" if qform is None else "qform"
    if sform is not None and (qform is None or found.difference(qform) is not None):
        name = "sform"
        if found.difference(sform) is not None:
            taken = sform
    notes = []
    if sform is not None and qform is not None and (what := sform.difference(qform)) is not None:
        notes.append(
            f"{path.name} holds two grids that differ in {what} (sform against qform): "
            f"the {name} is used."
        )
    pixdim = Geometry(taken.size, header.voxel, taken.origin, taken.directions)
    if name == "sform" and (what := taken.difference(pixdim)) is not None:
        notes.append(f"{path.name}: {what} (sform against pixdim): the sform is used.")
    return taken, notes


def shear(geometry: Geometry) -> float:
    """Largest deviation of a grid's axes from right angles in degrees; 0 where nothing moves by it.

    0 if the grid with its axes turned to the nearest right angles is the same to a hundredth of a
    voxel.
    """
    axes = np.array(geometry.directions).reshape(3, 3)
    left, _, right = np.linalg.svd(axes)
    square = tuple(map(float, (left @ right).ravel()))
    if geometry.difference(Geometry(geometry.size, geometry.spacing, geometry.origin, square)):
        products = (axes.T @ axes)[np.triu_indices(3, 1)]
        return float(np.degrees(np.arcsin(np.abs(products).max().clip(0, 1))))
    return 0.0
