"""Checks of what a command writes to, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..annotation.geometry import Geometry
from ..errors import InputError
from ..files.writing import check_output, check_writable
from ..runfolder.path_length import DEEPEST, check_path

ANY_GRID = Geometry((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@contextmanager
def output_folder(path: Path) -> Iterator[None]:
    """Context manager that makes a folder, and removes it again if nothing was written to it.

    Args:
        path: The folder, which may exist; the one that it lies in must.

    Raises:
        InputError: It cannot be made.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"the output {path} is a file: name a folder, for several results.")
    made = not path.exists()
    try:
        path.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise InputError(
            f"the output folder {path} cannot be made, since {path.parent} does not exist: create "
            "it first."
        ) from error
    except OSError as error:
        raise InputError(
            f"the output folder {path} cannot be made ({error.strerror or error}): choose another."
        ) from error
    try:
        yield
    finally:
        if made:
            with suppress(OSError):  # there is something in it
                path.rmdir()


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Checks, before any work is done, that results can be written; their folders exist.

    Args:
        outputs: The files, all of one format.
        inputs: The files that must not be overwritten.

    Raises:
        InputError: Two outputs are one file, one is an input, the folder cannot be written, or the
            format cannot be.
    """
    read = {path.resolve(): path for path in inputs}
    seen: set[str] = set()
    for path in outputs:
        if path.resolve() in read:
            raise InputError(
                f"the output {path} would overwrite the input {read[path.resolve()]}: choose "
                "another folder."
            )
        # Names that differ in case alone are one file on Windows and macOS.
        if (key := str(path.resolve()).casefold()) in seen:
            raise InputError(f"two results would be written to {path}: give each its own name.")
        seen.add(key)
    for path in outputs[:1]:
        check_output(path, ANY_GRID)


def check_files(outputs: Sequence[Path], inputs: Sequence[Path], run_folder: Path | None) -> None:
    """Checks, before any image is read, that outputs and the run folder can be written.

    Args:
        outputs: Files that will be written.
        inputs: Files that are read, which no output may replace.
        run_folder: The folder of --run; None for a temporary one.

    Raises:
        InputError: One cannot be written, is an input or another output, or the run folder is in
            use.
    """
    for path in outputs:
        check_writable(path, inputs)
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError("two outputs have the same name: give each its own.")
    if run_folder is None:
        return
    check_path(run_folder, DEEPEST)
    if not run_folder.parent.is_dir():
        raise InputError(
            f"the folder {run_folder.parent} for --run does not exist: create it first."
        )
    if run_folder.exists() and (not run_folder.is_dir() or any(run_folder.iterdir())):
        raise InputError(f"the run folder {run_folder} exists already: name a new or empty folder.")
