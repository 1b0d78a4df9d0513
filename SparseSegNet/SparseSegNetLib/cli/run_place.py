"""The folder that a command has a run computed in: it stays where something in it is of use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError
from ..runfolder.file_retries import remove_tree

# Errors that begin before the engine, or that its log does not explain.
UNEXPLAINED = ("no-python", "input")


@dataclass
class RunPlace:
    """A run folder and what has become of it.

    Attributes:
        path: The folder.
        computed: True once there is something in it that computing again would take time for.
    """

    path: Path
    computed: bool = False


@contextmanager
def run_place(chosen: Path | None, output: Path | str, rest: str) -> Iterator[RunPlace]:
    """Context manager that gives a folder for a run, and removes it if it was a temporary one.

    It stays if the run failed, since its log helps to find the cause, or if what was computed
    could not be written.

    Args:
        chosen: The folder of --run, which stays in any case; None for a temporary one.
        output: What is written from it, as errors of the disk name it that name no file.
        rest: Continues "What was computed is kept in FOLDER"; ``{path}`` stands for the folder.

    Raises:
        EngineError: In place of an OSError, or of a Ctrl-C after the run has ended.
    """
    place = RunPlace(chosen or Path(tempfile.mkdtemp(prefix="sparsesegnet-")))
    keep = chosen is not None

    def kept() -> str:
        return f"What was computed is kept in {place.path} {rest.format(path=place.path)}"

    try:
        yield place
    except EngineError as error:
        keep = keep or error.code not in UNEXPLAINED
        raise
    except OSError as error:
        keep = keep or place.computed
        raise EngineError(
            "files",
            f"{error.filename or output} cannot be written: {error.strerror or error}.",
            kept() if place.computed else "Free some space, or choose another folder.",
        ) from error
    except KeyboardInterrupt as error:
        if not place.computed:
            raise
        keep = True
        raise EngineError(
            "interrupted", f"{output} was being written and is not finished.", kept()
        ) from error
    except Exception:
        keep = keep or place.computed
        raise
    finally:
        if not keep:
            remove_tree(place.path, ignore_errors=True)
