"""The file of an input's external prior, and what run.json says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..annotation.geometry import Triple
from ..errors import InputError
from .arrays import read_array
from .atomic import write_array
from .run_input import RunInput
from .schema import REMEDY

NAME = "prior.npy"


def check_priors(inputs: Sequence[RunInput], network: str) -> None:
    """Raises InputError if there is a prior and the network takes none."""
    if network != "auto" and any(item.prior is not None for item in inputs):
        raise InputError(
            f"the network {network} takes no prior: leave out the prior, or take the network auto."
        )


def write_prior(folder: Path, item: RunInput) -> None:
    """Writes the external prior of an input into the input's folder, if it has one."""
    if item.prior is not None:
        write_array(folder / NAME, np.ascontiguousarray(item.prior))


def read_prior(
    folder: Path, classes: list[int] | None, shape: Triple, segments: int
) -> tuple[np.ndarray | None, tuple[int, ...]]:
    """Reads the external prior of an input, memory-mapped.

    Args:
        folder: The input's folder.
        classes: The classes that it knows, as run.json lists them; None if there is none.
        shape: Of the input (k, j, i).
        segments: Number of the run's segments.

    Returns:
        uint8 (classes, k, j, i) or None, and the classes.

    Raises:
        InputError: The file is missing or damaged, or the classes are none of the run.
    """
    if classes is None:
        return None, ()
    if len(set(classes)) < len(classes) or max(classes) > segments:
        raise InputError(
            f"{folder.parents[1] / 'run.json'} is damaged: the prior of an input knows the classes "
            f"{classes}, expected different ones from 1 to {segments}. {REMEDY}"
        )
    return read_array(folder / NAME, (len(classes), *shape), REMEDY, mapped=True), tuple(classes)
