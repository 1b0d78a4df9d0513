"""Every reader of files, texts and messages, with a whole input of each."""

from __future__ import annotations

import argparse
import json
import random
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from mutations import mutate, mutate_json
from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice, check_slices, parse_slices
from SparseSegNetLib.cli.densify import report
from SparseSegNetLib.cli.progress import follow
from SparseSegNetLib.cli.reproduce_cases import read_cases
from SparseSegNetLib.cli.training_options import training_options
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.labels import Annotation, read_annotation
from SparseSegNetLib.files.nifti import copy_geometry
from SparseSegNetLib.files.writing import write_labels
from SparseSegNetLib.runfolder.folder import RunFolder, RunInput
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.protocol import decode, encode

SHAPE = (5, 6, 7)
GRID = Geometry(SHAPE[::-1], (0.5, 0.75, 2.0), (-10.0, 3.5, 80.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
SEGMENTS = [
    Segment("Segment_1", "Shell", (0.9, 0.6, 0.1), 1, {"TerminologyEntry": "a~b^c"}),
    Segment("Segment_2", "Core", (0.2, 0.5, 1.0), 2),
]
SLICES = [AnnotatedSlice("k", 2), AnnotatedSlice("i", 3, ((1, 4), (0, 6)))]


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


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


def _labels() -> np.ndarray:
    labels = np.full(SHAPE, UNLABELLED, np.uint8)
    labels[2], labels[2, 1:4, 2:5], labels[2, 2, 3] = 0, 1, 2
    return labels


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
    drawn = np.where(_labels() == UNLABELLED, 0, _labels())
    write_labels(folder / "drawn.seg.nrrd", drawn, GRID, SEGMENTS)


def _two_nifti(folder: Path) -> None:
    _image(".nii.gz", _pixels())(folder)
    write_labels(folder / "result.nii", np.zeros(SHAPE, np.uint8), GRID, SEGMENTS)


def _copied_geometry(folder: Path) -> object:
    return copy_geometry(folder / "image.nii.gz", folder / "result.nii")


def run_folder(folder: Path) -> None:
    """A run folder in which everything is that there can be."""
    run = RunFolder.create(
        folder,
        [RunInput(_pixels()[None], _labels(), GRID, SLICES, ["MR"])],
        SEGMENTS,
        Options(network="vnet", tile=(32, 32, 16), device="cpu"),
        output=folder.parent / "none.nrrd",
        source=folder.parent / "image.nrrd",
    )
    dense = np.zeros(SHAPE, np.uint8)
    run.write_preview(1, dense)
    run.write_preview_slice(1, SLICES[0], dense[2])
    run.write_result(1, dense, dense)
    run.write_disagreements(
        1, [{"voxels": 5, "inside": 1, "drawn": 1, "model": 2, "voxel": [2, 3, 4]}]
    )
    score = {"iou": 0.5, "dice": 0.6, "voxels": 9}
    for step in range(3):
        run.append_metrics(
            {
                "step": step,
                "seconds": 1.5,
                "loss": 0.3,
                "phase": "held out",
                "held_out": [score, score],
                "held_out_dice": 0.6,
            }
        )
    (folder / "result" / "written.json").write_text('{"output": "/x/y.nrrd", "sha256": "00"}')


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
    _image(".nrrd", _pixels())(folder)
    (folder / "image.nrrd").rename(folder / "a.nrrd")
    _image(".nrrd", _labels())(folder)
    (folder / "cases.csv").write_text("image,labels,slices\na.nrrd,image.nrrd,k:2\n")


class Said:
    """A transport whose engine says what lies in a file, and ends."""

    def __init__(self, data: bytes):
        self._chunks: list[tuple[str, bytes | int]] = [("out", data), ("end", 0)]

    def receive(self, timeout: float = 0.0) -> tuple[str, bytes | int] | None:
        return self._chunks.pop(0) if self._chunks else None

    def send(self, line: bytes) -> None: ...

    def close_input(self) -> None: ...

    def kill(self) -> None: ...


EVENTS = b"".join(
    encode("event", name, **data)
    for name, data in {
        "started": {"pid": 12},
        "ready": {"pid": 12, "device": "cpu", "torch": "2", "threads": 1},
        "plan": {"device": "cpu", "network": "auto", "shape": SHAPE, "patch": SHAPE, "width": 16},
        "progress": {
            "step": 3,
            "loss": 0.5,
            "seconds": 2.5,
            "phase": "held out",
            "fraction": 0.1,
            "remaining": 9.5,
        },
        "metrics": {
            "step": 3,
            "seconds": 2.5,
            "loss": 0.5,
            "phase": "held out",
            "held_out_dice": 0.5,
            "held_out": [{"dice": 0.5, "iou": 0.4, "voxels": 7}] * 2,
        },
        "warning": {"text": "a"},
        "oom-recovered": {"step": 3, "text": "b"},
        "resumed": {"step": 3, "seconds": 1.0},
        "preview": {"input": 1, "step": 3, "seconds": 3.0},
        "error": {"code": "gpu", "cause": "c", "remedy": "d"},
        "done": {
            "seconds": 9.0,
            "step": 3,
            "held_out": None,
            "held_out_slices": ["k:1"],
            "seconds_aside": {"previews": 0.1},
        },
    }.items()
)


def _messages(lines: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for n, line in enumerate(lines.splitlines()):
            (folder / f"{n:02}.jsonline").write_bytes(line)

    return make


def _lines(folder: Path) -> bytes:
    return b"".join(p.read_bytes().replace(b"\n", b" ") + b"\n" for p in sorted(folder.iterdir()))


@cache
def _kept(folder: Path) -> RunFolder:
    folder.mkdir()
    run_folder(folder / "run")
    return RunFolder.open(folder / "run")


def _events(folder: Path) -> object:
    kept = _kept(folder.parent / "kept-for-events")
    kept.log_path.unlink(missing_ok=True)
    run = EngineRun(kept, Said(_lines(folder)))
    if follow(run, quiet=True) == "done" and run.plan is not None:
        json.dumps(report(run, Annotation(_labels(), SEGMENTS, SLICES)), allow_nan=False)
    return run.error, run.metrics, run.summary


COMMANDS = b"".join(
    encode("command", name, **data)
    for name, data in (
        ("set", {"time_budget": 300}),
        ("labels-changed", {"input": 1}),
        ("pause", {}),
        ("resume", {}),
        ("preview", {"input": 1, "planes": ["k:1", "i:2,3"]}),
        ("preview", {}),
        ("stop", {}),
    )
)


def _commands(folder: Path) -> object:
    from SparseSegNetLib.engine.data.inputs import Inputs
    from SparseSegNetLib.engine.interaction.callback import TrainingCallback
    from SparseSegNetLib.engine.interaction.clock import Clock
    from SparseSegNetLib.engine.interaction.commands import Commands
    from SparseSegNetLib.engine.interaction.reporter import Reporter

    kept, clock = _kept(folder.parent / "kept-for-commands"), Clock(60, 0.0)
    trainer = types.SimpleNamespace(plan=types.SimpleNamespace(seconds_to_predict=1.0), steps=0)
    reporter = Reporter(lambda event, **data: encode("event", event, **data), kept, clock, False)
    commands = Commands()
    live = TrainingCallback(
        trainer, Inputs(kept), commands, clock, reporter, lambda: None, lambda step: None
    )
    for line in _lines(folder).splitlines():
        message = decode(line, "command")
        if message is not None and commands.put(message):
            for taken in commands.take():
                getattr(live, "_on_" + taken["command"].replace("-", "_"))(taken)
    return True


def _listed(folder: Path) -> object:
    from SparseSegNetLib.scene.slice_list import listedSlices

    text = (folder / "slices.json").read_bytes().decode("utf-8", "replace")
    return listedSlices(
        types.SimpleNamespace(GetAttribute=lambda name: text, GetName=lambda: "drawn")
    )


def _weights(folder: Path, checkpoint: bool) -> None:
    import torch

    from SparseSegNetLib.engine.plan import Fingerprint
    from SparseSegNetLib.engine.planning.auto_plan import make_plan
    from SparseSegNetLib.engine.prediction.model_file import save_model
    from SparseSegNetLib.engine.training.checkpoint import save_state

    plan = make_plan(Fingerprint(SHAPE, (1.0, 1.0, 1.0), 1, 3, 50, 2)).to_json()
    layer = torch.nn.Linear(3, 2)
    if not checkpoint:
        save_model(folder / "model.safetensors", layer, {"plan": plan, "segments": []})
        return
    tensors = {
        f"{part}.{name}": value
        for part in ("network", "average")
        for name, value in layer.state_dict().items()
    }
    tensors |= {"random.sampler": torch.get_rng_state(), "random.torch": torch.get_rng_state()}
    about = {
        "steps": 3,
        "scorings": 1,
        "rate": 1.0,
        "losses": [0.5],
        "network_share": 0.5,
        "held": True,
        "held_slices": ["k:2"],
        "best": 0.5,
        "batch": 4,
        "patch": [8, 8, 8],
        "optimiser": {"state": {}, "groups": [{"lr": 0.1}]},
        "plan": plan,
        "seconds": 3.0,
        "began": 1.0,
    }
    paths = folder / "state.safetensors", folder / "state-previous.safetensors"
    for _ in range(2):
        save_state(paths, tensors, about)


def _model(folder: Path) -> object:
    from SparseSegNetLib.engine.prediction.model_file import load_model

    return load_model(folder / "model.safetensors")


def _checkpoint(folder: Path) -> object:
    from SparseSegNetLib.engine.plan import Plan
    from SparseSegNetLib.engine.training.checkpoint import load_state
    from SparseSegNetLib.engine.training.training_state import check_state

    told: list[str] = []
    state = load_state(
        (folder / "state.safetensors", folder / "state-previous.safetensors"),
        check_state,
        told.append,
    )
    if state is None:
        raise AssertionError("the generation before was not taken")
    return Plan.from_json(state[1]["plan"]), told


READERS = {
    r.name: r
    for r in (
        *(
            Reader(f"image {ending}", _image(ending, _pixels()), _volume, [f"*{ending}"])
            for ending in (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
        ),
        Reader("image .mha, packed", _image(".mha", _pixels(), True), _volume, ["*"]),
        Reader("geometry of a NIfTI", _two_nifti, _copied_geometry, ["image.nii.gz"]),
        Reader("labels .nrrd", _image(".nrrd", _labels()), _label_image, ["*"]),
        Reader("labels .mha", _image(".mha", _labels()), _label_image, ["*"]),
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
        Reader("model", lambda f: _weights(f, False), _model, ["*"]),
        Reader("checkpoint", lambda f: _weights(f, True), _checkpoint, ["state.safetensors"]),
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
        Reader("events", _messages(EVENTS), _events, ["*"], 2),
        Reader("commands", _messages(COMMANDS), _commands, ["*"], 2),
    )
}
