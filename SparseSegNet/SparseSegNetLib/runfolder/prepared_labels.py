"""Labels that replace those of a run's input: written in any thread, put in place at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from ..annotation.slices import AnnotatedSlice
from .atomic import atomic_path, write_json, write_plain_array


class PreparedLabels:
    """Labels that are written beside those of an input, and not yet in their place.

    Args:
        folder: The folder of the input.
        labels: uint8 (k, j, i).
        slices: The annotated slices.

    Raises:
        OSError: They cannot be written.
    """

    def __init__(self, folder: Path, labels: np.ndarray, slices: Sequence[AnnotatedSlice]):
        self._folder, self._slices = folder, slices
        # The scene, which sends them at each stroke, holds them too.
        file = atomic_path(folder / "labels.npy", durable=False)
        with ExitStack() as stack:
            write_plain_array(stack.enter_context(file), labels)
            self._file = stack.pop_all()

    def put(self) -> None:
        """Replaces labels and slices of the input.

        Raises:
            OSError: They cannot be written.
        """
        with self._file:
            # Slices first: to the engine a slice without its labels is an incomplete one.
            write_slices(self._folder, self._slices)

    def drop(self) -> None:
        """Removes what was written."""
        with suppress(_Dropped), self._file:
            raise _Dropped


class _Dropped(Exception):
    """Has the file that was begun removed."""


def write_slices(folder: Path, slices: Sequence[AnnotatedSlice]) -> None:
    """Writes the annotated slices of the input in a folder."""
    write_json(folder / "slices.json", [s.to_json() for s in slices])
