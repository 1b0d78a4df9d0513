"""The command ``sparsesegnet model``: everything that is to be known of a model file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ..annotation.merging import TERMINOLOGY
from ..annotation.segments import Segment
from ..runfolder.exit_codes import DONE
from ..runfolder.model_description import ModelDescription, Score
from ..units import duration, size

MODALITIES = {
    "ct": "CT, in Hounsfield units",
    "other": "not CT: the intensities of each image are on a scale of its own",
}


def model(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    found = ModelDescription.read(options.file)
    if options.json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(card(found, options.file))
    return DONE


def card(model: ModelDescription, path: Path) -> str:
    """The card of a model, for people."""
    parts = {
        "Model": [f"{model.name}, trained {model.created} ({size(path.stat().st_size)})"],
        "Segments": [f"{n} {_shown(segment)}" for n, segment in enumerate(model.segments, start=1)],
        "Channels": [
            f"{name}: {low:.4g} to {high:.4g} in the training set"
            for name, (low, high) in zip(model.channels, model.ranges, strict=True)
        ],
        "Modality": [MODALITIES[model.modality]],
        "Grid": [f"{_times(model.spacing)} mm, orientation {model.orientation}"],
        "Training set": [
            f"{case.name}: {case.slices} annotated slices, {case.labelled} labelled voxels of "
            f"{_times(case.size)} at {_times(case.spacing)} mm; {', '.join(case.segments) or '-'}"
            for case in model.cases
        ],
        "Score": score_lines(model),
        "Training": [f"{duration(model.seconds)}, {model.steps} steps, seed {model.seed}"],
        "Versions": [", ".join(f"{name} {version}" for name, version in model.versions.items())],
    }
    lines = []
    for title, texts in parts.items():
        for n, text in enumerate(texts or ["-"]):
            lines.append(f"{title if n == 0 else '':<14}{printable(text)}".rstrip())
    return "\n".join(lines)


def _shown(segment: Segment) -> str:
    color = "".join(f"{round(255 * part):02x}" for part in segment.color)
    # Category and type are the second and third of Slicer's entry, each scheme^value^meaning.
    entry = segment.tags.get(TERMINOLOGY, "").split("~")
    meant = entry[2].split("^") if len(entry) > 2 else []
    code = f" ({' '.join(meant[:2])}, {meant[2]})" if len(meant) == 3 and meant[1] else ""
    return f"{segment.name} #{color}{code}"


def score_lines(model: ModelDescription) -> list[str]:
    """The scores of a model in lines of text, with how they were measured."""
    if model.scores is None:
        return [f"no score: {model.scored}" if model.scored else "no score"]
    rows = [
        f"{segment.name}: {_figures(score)}"
        for segment, score in zip(model.segments, model.scores, strict=True)
    ]
    return [*rows, *([f"({model.scored})"] if model.scored else [])]


def _figures(score: Score) -> str:
    if score.iou is None or score.dice is None:
        return "could not be scored"
    return f"IoU {score.iou:.3f}, Dice {score.dice:.3f} on {score.voxels} voxels"


def _times(values: Sequence[float]) -> str:
    return "x".join(f"{value:.4g}" for value in values)


def printable(text: str) -> str:
    """The text without what a terminal would take for a command; a file may be a stranger's."""
    return "".join(c if c.isprintable() else "?" for c in text)
