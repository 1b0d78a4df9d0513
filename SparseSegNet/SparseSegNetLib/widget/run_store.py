"""Storage of run folders, so that runs can be resumed after Slicer was closed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import slicer

from ..errors import InputError
from ..runfolder.checkpoints import ELSEWHERE, readable_checkpoints
from ..runfolder.folder import RunFolder
from ..runfolder.local_data import local_data_folder
from ..runfolder.run_move import found_again, move_runs
from ..runfolder.stored_runs import StoredRun, stored_runs, sweep_discarded

LIMIT_KEY = "SparseSegNet/MostGigabytesOfRuns"  # in Slicer's settings
LIMIT = 20  # gigabytes


class RunStore:
    """The folder that holds the panel's run folders."""

    @property
    def folder(self) -> Path:
        """The folder of the runs, on this computer's own disk; it may not exist yet."""
        return local_data_folder() / "runs"

    def root(self, make: bool = True) -> Path:
        """The folder of the runs.

        Args:
            make: True creates it. False returns the nearest folder above it that exists if it
                does not.

        Raises:
            InputError: If it cannot be created.
        """
        path = self.folder
        if not make:
            return next((p for p in (path, *path.parents) if p.is_dir()), path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder of the runs, {path}, cannot be created "
                f"({error.strerror or error}): free some disk space, allow writing there, or "
                "name another folder in the environment variable SPARSESEGNET_DATA."
            ) from error
        return path

    @property
    def oldRoot(self) -> Path | None:
        """The folder of earlier versions, beside Slicer's settings: in a roaming profile."""
        settings = slicer.app.slicerUserSettingsFilePath
        return Path(settings).parent / "SparseSegNet-runs" if settings else None

    @property
    def limit(self) -> int:
        """Gigabytes above which old runs are offered for deletion."""
        try:
            return max(1, int(float(slicer.app.userSettings().value(LIMIT_KEY, LIMIT))))
        except (TypeError, ValueError):
            return LIMIT

    @limit.setter
    def limit(self, gigabytes: int) -> None:
        slicer.app.userSettings().setValue(LIMIT_KEY, int(gigabytes))

    def new(self, name: str) -> Path:
        """A path that does not exist yet, for a new run of this name.

        Raises:
            InputError: If the folder of the runs cannot be created.
        """
        root = self.root()
        clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:30] or "run"
        base = f"{time.strftime('%Y%m%d-%H%M%S')}-{clean}"
        path, number = root / base, 1
        while path.exists():
            number += 1
            path = root / f"{base}-{number}"
        return path

    def moving(self) -> Callable[[], list[Path]]:
        """A function for a thread: moves the runs of earlier versions, see `move_runs`."""
        old, new = self.oldRoot, self.folder
        return lambda: [] if old is None else move_runs(old, new)

    def looking(self) -> Callable[[], list[StoredRun]]:
        """A function for a thread: looks at all stored runs."""
        root = self.folder

        def look() -> list[StoredRun]:
            sweep_discarded(root)
            return stored_runs(root)

        return look

    def found(self, path: str) -> str:
        """The path of a run folder, or of a file in one, which may have been moved."""
        return found_again(path, self.folder)


def resumable(path: str) -> bool:
    """True if a run on one volume without a result can go on.

    It has a readable checkpoint, or another computer, on which its engine was lost, may have one.
    """
    folder = _opened(path)
    return (
        folder is not None
        and folder.task == "densify"
        and not folder.has_result()
        and (
            any(True for _ in readable_checkpoints(folder.state_paths))
            or (folder.path / ELSEWHERE).is_file()
        )
    )


def finished(path: str) -> RunFolder | None:
    """The run folder at this path if it has a result, else None."""
    # Asked at each update of the panel: mostly there is none, and the folder is not opened.
    if not path or not (Path(path) / "result" / "1.npy").is_file():
        return None
    return _opened(path)


def _opened(path: str) -> RunFolder | None:
    """The run folder at this path; None if there is none, or the path is empty."""
    try:
        return RunFolder.open(path) if path else None
    except InputError:
        return None
