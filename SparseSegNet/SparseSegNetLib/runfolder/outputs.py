"""What a run leaves in its folder: previews, results and reports."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.slices import AnnotatedSlice, array_axis, check_slices
from ..errors import InputError
from .arrays import read_array
from .atomic import write_array, write_json
from .forms import read_json, rows
from .links import open_to_append
from .schema import WRITTEN, parse_report, region, report

AGAIN = "Continue the run, which makes it again."


class Outputs:
    """A part of RunFolder, which adds path, segments, names, shape and notes.

    What only shows how a run goes (previews, reports, disagreements) costs itself alone where
    it is damaged: it is left out and noted. A damaged result raises InputError.
    """

    path: Path
    notes: list[str]

    def note(self, text: str) -> None:
        """Keep a warning, once."""
        if text not in self.notes:
            self.notes.append(text)

    def write_result(self, number: int, labels: np.ndarray, uncertainty: np.ndarray) -> None:
        write_array(self.path / "result" / f"{number}-uncertainty.npy", uncertainty)
        write_array(self._result(number), labels)

    def has_result(self, number: int = 1) -> bool:
        return self._result(number).is_file()

    def _result(self, number: int) -> Path:
        return self.path / "result" / f"{number}.npy"

    def read_result(self, number: int = 1) -> np.ndarray:
        """Dense labels uint8 (k, j, i); 255 outside the slices if only some were asked for."""
        labels = read_array(self._result(number), self.shape(number), AGAIN)
        self.check_labels(self._result(number), labels, AGAIN)
        return labels

    def read_uncertainty(self, number: int = 1) -> np.ndarray:
        """uint8 (k, j, i): 0 certain, 255 undecided between the two likeliest classes."""
        return read_array(
            self.path / "result" / f"{number}-uncertainty.npy", self.shape(number), AGAIN
        )

    def check_labels(self, file: Path, labels: np.ndarray, remedy: str) -> None:
        """Raise InputError when an array (uint8) holds other values than labels."""
        above = labels[(labels > len(self.segments)) & (labels != UNLABELLED)]
        if above.size:
            raise InputError(
                f"{file} is damaged: it holds the label {above.max()}, but the run "
                f"has {len(self.segments)} segments. {remedy}"
            )

    def write_preview(self, number: int, labels: np.ndarray) -> None:
        """The dense labels so far; single slices written before are older and go."""
        write_array(self.path / "preview" / f"{number}.npy", labels)
        for path in (self.path / "preview").glob(f"{number}-*.npy"):
            path.unlink(missing_ok=True)

    def write_preview_slice(self, number: int, item: AnnotatedSlice, labels: np.ndarray) -> None:
        """labels: uint8 (two axes, in array order)."""
        write_array(self._preview_slice(number, item), labels)

    def _preview_slice(self, number: int, item: AnnotatedSlice) -> Path:
        return self.path / "preview" / f"{number}-{item.axis}{item.index}.npy"

    def read_preview(self, number: int = 1) -> np.ndarray | None:
        """The newest dense labels uint8 (k, j, i) while the run goes on, slices that were shown
        since in their places; None while there are none."""
        shape = self.shape(number)
        labels = self._shown(self.path / "preview" / f"{number}.npy", shape)
        if labels is None:
            return None
        for path in sorted((self.path / "preview").glob(f"{number}-[ijk]*.npy")):
            about = path.stem.partition("-")[2]
            with suppress(ValueError):  # no name of ours
                item = AnnotatedSlice(about[0], int(about[1:]))
                check_slices([item], shape)
                plane = labels[item.selector()]
                if (newer := self._shown(path, plane.shape)) is not None:
                    plane[...] = newer
        return labels

    def read_preview_slice(self, number: int, item: AnnotatedSlice) -> np.ndarray | None:
        """The newest labels of one slice, uint8 (two axes, in array order); None while there
        are none."""
        plane = tuple(
            n for axis, n in enumerate(self.shape(number)) if axis != array_axis(item.axis)
        )
        found = self._shown(self._preview_slice(number, item), plane)
        if found is None and (dense := self.read_preview(number)) is not None:
            found = dense[item.selector()]
        return found

    def _shown(self, path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
        """A preview's array; None where there is none or, which is noted, a damaged one."""
        if not path.is_file():  # or a newer dense preview has just come
            return None
        try:
            labels = read_array(path, shape, "The next preview takes its place.")
            self.check_labels(path, labels, "The next preview takes its place.")
        except InputError as error:
            if path.is_file():
                self.note(str(error))
            return None
        return labels

    def write_disagreements(self, number: int, found: list[dict]) -> None:
        write_json(self._disagreements(number), found)

    def _disagreements(self, number: int) -> Path:
        return self.path / "result" / f"{number}-disagreements.json"

    def read_disagreements(self, number: int = 1) -> list[dict]:
        """Regions of drawn voxels that the model calls otherwise, the most conspicuous first:
        voxels, voxel (k, j, i) to look at, drawn and model (names of segments, or 'background').
        None where a result was written before they were told."""
        names = ["background", *self.names]
        file = self._disagreements(number)
        if not file.is_file():
            return []
        try:
            found = read_json(file, rows(region(self.shape(number), len(self.segments))), AGAIN)
        except InputError as error:
            self.note(str(error))
            return []
        return [
            {**one, "drawn": names[one["drawn"]], "model": names[one["model"]]} for one in found
        ]

    def append_metrics(self, record: dict) -> None:
        with open_to_append(self.path / "metrics.jsonl") as file:
            file.write((json.dumps(record, allow_nan=False) + "\n").encode("utf-8"))

    def read_metrics(self) -> list[dict]:
        """All reports. A last line cut off by a crash is left out; so are damaged ones, which
        is noted."""
        file = self.path / "metrics.jsonl"
        try:
            lines = file.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            self.note(f"{file} cannot be read ({error.strerror or error}): the curve begins anew.")
            return []
        form = report(len(self.segments))
        found = [parse_report(line, form) for line in lines[:-1] if line.strip()]
        if lost := found.count(None):
            self.note(
                f"{file} is damaged: {lost} of its {len(found)} lines are no reports and "
                "are left out of the curve."
            )
        found.append(parse_report(lines[-1], form))
        return [one for one in found if one is not None]

    def remember_written(self, output: Path) -> None:
        """Keep the fingerprint of a file that this run wrote, so that it may be replaced."""
        with suppress(OSError):  # the file is there all the same; replacing it takes its name then
            write_json(
                self._written, {"output": str(output.absolute()), "sha256": _fingerprint(output)}
            )

    def wrote(self, output: Path) -> bool:
        """Whether a file is what this run wrote there, unchanged since."""
        try:
            known = read_json(self._written, WRITTEN, "")
            return Path(known["output"]) == output.absolute() and known["sha256"] == _fingerprint(
                output
            )
        except (InputError, OSError):
            return False

    @property
    def _written(self) -> Path:
        return self.path / "result" / "written.json"


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
