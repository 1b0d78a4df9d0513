"""Storage of run folders, so that runs can be resumed after Slicer was closed."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from pathlib import Path

import slicer

from ..errors import EngineError, InputError
from ..runfolder.checkpoints import readable_checkpoints
from ..runfolder.folder import RunFolder
from ..runfolder.lock import FolderLock


class RunStore:
    """The folder that holds the panel's run folders."""

    def root(self, make: bool = True) -> Path:
        """The folder of the runs, beside Slicer's settings or, without them, in a temporary one.

        Args:
            make: True creates the folder. False returns its parent if it does not exist.

        Raises:
            InputError: If the folder cannot be created.
        """
        settings = slicer.app.slicerUserSettingsFilePath
        folder = Path(settings).parent if settings else Path(tempfile.gettempdir())
        path = folder / "SparseSegNet-runs"
        if not make:
            return path if path.is_dir() else folder
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder of the runs, {path}, cannot be created "
                f"({error.strerror or error}): free some disk space, or allow writing "
                "there."
            ) from error
        return path

    def new(self, name: str) -> Path:
        """A path that does not exist yet, for a new run of this name."""
        clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:30] or "run"
        base = f"{time.strftime('%Y%m%d-%H%M%S')}-{clean}"
        root, path, number = self.root(), None, 1
        while path is None or path.exists():
            path = root / (base if number == 1 else f"{base}-{number}")
            number += 1
        return path

    def kept(self, but: str = "") -> list[Path]:
        """The stored run folders, except the path `but`."""
        root = self.root(make=False)
        if root.name != "SparseSegNet-runs":
            return []
        return sorted(
            p for p in root.iterdir() if (p / "run.json").is_file() and (not but or p != Path(but))
        )

    def size(self, paths: list[Path]) -> int:
        """Size of run folders on disk in bytes."""
        return sum(f.stat().st_size for p in paths for f in p.rglob("*") if f.is_file())

    def delete(self, paths: list[Path]) -> int:
        """Deletes run folders that no process works on; returns the number deleted."""
        gone = 0
        for path in paths:
            try:
                with FolderLock(path):
                    pass
            except (EngineError, InputError, OSError):
                continue  # a process works on it, or its lock is no file
            shutil.rmtree(path, ignore_errors=True)
            gone += not path.exists()
        return gone


def resumable(path: str) -> bool:
    """True if the folder holds a run on one volume with a readable checkpoint and no result."""
    folder = _opened(path)
    return (
        folder is not None
        and folder.task == "densify"
        and not folder.has_result()
        and any(True for _ in readable_checkpoints(folder.state_paths))
    )


def finished(path: str) -> RunFolder | None:
    """The run folder at this path if it has a result, else None."""
    folder = _opened(path)
    return folder if folder is not None and folder.has_result() else None


def _opened(path: str) -> RunFolder | None:
    """The run folder at this path; None if there is none, or the path is empty."""
    try:
        return RunFolder.open(path) if path else None
    except InputError:
        return None
