"""The command ``sparsesegnet crossvalidate``: how good a result an annotation would give."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from ..client.engine_run import EngineRun
from ..runfolder.exit_codes import CANCELLED, DONE
from ..runfolder.file_retries import remove_tree
from ..runfolder.folder import RunFolder
from .annotated_image import input_of, label_files, read_annotated, say_annotated
from .progress import follow, say
from .scores import lines_of_score
from .training_options import training_options


def crossvalidate(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    settings = training_options(options)
    volume, annotation, _ = read_annotated(options, *label_files(options))
    for text in (*volume.notes, *annotation.warnings):
        say(f"note: {text}")
    say_annotated(volume, annotation)
    path = Path(tempfile.mkdtemp(prefix="sparsesegnet-"))
    try:
        folder = RunFolder.create(
            path,
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
        if options.json:
            score = folder.read_score() or {}
            print(json.dumps({"names": folder.names, **score}, indent=2, ensure_ascii=False))
        else:
            print("\n".join(lines_of_score(folder)))
        return DONE
    finally:
        remove_tree(path, ignore_errors=True)
