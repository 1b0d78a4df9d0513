"""``sparsesegnet reproduce``: the experiments of the 3D U-Net paper on the user's own volumes."""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..annotation.composition import UNLABELLED, restrict_to_slices
from ..annotation.slices import AnnotatedSlice, format_slices
from ..client.engine_run import EngineRun
from ..engine.compute import metrics
from ..errors import InputError
from ..runfolder import forms
from ..runfolder.atomic import atomic_path, write_json
from ..runfolder.exit_codes import CANCELLED, DONE
from ..runfolder.file_retries import remove_tree
from ..runfolder.folder import RunFolder
from ..runfolder.options import Options
from ..runfolder.run_input import RunInput
from ..units import clock
from .progress import follow, say
from .reproduce_cases import Case, folds, read_cases, setups, untouched
from .training_options import training_options

# Rows of Tables 1 and 3: their name and the options that differ.
VARIANTS = (
    ("3D without BN", {"network": "unet3d", "batch_norm": False}),
    ("3D with BN", {"network": "unet3d"}),
    ("2D with BN", {"network": "unet2d", "tile": None}),
)
# The record of a training, as it is stored.
STORED = forms.record(
    {
        "row": forms.text(),
        "column": forms.text(),
        "iou": forms.optional(forms.number(0, 1)),
        "skipped": forms.rows(forms.text()),
        "seconds": forms.number(0),
        "steps": forms.whole(0),
        "labelled_share": forms.number(0, 1),
        "warnings": forms.rows(forms.text()),
        "plan": forms.record(
            {
                "device": forms.text(),
                "width": forms.whole(1),
                "patch": forms.rows(forms.whole(1), 3, 3),
            }
        ),
    }
)


@dataclass
class Training:
    """One training and its test.

    Attributes:
        row: Its row in the table.
        column: Its column in the table.
        options: The options of the run.
        shown: Per case, the annotated slices that the network is trained on.
        test: Per case, the annotated slices that it is tested on.
        record: The result, as it is stored; empty before the training.
    """

    row: str
    column: str
    options: Options
    shown: list[list[AnnotatedSlice]]
    test: list[list[AnnotatedSlice]]
    record: dict = field(default_factory=dict)


