"""The run folder: all that a training needs, learns and leaves, as plain files.

    run.json            schema, name, created, segments, options, versions, inputs, plan
    inputs/<n>/         image.npy (c, k, j, i), geometry.json, labels.npy uint8 (k, j, i)
    checkpoint/         model.safetensors: the best weights so far
    metrics.jsonl       one JSON object per report
    result/<n>.npy      labels uint8 (k, j, i), dense, or 255 outside the slices that were
                        asked for; <n>-uncertainty.npy uint8
    log.txt             what the engine wrote to stderr
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice
from ..errors import InputError
from .atomic import write_array, write_json
from .options import Options

SCHEMA = 1


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
               options: Options, name: str = "") -> RunFolder:
        """Make a new run folder. `path` must not exist or be an empty folder (InputError)."""
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
            for sub in ("checkpoint", "preview", "result"):
                (path / sub).mkdir()
            run = cls(path, {
                "schema": SCHEMA,
                "name": name or path.name,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "segments": [s.to_json() for s in segments],
                "options": options.to_json(),
                "versions": {},
                "inputs": [{"slices": [s.to_json() for s in item.slices],
                            "channels": list(item.channels),
                            "predict": None if item.predict is None else
                            [s.to_json() for s in item.predict]} for item in inputs],
                "plan": None,
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
        return cls(path, description)

    def save(self) -> None:
        write_json(self.path / "run.json", self.description)

    def save_plan(self, plan: dict, versions: dict) -> None:
        self.description.update(plan=plan, versions=versions)
        self.save()

    @property
    def names(self) -> list[str]:
        return [s.name for s in self.segments]

    @property
    def count(self) -> int:
        """Number of input volumes."""
        return len(self.description["inputs"])

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint" / "model.safetensors"

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
            [AnnotatedSlice.from_json(s) for s in about["slices"]],
            list(about["channels"]),
            None if about.get("predict") is None else
            [AnnotatedSlice.from_json(s) for s in about["predict"]],
        )

    def write_result(self, number: int, labels: np.ndarray, uncertainty: np.ndarray) -> None:
        write_array(self.path / "result" / f"{number}-uncertainty.npy", uncertainty)
        write_array(self.path / "result" / f"{number}.npy", labels)

    def write_preview(self, number: int, labels: np.ndarray) -> None:
        write_array(self.path / "preview" / f"{number}.npy", labels)

    def read_preview(self, number: int = 1) -> np.ndarray:
        """The newest dense labels uint8 (k, j, i) while the run goes on."""
        return np.load(self.path / "preview" / f"{number}.npy")

    def read_result(self, number: int = 1) -> np.ndarray:
        """Dense labels uint8 (k, j, i); 255 outside the slices if only some were asked for."""
        return np.load(self.path / "result" / f"{number}.npy")

    def read_uncertainty(self, number: int = 1) -> np.ndarray:
        """uint8 (k, j, i): 0 certain, 255 undecided between the two likeliest classes."""
        return np.load(self.path / "result" / f"{number}-uncertainty.npy")

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


def annotated_share(labels: np.ndarray) -> float:
    """Share of the voxels of a label array that are labelled, 0 to 1."""
    return float(np.count_nonzero(labels != UNLABELLED) / labels.size)
