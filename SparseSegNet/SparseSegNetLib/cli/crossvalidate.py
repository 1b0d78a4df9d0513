"""The command ``sparsesegnet crossvalidate``: how good a result an annotation would give."""

from __future__ import annotations

import argparse
import json

from ..client.engine_run import EngineRun
from ..runfolder.exit_codes import CANCELLED, DONE
from ..runfolder.folder import RunFolder
from .annotated_image import input_of, label_files, read_annotated, say_annotated
from .progress import follow, say
from .run_place import run_place
from .scores import lines_of_score
from .training_options import training_options


def crossvalidate(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    settings = training_options(options)
    volume, annotation, _ = read_annotated(options, *label_files(options))
    for text in (*volume.notes, *annotation.warnings):
        say(f"note: {text}")
    say_annotated(volume, annotation)
    with run_place(None, "the score", "(result/1-score.json).") as place:
        folder = RunFolder.create(
            place.path,
            [input_of(volume, annotation)],
            annotation.segments,
            settings,
            task="crossvalidate",
        )
        run = EngineRun(folder)
        if follow(run, quiet=options.quiet, keep=False) == "cancelled":
            say("cancelled.")
            return CANCELLED
        if run.error is not None:
            raise run.error
        score, lines = folder.read_score() or {}, lines_of_score(folder)
    if options.json:
        print(json.dumps({"names": folder.names, **score}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines))
    return DONE
