"""Every reader of files, texts and messages, with a whole input of each."""

from __future__ import annotations

import argparse
import json
import random
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from message_readers import COMMANDS, EVENTS, read_commands, read_events, write_messages
from mutations import mutate, mutate_json
from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.slices import check_slices, parse_slices
from SparseSegNetLib.cli.reproduce_cases import read_cases
from SparseSegNetLib.cli.training_options import training_options
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.labels import read_annotation
from SparseSegNetLib.files.nifti import copy_geometry
from SparseSegNetLib.files.writing import write_labels
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.score import score_lines
from SparseSegNetLib.suggestion.ranking import suggest_slices
from stored_readers import (
    read_done,
    read_mapped,
    read_ngff,
    write_done,
    write_mapped,
    write_ngff,
)
from weights import read_checkpoint, read_model, write_weights
from whole_inputs import GRID, SEGMENTS, SHAPE, SLICES, annotation, pixels, run_folder


@dataclass(frozen=True)
class Reader:
    """name: as it is told in the table.  make: writes a whole input into an empty folder.
    read: reads it.  damaged: the files (patterns) of which some are mutated.  most: how many."""

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    damaged: Sequence[str]
    most: int = 1

    def mutated(self, folder: Path, rng: random.Random) -> None:
        """Damage some files of an input in place."""
        files = sorted({f for pattern in self.damaged for f in folder.glob(pattern) if f.is_file()})
        chosen = rng.sample(files, min(len(files), rng.randint(1, self.most)))
        for file in chosen:
            data = file.read_bytes()
            kind = mutate_json if file.suffix in (".json", ".jsonline") else mutate
            if self.most > 1 and rng.random() < 0.1:
                file.unlink()
            else:
                file.write_bytes(kind(data, rng))


def _image(ending: str, array: np.ndarray, packed: bool = False) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(GRID.spacing)
        image.SetOrigin(GRID.origin)
        sitk.WriteImage(image, str(folder / f"image{ending}"), packed)

    return make


def _volume(folder: Path) -> object:
    path = next(p for p in sorted(folder.iterdir()) if p.suffix != ".raw")
    return read_volume([path], replace_nonfinite=True).image.sum(dtype=float)


def _label_image(folder: Path) -> object:
    return read_annotation(next(folder.iterdir()), GRID).labels.sum()


def _segmentation(folder: Path) -> None:
    drawn = np.where(annotation() == UNLABELLED, 0, annotation())
    write_labels(folder / "drawn.seg.nrrd", drawn, GRID, SEGMENTS)


def _two_nifti(folder: Path) -> None:
    _image(".nii.gz", pixels())(folder)
    write_labels(folder / "result.nii", np.zeros(SHAPE, np.uint8), GRID, SEGMENTS)


def _copied_geometry(folder: Path) -> object:
    return copy_geometry(folder / "image.nii.gz", folder / "result.nii")


def _whole_run(folder: Path) -> object:
    run = RunFolder.open(folder)
    read = [
        run.read_preview(),
        run.read_preview_slice(1, SLICES[0]),
        run.read_metrics(),
        run.read_disagreements(),
        run.wrote(folder / "run.json"),
    ]
    max((m.get("seconds") or 0.0 for m in run.read_metrics()), default=0.0)
    run.save()
    for n in range(1, run.count + 1):
        read.append(run.read_input(n))
    return [*read, run.read_labels(), run.read_result(), run.read_uncertainty()]


def _side_files(folder: Path) -> object:
    """What is damaged beside the inputs costs itself alone."""
    run = RunFolder.open(folder)
    run.read_input()
    run.read_result()
    if run.read_preview() is None and not run.notes and (folder / "preview" / "1.npy").exists():
        raise AssertionError("a damaged preview was not told")
    return run.read_preview_slice(1, SLICES[0]), run.read_metrics(), run.read_disagreements()


def _score_and_suggestions(folder: Path) -> object:
    run = RunFolder.open(folder)
    item, names = run.read_input(), [segment.name for segment in run.segments]
    suggested = suggest_slices(item.labels, item.slices, names, GRID, run.read_profiles())
    return score_lines(run.read_score(), names, GRID), suggested