def reproduce(given: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    spread = _spread(given.spread)
    training_options(given, network="unet3d")  # bad options are refused before anything is read
    cases = read_cases(given.cases, spread, given.unlabelled)
    trainings = list(
        {"table1": _table1, "table2": _table2, "table3": _table3}[given.table](cases, given)
    )
    long = f"{given.steps} steps" if given.steps else f"at most {clock(given.time_budget)}"
    say(
        f"{given.table}: {len(trainings)} trainings of {long} on "
        f"{', '.join(f'{c.name} ({format_slices(c.slices)})' for c in cases)}."
    )
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {given.output} cannot be made: {error.strerror or error}."
        ) from error
    for number, training in enumerate(trainings, start=1):
        training.record = _stored_or_new(training, cases, given, f"{number}/{len(trainings)}")
        if not training.record:
            say("cancelled; finished trainings are kept, and the same command resumes from there.")
            return CANCELLED
    text = _printed(given.table, trainings, cases, given)
    with atomic_path(given.output / f"{given.table}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    return DONE


def _table1(cases: list[Case], given: argparse.Namespace) -> Iterator[Training]:
    """3-fold cross-validation over the annotated slices of all volumes together."""
    total = sum(len(case.slices) for case in cases)
    if total < 6:
        raise InputError(
            f"table1 needs at least 6 annotated slices, to leave a third out three "
            f"times: {given.cases} has {total}."
        )
    for name, changes in VARIANTS:
        for fold, test in enumerate(folds(cases), start=1):
            shown = [
                [s for s in case.slices if s not in without]
                for case, without in zip(cases, test, strict=True)
            ]
            yield Training(
                name,
                f"fold {fold}",
                training_options(given, hold_out=False, **changes),
                shown,
                test,
            )


def _table2(cases: list[Case], given: argparse.Namespace) -> Iterator[Training]:
    """IoU against the number of annotated slices, one volume at a time, with BN."""
    any_setup = False
    for case in cases:
        possible, test = setups(case)
        if not test or not possible:
            say(f"note: {case.name} has too few annotated slices for table2 and is left out.")
            continue
        if len(possible) < 4:
            say(f"note: {case.name} has too few slices for the setups beyond {possible[-1][0]}.")
        for counts, chosen in possible:
            any_setup = True
            yield Training(
                case.name,
                str(counts),
                training_options(given, network="unet3d", hold_out=False),
                [chosen if c is case else [] for c in cases],
                [test if c is case else [] for c in cases],
            )
    if not any_setup:
        raise InputError(
            f"no volume of {given.cases} has enough annotated slices for table2: at "
            "least two along each axis, one of them for testing."
        )


def _table3(cases: list[Case], given: argparse.Namespace) -> Iterator[Training]:
    """Leave one volume out: train on the others, segment its annotated slices."""
    if len(cases) < 2:
        raise InputError(f"table3 trains on all volumes but one: {given.cases} names only one.")
    for name, changes in VARIANTS:
        for out, left_out in enumerate(cases):
            yield Training(
                name,
                left_out.name,
                training_options(given, hold_out=False, **changes),
                [[] if n == out else case.slices for n, case in enumerate(cases)],
                [case.slices if n == out else [] for n, case in enumerate(cases)],
            )


def _stored_or_new(
    training: Training, cases: list[Case], given: argparse.Namespace, which: str
) -> dict:
    """The record of a training, from its file or by running it; {} when it was cancelled."""
    key = _key(training, cases)
    store = given.output / "trainings" / f"{key}.json"
    if store.exists():
        try:
            return forms.read_json(store, STORED, "It is trained again.")
        except InputError as error:
            say(f"note: {error}")
    say(f"{which}: {training.row}, {training.column}")
    store.parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=store.parent))
    try:
        record = _run(training, cases, folder / "run", given.quiet)
        if record:
            write_json(store, record)
            say(
                f"{which}: IoU {_figure(record['iou'])} after {record['seconds']:.0f} s, "
                f"{record['steps']} steps"
            )
        return record
    finally:
        remove_tree(folder, ignore_errors=True)


