"""Runs every folder of ../shared/cases and prints whether it gives what its README says.

    make cases                          all of them
    make cases ARGS="ilastik-labels"    some of them

Exit code 1 if one does not.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cases import SHARED

ROOT = Path(__file__).resolve().parents[2]
FOLDER = SHARED.parent / "cases"
GOOD = (0.99, 0.98)  # IoU of A and B; 0.999 and 0.995 are normal
BAD_INPUT = 2


@dataclass
class Case:
    """A command and the outcome that is expected of it.

    Attributes:
        command: Arguments of `sparsesegnet densify` without the time budget; OUT stands for the
            folder of the output. None for a case.py.
        iou: Least IoU of A and B; None if the command is to be refused.
        says: Pattern that the output must hold.
        map: Values of the result that stand for 1 and 2, as score.py takes them.
        exit_code: The expected exit code.
    """

    command: str | None
    iou: tuple[float, float] | None = GOOD
    says: str = ""
    map: str = ""
    exit_code: int = 0


def refused(command: str, says: str) -> Case:
    """Case in which the command is to be refused with a message."""
    return Case(command, None, says, exit_code=BAD_INPUT)


SEGMENTATION = "img.nrrd s.seg.nrrd -o OUT/o.seg.nrrd"
CASES: dict[str, list[Case]] = {
    "background-segment-last": [Case(None, (0.99, 0.99))],
    "corrections-change-other-drawing": [
        Case(None, None, r"(?s)after \((1908|1909), .*after \(15264, \[0\.4, 0\.45, 0\.85\]\)")
    ],
    "dicom-gantry-tilt": [
        Case("dcm s.seg.nrrd -o OUT/o.seg.nrrd", says=r"7 annotated slices"),
        Case("dcm s.seg.nrrd -o OUT/o.seg.nrrd", says=r"tilt"),
    ],
    "dicom-seg": [Case("dcm seg.dcm -o OUT/o.seg.nrrd")],
    "finer-segmentation-grid": [Case(SEGMENTATION, says=r"k:8,13,18")],
    "four-dimensional-channels": [
        Case("img.nii.gz lab.nii.gz -o OUT/o.nii.gz", says=r"2 channels: img.nii.gz\[0\]")
    ],
    "fractional-labelmap": [refused(SEGMENTATION, r"fractional labelmap: convert it to a binary")],
    "ilastik-labels": [
        refused("img.nrrd lab.nrrd --unlabelled 0 -o OUT/o.nrrd", r"--background-label 1.*none"),
        Case(
            "img.nrrd lab.nrrd --unlabelled 0 --background-label 1 -o OUT/o.nrrd",
            map="2=1,3=2",
        ),
        Case("img.nrrd lab.nrrd --unlabelled 0 --slices none -o OUT/o.nrrd", map="2=1,3=2"),
    ],
    "labels-flipped-axis": [Case("img.nrrd lab.nrrd -o OUT/o.nrrd")],
    "layers-to-labelmap": [Case("img.nrrd s.seg.nrrd -o OUT/o.nii.gz", says=r"1 = A, 2 = B")],
    # The clip itself lies outside the structures and is judged as well.
    "metal-1.5-percent": [Case("img.nrrd lab.nrrd -o OUT/o.nrrd", (0.98, 0.98))],
    "minus-one-is-unlabelled": [Case("img.nrrd lab.nrrd --unlabelled -1 -o OUT/o.nrrd")],
    "non-orthonormal-nifti": [Case("img.nii.gz lab.nii.gz -o OUT/o.nii.gz")],
    "one-annotated-slice": [
        Case("img.nrrd lab.nrrd -o OUT/o.nrrd", (0.9, 0.9), r"draw two more across it")
    ],
    "one-file-per-segment": [
        refused("ct.nii.gz organ.nii.gz tumour.nii.gz --unlabelled 0 -o OUT/o.nii.gz", r"--labels"),
        Case(
            "ct.nii.gz --labels organ=organ.nii.gz tumour=tumour.nii.gz -o OUT/o.nii.gz",
            (0.97, 0.97),
        ),
    ],
    "outlines-not-filled": [Case(SEGMENTATION, (0, 0), r"drawn as outlines.*Fill them")],
    "overlap-small-segment-first": [
        Case(SEGMENTATION, (0.95, 0.9), r"'tumour' lies within 'organ'", map="2=1,1=2")
    ],
    "strokes-with-background-segment": [
        Case(SEGMENTATION, says=r"only what is drawn is labelled"),
        Case("img.nrrd same-strokes-255.nrrd -o OUT/o.nrrd"),
    ],
    "tiff-pixel-size": [Case("img.tif lab.tif -o OUT/o.nrrd", says=r"voxels are taken in their")],
    "truncated-image-gz": [
        refused("img.nii.gz lab.nii.gz -o OUT/o.nii.gz", r"cut off|ends|incomplete"),
        refused("img.nii.gz lab.nii.gz -o OUT/o.nrrd", r"cut off|ends|incomplete"),
    ],
    "value-without-segment": [Case(SEGMENTATION)],
}


def run_case(name: str, case: Case, out: Path) -> tuple[bool, str]:
    """Runs a case; returns whether it gave what was expected, and its figures.

    Args:
        name: The folder.
        case: The command and what is expected of it.
        out: An empty folder.
    """
    folder = out / "in"
    shutil.copytree(FOLDER / name, folder)
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
    if case.command is None:
        return _scripted(folder, case)
    words = [w.replace("OUT", str(out)) for w in case.command.split()]
    budget = ["--time-budget", "10", "--quiet"]
    run = subprocess.run(
        [sys.executable, "-P", "-m", "SparseSegNetLib.cli", "densify", *words, *budget],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
    )
    said = run.stdout + run.stderr
    if run.returncode != case.exit_code or not re.search(case.says, said, re.DOTALL):
        return False, f"exit code {run.returncode}: {said.strip()[-300:]}"
    if case.iou is None:
        return True, said.strip().splitlines()[-1][:110]
    result = next(p for p in out.iterdir() if p.name.startswith("o."))
    score = subprocess.run(
        [sys.executable, str(FOLDER / "score.py"), str(result)]
        + ([f"--map={case.map}"] if case.map else []),
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=os.environ | {"ITK_NIFTI_SFORM_PERMISSIVE": "1"},
    )
    found = [float(x) for x in re.findall(r"IoU ([0-9.]+)", score.stdout)]
    good = len(found) == 2 and all(f >= g for f, g in zip(found, case.iou, strict=True))
    return good, "IoU " + ", ".join(f"{f:.3f}" for f in found)


def _scripted(folder: Path, case: Case) -> tuple[bool, str]:
    """Run a case.py, written for an earlier layout of the package."""
    text = (folder / "case.py").read_text(encoding="utf-8")
    text = text.replace(
        "from SparseSegNetLib import logic", "from SparseSegNetLib.scene import logic"
    )
    text = text.replace("from SparseSegNetLib.annotating import Annotating\n", "")
    run = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PROJECT": str(ROOT)},
    )
    found = [float(x) for x in re.findall(r"IoU ([0-9.]+)", run.stdout)]
    good = run.returncode == 0 and re.search(case.says, run.stdout) is not None
    if case.iou is not None:
        good = good and len(found) == 4 and min(found) >= min(case.iou)
        return good, "IoU " + ", ".join(f"{f:.3f}" for f in found)
    last = run.stdout.strip().replace("\n", "; ")
    return good, last[-110:] if good else (last + run.stderr)[-300:]


def main() -> int:
    """Run the cases that were named, print the table, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="folders (default: all)")
    names = parser.parse_args().names
    if not FOLDER.is_dir():
        print(f"{FOLDER} is absent: nothing to run.")
        return 0
    unknown = {p.name for p in FOLDER.iterdir() if p.is_dir()} ^ set(CASES)
    failed = bool(unknown)
    if unknown:
        print(f"folders and list of cases differ: {', '.join(sorted(unknown))}")
    print("| case | command | as expected | found |\n|---|---|---|---|", flush=True)
    for name in names or sorted(set(CASES) - unknown):
        for case in CASES[name]:
            with tempfile.TemporaryDirectory() as out:
                good, found = run_case(name, case, Path(out))
            failed |= not good
            command = case.command or "case.py"
            print(f"| {name} | {command} | {'yes' if good else 'NO'} | {found} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
