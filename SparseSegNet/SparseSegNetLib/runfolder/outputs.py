"""Output files of a run folder: previews, results and reports."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Triple
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice, array_axis, check_slices
from ..errors import InputError
from ..suggestion.slice_profiles import SliceProfiles, profiles_shape
from .arrays import read_array
from .atomic import append_line, write_array, write_json
from .checksums import sha256_of
from .file_retries import remove, retried
from .forms import read_json, rows
from .schema import WRITTEN, parse_report, region, report
from .score import score_form

AGAIN = "Continue the run, which makes it again."


class Outputs:
    """The part of RunFolder that reads and writes outputs.

    Damaged previews, reports and disagreements are left out and noted. A damaged result raises
    InputError.

    Attributes:
        path: The run folder.
        segments: The classes 1..K.
        notes: Warnings about damaged files that were left out.
    """

    path: Path
    segments: list[Segment]
    notes: list[str]

    @property
    def names(self) -> list[str]:
        """Names of the segments."""
        return [s.name for s in self.segments]

    def shape(self, number: int = 1) -> Triple:
        """Voxels of an input along (k, j, i); RunFolder implements it."""
        raise NotImplementedError

    def note(self, text: str) -> None:
        """Adds a warning to `notes`, once."""
        if text not in self.notes:
            self.notes.append(text)

    def write_result(self, number: int, labels: np.ndarray, uncertainty: np.ndarray) -> None:
        """Writes the result of input `number` and removes the previews before it.

        Args:
            number: Of the input, from 1.
            labels: Dense, uint8 (k, j, i).
            uncertainty: uint8 (k, j, i).
        """
        write_array(self.path / "result" / f"{number}-uncertainty.npy", uncertainty)
        write_array(self._result(number), labels)
        for path in (self._preview(number), *self._slice_previews(number)):
            with suppress(OSError):  # the result is there
                remove(path)

    def has_result(self, number: int = 1) -> bool:
        """True if input `number` has a result."""
        return self._result(number).is_file()

    def _result(self, number: int) -> Path:
        return self.path / "result" / f"{number}.npy"

    def read_result(self, number: int = 1) -> np.ndarray:
        """Reads the dense labels of input `number`.

        Returns:
            uint8 (k, j, i); 255 outside the requested slices if only some were requested.

        Raises:
            InputError: The result is missing or damaged.
        """
        labels = read_array(self._result(number), self.shape(number), AGAIN)
        self.check_labels(self._result(number), labels, AGAIN)
        return labels

    def read_uncertainty(self, number: int = 1) -> np.ndarray:
        """Reads the uncertainty, uint8 (k, j, i).

        Returns:
            0 where the model is certain, 255 where it is undecided between the two likeliest
            classes.

        Raises:
            InputError: The file is missing or damaged.
        """
        return read_array(
            self.path / "result" / f"{number}-uncertainty.npy", self.shape(number), AGAIN
        )

    def check_labels(self, file: Path, labels: np.ndarray, remedy: str) -> None:
        """Raises InputError if an array (uint8) holds other values than labels."""
        highest = int(labels.max(initial=0))  # of a dense result the only pass over the array
        if highest == UNLABELLED:
            highest = int(labels.max(initial=0, where=labels != UNLABELLED))
        if highest > len(self.segments):
            raise InputError(
                f"{file} is damaged: it holds the label {highest}, but the run "
                f"has {len(self.segments)} segments. {remedy}"
            )

    def write_preview(self, number: int, labels: np.ndarray) -> None:
        """Writes a dense preview and removes the older previews of single slices."""
        write_array(self._preview(number), labels, durable=False)
        for path in self._slice_previews(number):
            remove(path)

    def write_preview_slice(self, number: int, item: AnnotatedSlice, labels: np.ndarray) -> None:
        """Writes the preview of one slice; labels are uint8 (two axes, in array order)."""
        write_array(self._preview_slice(number, item), labels, durable=False)

    def _preview(self, number: int) -> Path:
        return self.path / "preview" / f"{number}.npy"

    def _slice_previews(self, number: int) -> list[Path]:
        return sorted((self.path / "preview").glob(f"{number}-[ijk]*.npy"))

    def _preview_slice(self, number: int, item: AnnotatedSlice) -> Path:
        return self.path / "preview" / f"{number}-{item.axis}{item.index}.npy"

    def read_preview(self, number: int = 1) -> np.ndarray | None:
        """Reads the newest dense preview, with newer single slices put in their places.

        Returns:
            Labels uint8 (k, j, i); None if there is no preview yet.
        """
        shape = self.shape(number)
        labels = self._shown(self._preview(number), shape)
        if labels is None:
            return None
        for path in self._slice_previews(number):
            about = path.stem.partition("-")[2]
            with suppress(ValueError):  # a file that is not a slice's preview
                item = AnnotatedSlice(about[0], int(about[1:]))
                check_slices([item], shape)
                plane = labels[item.selector()]
                if (newer := self._shown(path, plane.shape)) is not None:
                    plane[...] = newer
        return labels

    def read_preview_slice(self, number: int, item: AnnotatedSlice) -> np.ndarray | None:
        """Reads the newest preview of one slice.

        Returns:
            Labels uint8 (two axes, in array order); None if there is no preview yet.
        """
        plane = tuple(
            n for axis, n in enumerate(self.shape(number)) if axis != array_axis(item.axis)
        )
        found = self._shown(self._preview_slice(number, item), plane)
        if found is None and (dense := self.read_preview(number)) is not None:
            found = dense[item.selector()]
        return found

    def has_prediction(self, number: int, item: AnnotatedSlice) -> bool:
        """True if there is a preview or result of input `number` that holds a slice."""
        files = (self._result(number), self._preview(number), self._preview_slice(number, item))
        return any(file.is_file() for file in files)

    def read_prediction(self, number: int, item: AnnotatedSlice) -> np.ndarray | None:
        """Reads the newest prediction of one slice: a preview, if there is one, or the result.

        Returns:
            Labels uint8 (two axes, in array order), 255 where nothing is predicted; None if there
            is no prediction yet.

        Raises:
            InputError: The result is the newest, and damaged.
        """
        found = self.read_preview_slice(number, item)
        if found is not None or not self.has_result(number):
            return found
        labels = read_array(self._result(number), self.shape(number), AGAIN, mapped=True)
        plane = np.array(labels[item.selector()])
        self.check_labels(self._result(number), plane, AGAIN)
        return plane

    def _shown(self, path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
        """A preview's array; None if there is none or it is damaged, which is noted."""
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
        """Writes the regions in which the model disagrees with the annotation."""
        write_json(self._disagreements(number), found)

    def _disagreements(self, number: int) -> Path:
        return self.path / "result" / f"{number}-disagreements.json"

    def read_disagreements(self, number: int = 1) -> list[dict]:
        """Reads the regions of drawn voxels to which the model gives another class.

        Returns:
            Dictionaries, the most conspicuous region first: voxels (count), voxel (k, j, i) to
            look at, drawn and model (names of segments, or 'background'). Empty for a result of
            a version that did not store them.
        """
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

    def write_score(self, number: int, score: dict) -> None:
        """Writes the expected score of the result of input `number`, of the form `score_form`."""
        write_json(self._score(number), score)

    def _score(self, number: int) -> Path:
        return self.path / "result" / f"{number}-score.json"

    def read_score(self, number: int = 1) -> dict | None:
        """Reads the expected score.

        Returns:
            See `score.score_form`; None if there is none, or it is damaged, which is noted.
        """
        file = self._score(number)
        if not file.is_file():
            return None
        try:
            return read_json(file, score_form(len(self.segments)), AGAIN)
        except InputError as error:
            self.note(str(error))
            return None

    def write_profiles(self, number: int, profiles: SliceProfiles) -> None:
        """Writes the sums over the slices of input `number`, by which slices are suggested."""
        write_array(self._profiles(number), profiles.array.astype(np.float32), durable=False)

    def _profiles(self, number: int) -> Path:
        return self.path / "result" / f"{number}-profiles.npy"

    def profiles_written(self, number: int = 1) -> int:
        """Time in ns at which the sums over the slices were written; 0 without them."""
        return _written_at(self._profiles(number))

    def read_profiles(self, number: int = 1) -> SliceProfiles | None:
        """Reads the sums over the slices of input `number`.

        Returns:
            Of the newest prediction; None if there is none yet or its file is damaged, which is
            noted.
        """
        file, shape = self._profiles(number), self.shape(number)
        if not file.is_file():
            return None
        remedy = "Slices are suggested without it until the run makes it again."
        try:
            expected = profiles_shape(shape, len(self.segments))
            profiles = SliceProfiles(read_array(file, expected, remedy, "f"), shape)
            if (fault := profiles.fault()) is not None:
                raise InputError(f"{file} is damaged: {fault}. {remedy}")
        except InputError as error:
            self.note(str(error))
            return None
        return profiles

    def append_metrics(self, record: dict) -> None:
        """Appends one report to metrics.jsonl."""
        append_line(self.path / "metrics.jsonl", json.dumps(record, allow_nan=False))

    def read_metrics(self) -> list[dict]:
        """Reads all reports of metrics.jsonl.

        A last line cut off by a crash is left out; so are damaged ones, which is noted.
        """
        file = self.path / "metrics.jsonl"
        try:
            lines = retried(file.read_bytes, file).split(b"\n")
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
        """Stores the fingerprint of a file that this run wrote, so that it may be replaced."""
        with suppress(OSError):  # the file is there all the same; replacing it takes its name then
            write_json(self._written, {"sha256": sha256_of(output)})

    def wrote(self, output: Path) -> bool:
        """True if this run wrote the file and it has not changed since."""
        try:
            known = read_json(self._written, WRITTEN, "")
            return known["sha256"] == sha256_of(output)
        except (InputError, OSError):
            return False

    @property
    def _written(self) -> Path:
        return self.path / "result" / "written.json"


def _written_at(path: Path) -> int:
    """Time in ns at which a file was written; 0 without one."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