def _texts(texts: dict[str, str]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")

    return make


def _said(folder: Path) -> str:
    return (folder / "text").read_bytes().decode("utf-8", "replace")


def _slices(folder: Path) -> object:
    found = parse_slices(_said(folder).split("\n"))
    check_slices(found, SHAPE)
    return found


def _training_options(folder: Path) -> object:
    network, tile, resample, seconds = (_said(folder).split("\n") + [""] * 4)[:4]
    return training_options(
        argparse.Namespace(
            network=network,
            tile=tile,
            resample=resample,
            time_budget=_number(seconds),
            device="cpu",
            seed=0,
            steps=0,
            width=None,
            n4=False,
            largest_component=False,
        )
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 60.0  # argparse has refused it


def _case_list(folder: Path) -> None:
    _image(".nrrd", pixels())(folder)
    (folder / "image.nrrd").rename(folder / "a.nrrd")
    _image(".nrrd", annotation())(folder)
    (folder / "cases.csv").write_text("image,labels,slices\na.nrrd,image.nrrd,k:2\n")


def _listed(folder: Path) -> object:
    from SparseSegNetLib.scene.slice_list import listedSlices

    text = (folder / "slices.json").read_bytes().decode("utf-8", "replace")
    return listedSlices(
        types.SimpleNamespace(GetAttribute=lambda name: text, GetName=lambda: "drawn"), GRID
    )


READERS = {
    r.name: r
    for r in (
        *(
            Reader(f"image {ending}", _image(ending, pixels()), _volume, [f"*{ending}"])
            for ending in (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
        ),
        Reader("image .mha, packed", _image(".mha", pixels(), True), _volume, ["*"]),
        *(
            Reader(f"OME-Zarr {version}", write_ngff(version), read_ngff, ["*/**/*"], 2)
            for version in ("0.4", "0.5")
        ),
        *(
            Reader(f"mapped {ending}", write_mapped(ending), read_mapped, [f"*{ending}"])
            for ending in (".nrrd", ".nhdr", ".mha", ".npy")
        ),
        Reader("tiles that are done", write_done, read_done, ["*"]),
        Reader("geometry of a NIfTI", _two_nifti, _copied_geometry, ["image.nii.gz"]),
        Reader("labels .nrrd", _image(".nrrd", annotation()), _label_image, ["*"]),
        Reader("labels .mha", _image(".mha", annotation()), _label_image, ["*"]),
        Reader(".seg.nrrd", _segmentation, _label_image, ["*"]),
        Reader("run folder", run_folder, _whole_run, ["**/*"], 4),
        Reader("run.json", run_folder, _whole_run, ["run.json"]),
        Reader("inputs of a run", run_folder, _whole_run, ["inputs/1/*"]),
        Reader(
            "previews, metrics",
            run_folder,
            _side_files,
            ["preview/*", "metrics.jsonl", "result/1-disagreements.json"],
            2,
        ),
        Reader(
            "score, sums over slices",
            run_folder,
            _score_and_suggestions,
            ["result/1-score.json", "result/1-profiles.npy"],
            2,
        ),
        Reader("model", lambda f: write_weights(f, False), read_model, ["*"]),
        Reader(
            "checkpoint", lambda f: write_weights(f, True), read_checkpoint, ["state.safetensors"]
        ),
        Reader(
            "options", _texts({"text": "vnet\n128,128,64\n1,1,1.5\n60"}), _training_options, ["*"]
        ),
        Reader("--slices", _texts({"text": "k:1,2 i:3\nj=4"}), _slices, ["*"]),
        Reader(
            "listed slices",
            _texts({"slices.json": json.dumps([{**s.to_json(), "stated": True} for s in SLICES])}),
            _listed,
            ["*"],
        ),
        Reader(
            "list of cases",
            _case_list,
            lambda f: read_cases(f / "cases.csv", (1, 1, 1), 255),
            ["cases.csv"],
        ),
        Reader("events", write_messages(EVENTS), read_events, ["*"], 2),
        Reader("commands", write_messages(COMMANDS), read_commands, ["*"], 2),
    )
}
