"""New options and labels for a run that is resumed.

They are handed to the engine, since only the owner of a run folder writes into it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..annotation.slices import AnnotatedSlice
from ..errors import EngineError
from .atomic import write_array
from .folder import RunFolder
from .options import Options


@dataclass
class Changes:
    """Options, labels and annotated slices that replace those of a run.

    Attributes:
        options: Replace the run's options; None keeps them.
        labels: uint8 (k, j, i) of the first input, 255 = unlabelled; None keeps the labels and
            the slices.
        slices: The annotated slices.
    """

    options: Options | None = None
    labels: np.ndarray | None = None
    slices: Sequence[AnnotatedSlice] = ()

    def handed(self) -> tempfile.TemporaryDirectory[str]:
        """Writes the changes to a temporary folder, which `read` takes.

        Raises:
            EngineError: The folder cannot be written.
        """
        try:
            return self._handed()
        except OSError as error:
            raise EngineError(
                "files",
                "labels and options cannot be handed to the engine: the folder for temporary files "
                f"cannot be written to ({error}).",
                "Free some space on its disk, or name another folder in the environment variable "
                "TMPDIR (TEMP on Windows).",
            ) from error

    def _handed(self) -> tempfile.TemporaryDirectory[str]:
        folder = tempfile.TemporaryDirectory(
            prefix="sparsesegnet-changes-", ignore_cleanup_errors=True
        )
        about = {
            "options": None if self.options is None else self.options.to_json(),
            "slices": [s.to_json() for s in self.slices],
        }
        try:
            (Path(folder.name) / "changes.json").write_text(json.dumps(about), encoding="utf-8")
            if self.labels is not None:
                write_array(Path(folder.name) / "labels.npy", self.labels)
        except OSError:
            folder.cleanup()
            raise
        return folder

    @classmethod
    def read(cls, path: Path | str) -> Changes:
        """Reads the changes from the folder that `handed` made."""
        path = Path(path)
        about = json.loads((path / "changes.json").read_text(encoding="utf-8"))
        labels = path / "labels.npy"
        return cls(
            None if about["options"] is None else Options.from_json(about["options"]),
            np.load(labels) if labels.is_file() else None,
            [AnnotatedSlice.from_json(s) for s in about["slices"]],
        )

    def apply(self, folder: RunFolder) -> None:
        """Writes the changes into a run folder; only for the owner of its lock.

        Raises:
            InputError: They do not fit the run.
        """
        if self.labels is not None:
            folder.write_labels(1, self.labels, self.slices)
        if self.options is not None:
            folder.options = self.options
            folder.description["options"] = self.options.to_json()
            folder.save()
