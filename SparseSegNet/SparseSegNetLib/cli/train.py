"""The command ``sparsesegnet train``: one model from several sparsely annotated volumes."""

from __future__ import annotations

import argparse
import errno
import shutil
from contextlib import nullcontext
from pathlib import Path

from ..client.engine_run import EngineRun
from ..files.labels import Reading
from ..files.writing import (
    SEGMENTATION,
    check_output,
    link_target,
    stem_of,
    write_labels,
)
from ..runfolder.atomic import atomic_path, write_json
from ..runfolder.exit_codes import CANCELLED, DONE
from ..runfolder.folder import RunFolder, annotated_share
from ..runfolder.model_description import ModelDescription
from ..runfolder.options import Options
from ..units import counted
from .annotated_image import described
from .case_list import read_list
from .model import score_lines
from .output_folder import check_files, check_outputs, output_folder
from .progress import follow, say, say_cancelled
from .run_place import run_place
from .training_cases import TrainingSet, read_training_set
from .training_options import (
    training_options,
)


def train(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    settings = training_options(
        options, modality=options.modality, match_histograms=options.match_histograms
    )
    rows = read_list(options.cases, ("image", "labels"))
    files = [f for row in rows for f in (*row.images, row.labels) if f is not None]
    outputs = (
        {row.name: options.output / f"{row.name}{SEGMENTATION}" for row in rows}
        if (options.output)
        else {}
    )
    written = [path for path in (options.save_model, options.metrics) if path]
    check_files(written, [options.cases, *files], options.run_folder)
    with output_folder(options.output) if options.output else nullcontext():
        check_outputs(list(outputs.values()), files)
        found = read_training_set(
            options.cases,
            rows,
            Reading(
                options.unlabelled,
                None,
                options.background_label,
                options.resample_labels,
            ),
            options.replace_nonfinite,
        )
        _choose_predicted(found, options)
        for item in found.inputs if outputs else ():
            if note := check_output(outputs[item.name], item.geometry):
                found.notes.append(note)
        for note in found.notes:
            say(f"note: {note}")
        for item, annotated in zip(found.inputs, found.annotated, strict=True):
            what = described(item.slices, item.labels) if annotated else "an unlabelled scan"
            say(f"{item.name}: {what}.")
        say(
            f"{len(found.inputs)} volumes, {len(found.segments)} segments: "
            f"{', '.join(s.name for s in found.segments)}."
        )
        return _train(options, found, settings, outputs)


def _choose_predicted(found: TrainingSet, options: argparse.Namespace) -> None:
    """Have volumes segmented if the results are wanted; else leave out unlabelled scans."""
    if options.output or options.run_folder:
        return
    kept = []
    for item, row, annotated in zip(found.inputs, found.rows, found.annotated, strict=True):
        if annotated:
            item.predict = []
            kept.append((item, row))
        else:
            found.notes.append(
                f"{row.where}: {item.name} is not annotated and is left out, for its segmentation "
                "would be written nowhere: give -o DIR to have it segmented."
            )
    found.inputs, found.rows = [i for i, _ in kept], [r for _, r in kept]


def _train(
    options: argparse.Namespace, found: TrainingSet, settings: Options, outputs: dict[str, Path]
) -> int:
    rest = "(the model in checkpoint/model.safetensors, dense labels in result/)."
    with run_place(options.run_folder, options.save_model, rest) as place:
        folder = RunFolder.create(
            place.path,
            found.inputs,
            found.segments,
            settings,
            stem_of(options.save_model),
            options.save_model,
            options.cases,
            task="train",
        )
        for item in found.inputs:  # they are in the run folder now: memory is the engine's
            item.image = item.image[:0].copy()
        run = EngineRun(folder)
        if follow(run, quiet=options.quiet) == "cancelled":
            say_cancelled(options.run_folder)
            return CANCELLED
        if run.error is not None:
            raise run.error
        place.computed = True
        _write(options, run, found, outputs)
    _summarise(options, run, found, outputs)
    return DONE


def save_model(folder: RunFolder, path: Path) -> None:
    """Writes the model of a finished run to a file, atomically.

    Raises:
        OSError: It cannot be written.
    """
    with atomic_path(link_target(path)) as target:
        shutil.copyfile(folder.model_path, target)


def _write(
    options: argparse.Namespace, run: EngineRun, found: TrainingSet, outputs: dict[str, Path]
) -> None:
    try:
        # What cannot be had again from the other comes first.
        save_model(run.folder, options.save_model)
        run.folder.remember_written(options.save_model)
        for number, item in enumerate(found.inputs, start=1):
            if item.name in outputs:
                write_labels(
                    outputs[item.name],
                    run.result(number),
                    item.geometry,
                    found.segments,
                    found.rows[number - 1].images[0],
                )
        if options.metrics:
            write_json(link_target(options.metrics), report(run, found))
    except (RuntimeError, ValueError, EOFError, MemoryError) as error:
        raise OSError(errno.EIO, str(error), str(options.save_model)) from error


def report(run: EngineRun, found: TrainingSet) -> dict:
    """Content of the --metrics file: everything that was measured without ground truth."""
    held = run.summary["held_out"]
    names = [s.name for s in found.segments]
    return {
        "seconds": run.summary["seconds"],
        "steps": run.summary["step"],
        "cases": [
            {
                "name": item.name,
                "annotated_share": annotated_share(item.labels),
                "slices": [s.to_json() for s in item.slices],
                "segments": names
                if item.classes is None
                else [names[number - 1] for number in item.classes],
            }
            for item in found.inputs
        ],
        "segments": names,
        "held_out": None
        if held is None
        else [{"segment": name, **row} for name, row in zip(names, held, strict=True)],
        "warnings": run.warnings,
        "options": run.folder.options.to_json(),
        "plan": {k: v for k, v in (run.plan or {}).items() if k not in ("sparsesegnet", "event")},
    }


def _summarise(
    options: argparse.Namespace, run: EngineRun, found: TrainingSet, outputs: dict[str, Path]
) -> None:
    model = ModelDescription.read(options.save_model)
    say(
        f"trained on {counted(sum(found.annotated), 'annotated volume')} in "
        f"{run.summary['seconds']:.0f} s, {run.summary['step']} steps."
    )
    for line in score_lines(model):
        say(line)
    if outputs:
        say(f"{len(found.inputs)} segmentations are in {options.output}.")
    say(
        f'{options.save_model} written. \'sparsesegnet segment "{options.save_model}" scan.nii.gz '
        "-o OUT.seg.nrrd' segments a new scan with it, and 'sparsesegnet model "
        f'"{options.save_model}"\' describes it.'
    )
