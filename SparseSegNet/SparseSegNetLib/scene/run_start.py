"""Beginning of runs: folder, engine, and which of them is the newest."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from ..annotation.segments import Segment
from ..client.engine_run import EngineRun
from ..errors import InputError
from ..runfolder.file_retries import remove_tree
from ..runfolder.folder import RunFolder
from ..runfolder.options import Options
from ..runfolder.run_input import RunInput
from ..steps import Steps
from .run_case import RunCase
from .scene_run import SceneRun

_newest: weakref.ref | None = None


def begin(
    runFolder: Path | str | None,
    inputs: Sequence[RunInput],
    segments: Sequence[Segment],
    options: Options,
    cases: Sequence[RunCase],
    warnings: Sequence[str],
    **about,
) -> Steps[SceneRun]:
    """Writes the run folder and starts the engine on it, in steps (see `steps`).

    Given up before the engine is started, it leaves no folder behind.

    Args:
        runFolder: The folder; None for a temporary one, which goes with the run.
        inputs: The volumes.
        segments: The run's classes.
        options: Its options.
        cases: The nodes of the volumes.
        warnings: Warnings for the user.
        **about: Further arguments of RunFolder.create.

    Raises:
        InputError: If the folder cannot be written.
        EngineError: If the engine cannot be started.
    """
    try:
        path = runFolder or tempfile.mkdtemp(prefix="sparsesegnet-")
    except OSError as error:
        raise InputError(
            f"no temporary folder can be made for the run ({error}): free some space on its disk, "
            "or name a run folder."
        ) from error
    made: list[RunFolder] = []
    try:
        yield lambda: made.append(RunFolder.create(path, inputs, segments, options, **about))
        run = EngineRun(made[0])
    except BaseException as error:
        # A folder that could not be made may be somebody else's.
        if runFolder is None or (made and isinstance(error, GeneratorExit)):
            remove_tree(path, ignore_errors=True)
        raise
    return SceneRun(run, cases, temporary=runFolder is None, warnings=warnings)


def newest(run: SceneRun) -> SceneRun:
    """Makes a run the newest one of this session, and returns it."""
    global _newest
    _newest = weakref.ref(run)
    return run


def currentRun() -> SceneRun | None:
    """The newest training of this session, started by the panel or the console; None without."""
    return None if _newest is None else _newest()
