"""The run folder: all that a training needs, learns and leaves, as plain files.

    run.json            schema, name, created, segments, options, versions, inputs, plan,
                        files that the command line reads and writes
    lock                which process works on it
    inputs/<n>/         image.npy (c, k, j, i), geometry.json, labels.npy uint8 (k, j, i),
                        slices.json: the annotated ones; the last two may change while it trains
    checkpoint/         model.safetensors: the best weights so far; state.safetensors and
                        state-previous.safetensors: all that training needs to go on
    metrics.jsonl       one JSON object per report
    preview/<n>.npy     the newest dense labels uint8 (k, j, i); <n>-k12.npy: a newer single
                        slice, uint8 (two axes, in array order)
    result/<n>.npy      labels uint8 (k, j, i), dense, or 255 outside the slices that were
                        asked for; <n>-uncertainty.npy uint8; <n>-disagreements.json
    log.txt             what the engine wrote to stderr
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice
from ..errors import InputError
from .atomic import sweep, write_array, write_json
from .options import Options

SCHEMA = 2
SUBFOLDERS = ("checkpoint", "preview", "result")


@dataclass
class RunInput:
    """One annotated volume.

    image: (c, k, j, i), any real dtype.  labels: uint8 (k, j, i), 255 = unlabelled.
    slices: the annotated slices, as far as known.  channels: what each channel is called.
    predict: the slices wanted as result, None for the whole volume.  An input without labelled
    voxels is not trained on, only predicted.
    """

    image: np.ndarray
    labels: np.ndarray
    geometry: Geometry
    slices: list[AnnotatedSlice] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    predict: list[AnnotatedSlice] | None = None


class RunFolder:
    """Reads and writes a run folder; both the scene's side and the engine's side use it."""

    def __init__(self, path: Path, description: dict):
        self.path = path
        self.description = description
        self.segments = [Segment.from_json(s) for s in description["segments"]]
        self.options = Options.from_json(description["options"])

    @classmethod
    def create(cls, path: Path | str, inputs: Sequence[RunInput], segments: Sequence[Segment],
               options: Options, name: str = "", output: Path | str | None = None,
               source: Path | str | None = None, named_slices: bool = False) -> RunFolder:
        """Make a new run folder. `path` must not exist or be an empty folder (InputError).

        output: the file that the command line will write the result to.  source: the file of
        the image.  named_slices: whether the user named the annotated slices, so that they are
        not to be found anew when the run goes on.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"the run folder {path} exists already: name a new or empty folder.")
        try:
            path.mkdir(exist_ok=True)
            for number, item in enumerate(inputs, start=1):
                folder = path / "inputs" / str(number)
                folder.mkdir(parents=True)
                write_array(folder / "image.npy", np.ascontiguousarray(item.image))
                write_array(folder / "labels.npy", np.ascontiguousarray(item.labels))
                write_json(folder / "geometry.json", item.geometry.to_json())
                _write_slices(folder, item.slices)
            for sub in SUBFOLDERS:
                (path / sub).mkdir()
            run = cls(path, {
                "schema": SCHEMA,
                "name": name or path.name,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "segments": [s.to_json() for s in segments],
                "options": options.to_json(),
                "versions": {},
                "inputs": [{"channels": list(item.channels),
                            "predict": None if item.predict is None else
                            [s.to_json() for s in item.predict]} for item in inputs],
                "plan": None,
                "named_slices": named_slices,
                **{key: None if file is None else str(Path(file).absolute())
                   for key, file in (("output", output), ("source", source))},
            })
            run.save()
        except OSError as error:
            raise InputError(f"cannot write the run folder {path}: {error.strerror or error}. "
                             "Choose a folder you may write to, with enough free space.") from error
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Open an existing run folder; InputError when it is none or of a newer version."""
        path = Path(path)
        try:
            description = json.loads((path / "run.json").read_text(encoding="utf-8"))
            schema = int(description["schema"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not a run folder: its run.json cannot be read "
                             f"({error}).") from error
        if schema > SCHEMA:
            raise InputError(f"the run folder {path} was written by a newer SparseSegNet (schema "
                             f"{schema}, this one reads up to {SCHEMA}): update SparseSegNet.")
        if schema < SCHEMA:
            description = _migrated(path, description)
        return cls(path, description)

    def save(self) -> None:
        write_json(self.path / "run.json", self.description)

    def save_plan(self, plan: dict, versions: dict) -> None:
        self.description.update(plan=plan, versions=versions)
        self.save()

    @property
    def named_slices(self) -> bool:
        """Whether the annotated slices were named when the run began, not found or listed."""
        return bool(self.description.get("named_slices"))

    @property
    def names(self) -> list[str]:
        return [s.name for s in self.segments]

    @property
    def count(self) -> int:
        """Number of input volumes."""
        return len(self.description["inputs"])

    @property
    def model_path(self) -> Path:
        return self.path / "checkpoint" / "model.safetensors"

    @property
    def state_paths(self) -> tuple[Path, Path]:
        """The newest state of the training, and the one before."""
        folder = self.path / "checkpoint"
        return folder / "state.safetensors", folder / "state-previous.safetensors"

    def sweep(self) -> None:
        """Remove what an engine that was killed left half written; for the lock's owner."""
        for folder in (self.path, *(self.path / sub for sub in SUBFOLDERS)):
            sweep(folder)

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    def read_input(self, number: int = 1, mapped: bool = False) -> RunInput:
        """The input volume `number` (from 1). mapped: leave the image on disk, memory-mapped."""
        folder = self.path / "inputs" / str(number)
        about = self.description["inputs"][number - 1]
        geometry = json.loads((folder / "geometry.json").read_text(encoding="utf-8"))
        return RunInput(
            np.load(folder / "image.npy", mmap_mode="r" if mapped else None),
            np.load(folder / "labels.npy"),
            Geometry.from_json(geometry),
            self.read_slices(number),
            list(about["channels"]),
            None if about.get("predict") is None else
            [AnnotatedSlice.from_json(s) for s in about["predict"]],
        )

    def read_labels(self, number: int = 1) -> np.ndarray:
        """The labels as they are now, uint8 (k, j, i), 255 = unlabelled."""
        return np.load(self.path / "inputs" / str(number) / "labels.npy")

    def read_slices(self, number: int = 1) -> list[AnnotatedSlice]:
        """The annotated slices as they are now."""
        text = (self.path / "inputs" / str(number) / "slices.json").read_text(encoding="utf-8")
        return [AnnotatedSlice.from_json(s) for s in json.loads(text)]

    def write_labels(self, number: int, labels: np.ndarray,
                     slices: Sequence[AnnotatedSlice]) -> None:
        """Put other labels in the place of an input's, by the owner of the lock or its client.
        Raises InputError when they do not fit."""
        self.check_labels(number, labels)
        folder = self.path / "inputs" / str(number)
        # Slices first: to the engine a slice without its labels is an incomplete one.
        _write_slices(folder, slices)
        write_array(folder / "labels.npy", np.ascontiguousarray(labels))

    def check_labels(self, number: int, labels: np.ndarray) -> None:
        """Raises InputError when labels do not fit an input."""
        if not 1 <= number <= self.count:
            raise InputError(f"there is no input {number}: the run has {self.count}.")
        folder = self.path / "inputs" / str(number)
        shape = np.load(folder / "labels.npy", mmap_mode="r").shape
        if labels.shape != shape or labels.dtype != np.uint8:
            raise InputError(f"the new labels are {labels.dtype} of {labels.shape} voxels (k, j, "
                             f"i): input {number} needs uint8 of {shape}.")
        above = labels[(labels > len(self.segments)) & (labels != UNLABELLED)]
        if len(above):
            raise InputError(f"the new labels hold the value {above.max()}, but the run knows "
                             f"{len(self.segments)} segments: begin a new run.")

    def write_result(self, number: int, labels: np.ndarray, uncertainty: np.ndarray) -> None:
        write_array(self.path / "result" / f"{number}-uncertainty.npy", uncertainty)
        write_array(self._result(number), labels)

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

    def read_preview(self, number: int = 1) -> np.ndarray:
        """The newest dense labels uint8 (k, j, i) while the run goes on, slices that were shown
        since in their places."""
        labels = np.load(self.path / "preview" / f"{number}.npy")
        for path in (self.path / "preview").glob(f"{number}-[ijk]*.npy"):
            about = path.stem.partition("-")[2]
            with suppress(FileNotFoundError):  # a newer dense preview has just come
                labels[AnnotatedSlice(about[0], int(about[1:])).selector()] = np.load(path)
        return labels

    def read_preview_slice(self, number: int, item: AnnotatedSlice) -> np.ndarray:
        """The newest labels of one slice, uint8 (two axes, in array order)."""
        try:
            return np.load(self._preview_slice(number, item))
        except FileNotFoundError:
            return self.read_preview(number)[item.selector()]

    def has_result(self, number: int = 1) -> bool:
        return self._result(number).is_file()

    def _result(self, number: int) -> Path:
        return self.path / "result" / f"{number}.npy"

    def read_result(self, number: int = 1) -> np.ndarray:
        """Dense labels uint8 (k, j, i); 255 outside the slices if only some were asked for."""
        return np.load(self._result(number))

    def read_uncertainty(self, number: int = 1) -> np.ndarray:
        """uint8 (k, j, i): 0 certain, 255 undecided between the two likeliest classes."""
        return np.load(self.path / "result" / f"{number}-uncertainty.npy")

    def write_disagreements(self, number: int, found: list[dict]) -> None:
        write_json(self._disagreements(number), found)

    def _disagreements(self, number: int) -> Path:
        return self.path / "result" / f"{number}-disagreements.json"

    def read_disagreements(self, number: int = 1) -> list[dict]:
        """Regions of drawn voxels that the model calls otherwise, the most conspicuous first:
        voxels, voxel (k, j, i) to look at, drawn and model (names of segments, or 'background').
        None where a result was written before they were told."""
        names = ["background", *self.names]
        try:
            text = self._disagreements(number).read_text("utf-8")
        except FileNotFoundError:
            return []
        return [{**region, "drawn": names[region["drawn"]], "model": names[region["model"]]}
                for region in json.loads(text)]

    def append_metrics(self, record: dict) -> None:
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def read_metrics(self) -> list[dict]:
        """All reports; a last line cut off by a crash is left out."""
        try:
            lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records


def _write_slices(folder: Path, slices: Sequence[AnnotatedSlice]) -> None:
    write_json(folder / "slices.json", [s.to_json() for s in slices])


def _migrated(path: Path, description: dict) -> dict:
    """The description of an older run folder, and its files, as this version wants them.

    Schema 1 kept the annotated slices in run.json, and knew of no output.
    """
    inputs = [dict(about) for about in description["inputs"]]
    try:
        for number, about in enumerate(inputs, start=1):
            folder = path / "inputs" / str(number)
            slices = about.pop("slices", [])
            if not (folder / "slices.json").exists():
                write_json(folder / "slices.json", slices)
    except OSError as error:
        raise InputError(f"the run folder {path} is of an older version and cannot be brought "
                         f"up to date: {error.strerror or error}. Copy it to where you may "
                         "write.") from error
    return {**description, "schema": SCHEMA, "inputs": inputs, "output": None,
            "source": None}


def annotated_share(labels: np.ndarray) -> float:
    """Share of the voxels of a label array that are labelled, 0 to 1."""
    return float(np.count_nonzero(labels != UNLABELLED) / labels.size)
