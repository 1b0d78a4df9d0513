"""A small image with its annotation, and a whole run folder of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput
from SparseSegNetLib.suggestion.slice_profiles import SliceProfiles, areas_of, contours_of

SHAPE = (5, 6, 7)
GRID = Geometry(SHAPE[::-1], (0.5, 0.75, 2.0), (-10.0, 3.5, 80.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
SEGMENTS = [
    Segment("Segment_1", "Shell", (0.9, 0.6, 0.1), 1, {"TerminologyEntry": "a~b^c"}),
    Segment("Segment_2", "Core", (0.2, 0.5, 1.0), 2),
]
SLICES = [AnnotatedSlice("k", 2), AnnotatedSlice("i", 3, ((1, 4), (0, 6)))]


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


def annotation() -> np.ndarray:
    labels = np.full(SHAPE, UNLABELLED, np.uint8)
    labels[2], labels[2, 1:4, 2:5], labels[2, 2, 3] = 0, 1, 2
    return labels


def expected_score() -> dict:
    segment = {"slices": 2, "uncovered": 0.2} | dict.fromkeys(
        ("iou", "low", "high", "dice", "near", "folds", "plug_in", "near_folds", "near_plug_in"),
        0.5,
    )
    diagram = {"voxels": [3, 4], "confidence": [0.4, 0.9], "accuracy": [0.5, 0.8], "error": 0.1}
    place = {"axis": "k", "index": 2}
    return {
        "slices": 2,
        "segments": [segment, segment | {"slices": 1, "iou": None}],
        "calibration": {"level": 0.1, "slope": 0.2, "middle": 1.0},
        "reliability": {"before": diagram, "after": diagram},
        "gains": [{"axis": "i", "slices": 2, "iou": 0.03}],
        "drawn": [place],
        "new_slices": [{**place, "iou": [0.9, None], "prefilled": True}],
        "history": [{"slices": 2, "iou": [0.5, None]}],
    }


def slice_profiles(labels: np.ndarray) -> SliceProfiles:
    areas = areas_of(labels, len(SEGMENTS))
    return SliceProfiles.of(areas, np.ones_like(areas), areas[0], contours_of(labels), labels.shape)


def run_folder(folder: Path) -> None:
    """A run folder in which everything is that there can be."""
    run = RunFolder.create(
        folder,
        [RunInput(pixels()[None], annotation(), GRID, SLICES, ["MR"])],
        SEGMENTS,
        Options(network="vnet", tile=(32, 32, 16), device="cpu"),
        output=folder.parent / "none.nrrd",
        source=folder.parent / "image.nrrd",
    )
    dense = np.zeros(SHAPE, np.uint8)
    run.write_result(1, dense, dense)
    run.write_preview(1, dense)
    run.write_preview_slice(1, SLICES[0], dense[2])
    run.write_disagreements(
        1, [{"voxels": 5, "inside": 1, "drawn": 1, "model": 2, "voxel": [2, 3, 4]}]
    )
    run.write_score(1, expected_score())
    run.write_profiles(1, slice_profiles(dense))
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
