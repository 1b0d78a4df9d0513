"""The expected score of a run in the terminal, and the file of --metrics."""

from __future__ import annotations

from ..client.engine_run import EngineRun
from ..files.labels import Annotation
from ..runfolder.folder import RunFolder, annotated_share
from ..runfolder.score import score_lines


def lines_of_score(folder: RunFolder) -> list[str]:
    """The expected score of a run's (first) result, as sentences; none if there is no score."""
    lines = score_lines(folder.read_score(), folder.names, folder.geometry())
    return [f"expected IoU (80 % interval): {lines[0]}", *lines[1:]] if lines else []


def report(run: EngineRun, annotation: Annotation) -> dict:
    """Content of the --metrics file: everything that was measured without ground truth."""
    held = run.summary["held_out"]
    return {
        "seconds": run.summary["seconds"],
        "steps": run.summary["step"],
        "annotated_share": annotated_share(annotation.labels),
        "slices": [s.to_json() for s in annotation.slices],
        "segments": [s.name for s in annotation.segments],
        "held_out_slices": run.summary["held_out_slices"],
        "held_out": None
        if held is None
        else [{"segment": s.name, **row} for s, row in zip(annotation.segments, held, strict=True)],
        "score": run.folder.read_score(),
        "warnings": run.warnings,
        "options": run.folder.options.to_json(),
        "plan": {k: v for k, v in run.plan.items() if k not in ("sparsesegnet", "event")},
    }
