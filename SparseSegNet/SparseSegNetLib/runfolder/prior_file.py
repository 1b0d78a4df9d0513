"""The files of an input's external prior, and what run.json says of it.

prior.npy, uint8 (classes, k, j, i), holds the probability of each class, 0 to 255. Of a prior that
does not say something everywhere, prior-known.npy, uint8 of the same shape, is not 0 where it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..annotation.geometry import Triple
from ..errors import InputError
from .arrays import read_array
from .atomic import write_array
from .run_input import RunInput
from .schema import REMEDY

NAME, KNOWN = "prior.npy", "prior-known.npy"


def check_priors(inputs: Sequence[RunInput], network: str, model: Path | str | None = None) -> None:
    """Raises InputError if the network takes no prior, or no model to start from, that is given."""
    if network == "auto":
        return
    what = "model to start from" if model is not None else "prior"
    if model is not None or any(item.prior is not None for item in inputs):
        raise InputError(
            f"the network {network} takes no {what}: leave out the {what}, or take the network "
            "auto."
        )


def write_prior(folder: Path, item: RunInput) -> None:
    """Writes the external prior of an input into the input's folder, if it has one."""
    if item.prior is not None:
        write_array(folder / NAME, np.ascontiguousarray(item.prior))
    if item.prior_known is not None:
        write_array(folder / KNOWN, np.ascontiguousarray(item.prior_known, np.uint8))


def described_prior(item: RunInput) -> dict:
    """The entries of run.json on the external prior of an input."""
    return {
        "prior": None if item.prior is None else list(item.prior_classes),
        "prior_known": item.prior_known is not None,
    }


def read_prior(
    folder: Path, about: Mapping[str, Any], shape: Triple, segments: int
) -> tuple[np.ndarray | None, tuple[int, ...], np.ndarray | None]:
    """Reads the external prior of an input, memory-mapped.

    Args:
        folder: The input's folder.
        about: See `described_prior`.
        shape: Of the input (k, j, i).
        segments: Number of the run's segments.

    Returns:
        uint8 (classes, k, j, i) or None, the classes, and where it says something of each, uint8 of
        the same shape, not 0 there; None for everywhere.

    Raises:
        InputError: A file is missing or damaged, or the classes are none of the run.
    """
    if (classes := about.get("prior")) is None:
        return None, (), None
    if len(set(classes)) < len(classes) or max(classes) > segments:
        raise InputError(
            f"{folder.parents[1] / 'run.json'} is damaged: the prior of an input knows the classes "
            f"{classes}, expected different ones from 1 to {segments}. {REMEDY}"
        )
    size, known = (len(classes), *shape), None
    if about.get("prior_known"):
        known = read_array(folder / KNOWN, size, REMEDY, mapped=True)
    return read_array(folder / NAME, size, REMEDY, mapped=True), tuple(classes), known
