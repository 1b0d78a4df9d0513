"""Class probabilities, also out of fold, for a training at a finer resolution than the run's.

result/<n>-probabilities.npy  float16 (classes, k, j, i) on the working grid
result/<n>-folds.npy          float16 (folds, classes - 1, k, j, i): the foreground probabilities
that were made without the labels of each fold
result/<n>-members.npy        uint8 (k, j, i): the fold that a labelled voxel belongs to, or 255
result/<n>-folds.json         classes of which only the priors know
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..annotation.geometry import triple
from ..errors import InputError
from .arrays import read_array
from .atomic import write_array, write_json
from .forms import read_json, record, rows, whole

NO_FOLD = 255
AGAIN = "Continue the run, which makes it again."


@dataclass
class FoldPriors:
    """Priors that were made without the labels of each fold.

    Attributes:
        priors: float16 (folds, classes - 1, k, j, i), mapped.
        fold_of: uint8 (k, j, i), 255 where a voxel belongs to none.
        prior_only: Classes of which only the priors know.
    """

    priors: np.ndarray
    fold_of: np.ndarray
    prior_only: tuple[int, ...]


def write_probabilities(run: Path, number: int, values: np.ndarray) -> None:
    """Writes the class probabilities (classes, k, j, i) of input `number`, from 1."""
    write_array(_file(run, number, "probabilities.npy"), values.astype(np.float16))


def has_probabilities(run: Path, number: int = 1) -> bool:
    """True if the class probabilities of input `number` are there."""
    return _file(run, number, "probabilities.npy").is_file()


def read_probabilities(run: Path, classes: int, number: int = 1) -> np.ndarray:
    """Maps the class probabilities float16 (classes, k, j, i).

    Raises:
        InputError: They are missing or damaged.
    """
    path = _file(run, number, "probabilities.npy")
    return read_array(path, (classes, None, None, None), AGAIN, "f", mapped=True)


def write_fold_priors(run: Path, number: int, found: FoldPriors) -> None:
    """Writes the priors of the folds of input `number`, from 1."""
    write_array(_file(run, number, "folds.npy"), found.priors.astype(np.float16))
    write_array(_file(run, number, "members.npy"), found.fold_of)
    write_json(_file(run, number, "folds.json"), {"prior_only": list(found.prior_only)})


def read_fold_priors(run: Path, classes: int, number: int = 1) -> FoldPriors | None:
    """Maps the priors of the folds; None if the annotation could not be divided into folds.

    Raises:
        InputError: They are damaged.
    """
    about = _file(run, number, "folds.json")
    if not about.is_file():
        return None
    found = read_json(about, record({"prior_only": rows(whole(1, classes - 1))}), AGAIN)
    priors = read_array(
        _file(run, number, "folds.npy"), (None, classes - 1, None, None, None), AGAIN, "f", True
    )
    shape = triple(priors.shape[2:])
    fold_of = read_array(_file(run, number, "members.npy"), shape, AGAIN)
    if bool(((fold_of >= len(priors)) & (fold_of != NO_FOLD)).any()):
        raise InputError(f"{_file(run, number, 'members.npy')} is damaged. {AGAIN}")
    return FoldPriors(priors, fold_of, tuple(found["prior_only"]))


def _file(run: Path, number: int, name: str) -> Path:
    return run / "result" / f"{number}-{name}"