def _run(training: Training, cases: list[Case], path: Path, quiet: bool) -> dict:
    """Train and test once. {} when cancelled."""
    used = [n for n in range(len(cases)) if training.shown[n] or training.test[n]]
    labels = {n: restrict_to_slices(cases[n].labels, training.shown[n]) for n in used}
    segments = cases[0].segments
    present = sorted(set(np.concatenate([np.unique(a) for a in labels.values()])) - {0, UNLABELLED})
    missing = [s.name for n, s in enumerate(segments, start=1) if n not in present]
    for name in missing:
        say(
            f"note: {name} is in no training slice here; it is skipped for {training.row}, "
            f"{training.column}."
        )
    # The network is trained on the classes that are present, numbered without gaps.
    new = np.full(256, UNLABELLED, np.uint8)
    new[0] = 0
    for n, value in enumerate(present, start=1):
        new[value] = n
    inputs = [
        RunInput(
            cases[n].image,
            new[labels[n]],
            cases[n].geometry,
            training.shown[n],
            predict=training.test[n],
        )
        for n in used
    ]
    run = EngineRun(
        RunFolder.create(path, inputs, [segments[v - 1] for v in present], training.options)
    )
    if follow(run, quiet=quiet, keep=False) == "cancelled":
        return {}
    found, truth = [], []
    for number, n in enumerate(used, start=1):
        if training.test[n]:
            mask = untouched(cases[n], training.test[n], labels[n])
            found.append(run.result(number)[mask])
            truth.append(new[cases[n].labels[mask]])
    rows = metrics.overlap(np.concatenate(found), np.concatenate(truth), len(present))
    shown = [labels[n] for n in used if training.shown[n]]
    return {
        "row": training.row,
        "column": training.column,
        "iou": metrics.mean(r["iou"] for r in rows),
        "classes": [
            {"segment": segments[v - 1].name, **r} for v, r in zip(present, rows, strict=True)
        ],
        "skipped": missing,
        "seconds": run.summary["seconds"],
        "steps": run.summary["step"],
        "labelled_share": sum(int((a != UNLABELLED).sum()) for a in shown)
        / sum(a.size for a in shown),
        "test_voxels": int(sum(map(len, truth))),
        "options": training.options.to_json(),
        "warnings": run.warnings,
        "plan": {k: v for k, v in run.plan.items() if k not in ("sparsesegnet", "event")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _key(training: Training, cases: list[Case]) -> str:
    """Hash of everything that the result depends on."""
    digest = hashlib.sha256(
        json.dumps(
            [training.options.to_json(), training.row, training.column], sort_keys=True
        ).encode()
    )
    for case, shown, test in zip(cases, training.shown, training.test, strict=True):
        digest.update(np.ascontiguousarray(case.image).tobytes() + case.labels.tobytes())
        digest.update(f"{format_slices(shown)} | {format_slices(test)}".encode())
    return digest.hexdigest()[:16]


def _printed(
    table: str, trainings: Sequence[Training], cases: list[Case], given: argparse.Namespace
) -> str:
    """Markdown in the paper's layout, after a line that describes the runs."""
    steps = [t.record["steps"] for t in trainings]
    tile = trainings[0].record["plan"]["patch"]
    long = f"{given.steps} steps" if given.steps else f"{given.time_budget:g} s"
    lines = [
        f"{table}, {datetime.now(UTC):%Y-%m-%d}: {', '.join(c.name for c in cases)}; "
        f"{long} per training on "
        f"{trainings[0].record['plan']['device']} ({min(steps)} to {max(steps)} steps), tile "
        f"{'x'.join(str(n) for n in reversed(tile))}, width "
        f"{trainings[0].record['plan']['width']}, seed {given.seed}. Mean IoU over the "
        "foreground classes on the annotated voxels that training did not see.",
        "",
    ]
    if table == "table2":
        columns = list(dict.fromkeys(t.row for t in trainings))
        rows = list(dict.fromkeys(t.column for t in trainings))
        cell = {(t.column, t.row): t.record for t in trainings}
        lines += [
            "| GT slices (yz, xz, xy) | GT voxels | " + " | ".join(columns) + " |",
            "|---" * (len(columns) + 2) + "|",
        ]
        for row in rows:
            records = [cell.get((row, column)) for column in columns]
            share = metrics.mean(r["labelled_share"] for r in records if r)
            lines.append(
                f"| {row} | {100 * share:.1f} % | "
                + " | ".join(_figure(r["iou"]) if r else "" for r in records)
                + " |"
            )
    else:
        columns = list(dict.fromkeys(t.column for t in trainings))
        lines += ["| | " + " | ".join(columns) + " | average |", "|---" * (len(columns) + 2) + "|"]
        for row in dict.fromkeys(t.row for t in trainings):
            values = [t.record["iou"] for t in trainings if t.row == row]
            lines.append(
                f"| {row} | "
                + " | ".join(map(_figure, values))
                + f" | {_figure(metrics.mean(values))} |"
            )
    skipped = [
        f"{t.row}, {t.column}: {', '.join(t.record['skipped'])}"
        for t in trainings
        if t.record["skipped"]
    ]
    if skipped:
        lines += ["", "Skipped for want of a training slice: " + "; ".join(skipped) + "."]
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if len(counts) != 3 or min(counts) < 0 or sum(counts) < 1:
        raise InputError(
            f"--spread {text}: expected three numbers of slices (yz, xz, xy), such as 9,9,7."
        )
    return counts
