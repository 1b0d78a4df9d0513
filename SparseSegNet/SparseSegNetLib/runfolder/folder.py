"""The run folder: inputs, checkpoints and results of a training, as plain files.

    run.json            schema, task, name, created, segments, options, versions, inputs, plan,
                        files that the command line reads and writes
    lock                which process works on it
    inputs/<n>/         image.npy (c, k, j, i), geometry.json, labels.npy uint8 (k, j, i),
                        slices.json: the annotated ones; the last two may change while it trains;
                        prior.npy, prior-known.npy: another tool's result, see prior_file
    inputs/model.safetensors   the model that is applied, or that the training starts from
    checkpoint/         model.safetensors: the best weights so far; state.safetensors and
                        state-previous.safetensors: all that training needs to resume
    metrics.jsonl       one JSON object per report
    preview/<n>.npy     the newest dense labels uint8 (k, j, i); <n>-k12.npy: a newer single
                        slice, uint8 (two axes, in array order); a result removes them
    result/<n>.npy      labels uint8 (k, j, i), dense, or 255 outside the slices that were
                        asked for; <n>-uncertainty.npy uint8; <n>-disagreements.json;
                        <n>-score.json: how good it is expected to be;
                        <n>-profiles.npy float32: sums over slices, written while it trains too;
                        written.json: the SHA-256 of the file that the command line wrote
    log.txt             what the engine wrote to stderr; elsewhere.json: see checkpoints.ELSEWHERE

A folder may be damaged, or come from somebody else: what is in it is checked against run.schema
before it is used, and links are refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..annotation.composition import MAX_SEGMENTS, UNLABELLED
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice
from ..errors import InputError
from .arrays import REAL, read_array
from .atomic import sweep, write_array, write_json
from .file_retries import remove_content, remove_tree
from .links import refuse_link, refuse_links
from .migration import migrated
from .options import Options
from .outputs import Outputs
from .path_length import DEEPEST, check_path
from .prepared_labels import PreparedLabels, write_slices
from .prior_file import check_priors, described_prior, read_prior, write_prior
from .run_input import RunInput
from .schema import (
    REMEDY,
    SCHEMA,
    TASKS,
    check_run,
    read_geometry,
    read_run,
    read_slices,
    slices_inside,
)

SUBFOLDERS = ("checkpoint", "preview", "result")
MODEL_NAME = "model.safetensors"


class RunFolder(Outputs):
    """Reads and writes a run folder, in the client's process and in the engine's.

    Attributes:
        notes: Warnings about damaged files that were left out.
    """

    def __init__(self, path: Path, description: dict):
        self.path = path
        self.notes: list[str] = []
        self._geometries: dict[int, Geometry] = {}
        self.description = description
        self.segments = [Segment.from_json(s) for s in description["segments"]]
        self.options = Options.from_json(description["options"])

    @classmethod
    def create(
        cls,
        path: Path | str,
        inputs: Sequence[RunInput],
        segments: Sequence[Segment],
        options: Options,
        name: str = "",
        output: Path | str | None = None,
        source: Path | str | None = None,
        named_slices: bool = False,
        task: str = "densify",
        model: Path | str | None = None,
    ) -> RunFolder:
        """Makes a new run folder.

        Args:
            path: A folder that is empty or does not exist yet.
            inputs: The volumes.
            segments: The classes 1..K.
            options: The choices that shape the run.
            name: Shown to the user; the folder's name by default.
            output: The file that the command line will write the result to.
            source: The file of the image.
                With `options.scan_names` False none of these three is stored.
            named_slices: The user named the annotated slices, so that they are not detected
                again when the run is resumed.
            task: A name of TASKS.
            model: The model file to apply, or to start the training from; it is copied.

        Raises:
            InputError: The folder is in use or cannot be written, or a value is not of the form
                in which a run folder keeps it.
        """
        path = Path(path)
        check_path(path, DEEPEST)
        if not options.scan_names:
            name, output, source = "", None, None
            inputs = [item.numbered(number) for number, item in enumerate(inputs, start=1)]
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"the run folder {path} exists already: name a new or empty folder.")
        if len(segments) > MAX_SEGMENTS:
            raise InputError(
                f"there are {len(segments)} segments: at most {MAX_SEGMENTS} can be "
                "used. Leave some out, or join them."
            )
        check_priors(inputs, options.network, model)
        for item in inputs:
            if (fault := item.geometry.fault()) is not None:
                raise InputError(f"the volume cannot be used: {fault}.")
        made = not path.exists()
        try:
            path.mkdir(exist_ok=True)
            for number, item in enumerate(inputs, start=1):
                folder = path / "inputs" / str(number)
                folder.mkdir(parents=True)
                write_array(folder / "image.npy", np.ascontiguousarray(item.image))
                write_array(folder / "labels.npy", np.ascontiguousarray(item.labels))
                write_json(folder / "geometry.json", item.geometry.to_json())
                write_slices(folder, item.slices)
                write_prior(folder, item)
            if model is not None:
                shutil.copyfile(model, path / "inputs" / MODEL_NAME)
            for sub in SUBFOLDERS:
                (path / sub).mkdir()
            run = cls(
                path,
                {
                    "schema": SCHEMA,
                    "task": task,
                    "name": name or path.name,
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                    "segments": [s.to_json() for s in segments],
                    "options": options.to_json(),
                    "versions": {},
                    "inputs": [
                        {
                            "name": item.name,
                            "channels": list(item.channels),
                            "classes": None if item.classes is None else list(item.classes),
                            "predict": None
                            if item.predict is None
                            else [s.to_json() for s in item.predict],
                            **described_prior(item),
                        }
                        for item in inputs
                    ],
                    "plan": None,
                    "named_slices": named_slices,
                    **{
                        key: None if file is None else str(Path(file).absolute())
                        for key, file in (("output", output), ("source", source))
                    },
                },
            )
            check_run(path / "run.json", run.description)
            run.save()
        except BaseException as error:
            with suppress(OSError):  # the first error tells more
                remove_tree(path) if made else remove_content(path)
            if not isinstance(error, OSError):
                raise
            raise InputError(
                f"cannot write the run folder {path}: {error.strerror or error}. "
                "Choose a folder you may write to, with enough free space."
            ) from error
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Opens an existing run folder.

        Raises:
            InputError: It is none, of a newer version or damaged, or something in it is a link.
        """
        path = Path(path)
        check_path(path)
        refuse_link(path / "run.json")
        description = read_run(path)
        refuse_links(path)
        if description["schema"] < SCHEMA:
            description = migrated(path, description)
        run = cls(path, description)
        channels = {run._read_input(n, mapped=True).image.shape[0] for n in range(1, run.count + 1)}
        if len(channels) > 1:
            raise InputError(
                f"the run folder {path} is damaged: its inputs have "
                f"{' and '.join(map(str, sorted(channels)))} channels. {REMEDY}"
            )
        return run

    def save(self) -> None:
        """Writes the description to run.json."""
        write_json(self.path / "run.json", self.description)

    def save_plan(self, plan: dict, versions: dict) -> None:
        """Stores the engine's plan and the versions of what it runs on."""
        self.description.update(plan=plan, versions=versions)
        self.save()

    @property
    def named_slices(self) -> bool:
        """True if the user named the annotated slices when the run began."""
        return bool(self.description.get("named_slices"))

    @property
    def count(self) -> int:
        """Number of input volumes."""
        return len(self.description["inputs"])

    @property
    def task(self) -> str:
        """Name of what the run does, one of TASKS."""
        return self.description.get("task", TASKS[0])

    @property
    def model_path(self) -> Path:
        """File of the model as it is learnt."""
        return self.path / "checkpoint" / MODEL_NAME

    @property
    def given_model(self) -> Path | None:
        """File of the model to apply or to start from; None if there is none."""
        path = self.path / "inputs" / MODEL_NAME
        return path if path.is_file() else None

    @property
    def state_paths(self) -> tuple[Path, Path]:
        """Files of the newest checkpoint and of the one before."""
        folder = self.path / "checkpoint"
        return folder / "state.safetensors", folder / "state-previous.safetensors"

    def sweep(self) -> None:
        """Removes the temporary files of an engine that was killed; only for the lock's owner."""
        for folder in (self.path, *(self.path / sub for sub in SUBFOLDERS)):
            sweep(folder)

    @property
    def log_path(self) -> Path:
        """File of the engine's log."""
        return self.path / "log.txt"

    def _input(self, number: int) -> Path:
        return self.path / "inputs" / str(number)

    def shape(self, number: int = 1) -> tuple[int, int, int]:
        """Voxels of an input along (k, j, i)."""
        return self.geometry(number).shape

    def geometry(self, number: int = 1) -> Geometry:
        """Voxel grid of an input, which never changes."""
        if number not in self._geometries:
            self._geometries[number] = read_geometry(self._input(number) / "geometry.json")
        return self._geometries[number]

    def read_input(self, number: int = 1, mapped: bool = False) -> RunInput:
        """Reads input `number` (from 1); `mapped` leaves the image on disk, memory-mapped."""
        item = self._read_input(number, mapped)
        item.labels = self.read_labels(number)
        return item

    def _read_input(self, number: int, mapped: bool) -> RunInput:
        folder, about = self._input(number), self.description["inputs"][number - 1]
        shape, wanted = self.shape(number), about.get("predict")
        return RunInput(
            read_array(folder / "image.npy", (None, *shape), REMEDY, REAL, mapped),
            read_array(folder / "labels.npy", shape, REMEDY, mapped=True),
            self.geometry(number),
            self.read_slices(number),
            list(about["channels"]),
            None if wanted is None else slices_inside(self.path / "run.json", wanted, shape),
            about.get("name") or f"input {number}",
            None if about.get("classes") is None else tuple(about["classes"]),
            *read_prior(folder, about, shape, len(self.segments)),
        )

    def read_labels(self, number: int = 1) -> np.ndarray:
        """Reads the current labels, uint8 (k, j, i), 255 = unlabelled."""
        file = self._input(number) / "labels.npy"
        labels = read_array(file, self.shape(number), REMEDY)
        self.check_labels(file, labels, REMEDY)
        return labels

    def read_slices(self, number: int = 1) -> list[AnnotatedSlice]:
        """Reads the current annotated slices."""
        return read_slices(self._input(number) / "slices.json", self.shape(number))

    def write_labels(
        self, number: int, labels: np.ndarray, slices: Sequence[AnnotatedSlice]
    ) -> None:
        """Replaces the labels of an input; only for the lock's owner or its client.

        Raises:
            InputError: They do not fit the input.
        """
        self.prepare_labels(number, labels, slices).put()

    def prepare_labels(
        self, number: int, labels: np.ndarray, slices: Sequence[AnnotatedSlice]
    ) -> PreparedLabels:
        """Writes labels beside those of an input, in any thread; `put` then replaces these.

        Raises:
            InputError: They do not fit the input.
        """
        self.check_new_labels(number, labels)
        return PreparedLabels(self._input(number), np.ascontiguousarray(labels), slices)

    def check_new_labels(self, number: int, labels: np.ndarray) -> None:
        """Raises InputError if labels do not fit an input."""
        if not 1 <= number <= self.count:
            raise InputError(f"there is no input {number}: the run has {self.count}.")
        shape = self.shape(number)
        if labels.shape != shape or labels.dtype != np.uint8:
            raise InputError(
                f"the new labels are {labels.dtype} of {labels.shape} voxels (k, j, "
                f"i): input {number} needs uint8 of {shape}."
            )
        above = labels[(labels > len(self.segments)) & (labels != UNLABELLED)]
        if len(above):
            raise InputError(
                f"the new labels hold the value {above.max()}, but the run knows "
                f"{len(self.segments)} segments: begin a new run."
            )


def annotated_share(labels: np.ndarray) -> float:
    """Fraction of the voxels of a label array that are labelled, 0 to 1."""
    return float(np.count_nonzero(labels != UNLABELLED) / labels.size)
