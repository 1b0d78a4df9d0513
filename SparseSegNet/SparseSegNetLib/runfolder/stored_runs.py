"""Stored run folders: what they take on the disk, and which may go when that is too much."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError, InputError
from .disk_size import size_of
from .file_retries import remove_tree, rename
from .lock import FolderLock, in_use

DELETING = ".deleting-"  # begins the name of a run folder that is being deleted


@dataclass(frozen=True)
class StoredRun:
    """A stored run folder.

    Attributes:
        path: The folder.
        size: Bytes on the disk.
        ended: Time at which its newest result was written, 0 without one.
        finished: It has a result of every volume.
        busy: A process works on it.
    """

    path: Path
    size: int
    ended: float
    finished: bool
    busy: bool


def run_folders(root: Path) -> list[Path]:
    """The run folders in a folder, by name; none if it does not exist."""
    try:
        return sorted(p for p in root.iterdir() if _is_run(p))
    except OSError:
        return []


def _is_run(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.is_symlink()
    return not hidden and (path / "run.json").is_file()


def stored_runs(root: Path) -> list[StoredRun]:
    """Looks at all run folders in a folder; takes a while where there are many files."""
    return [_seen(path) for path in run_folders(root)]


def _seen(path: Path) -> StoredRun:
    results = [_written(p) for p in path.glob("result/*.npy") if p.stem.isdecimal()]
    volumes = sum(p.name.isdecimal() for p in path.glob("inputs/*"))
    return StoredRun(
        path,
        size_of(path),
        max(results, default=0.0),
        0 < volumes <= len(results),
        in_use(path),
    )


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def may_go(runs: Sequence[StoredRun], most: float, shown: Collection[Path]) -> list[StoredRun]:
    """The oldest finished runs without which the others take at most `most` bytes.

    Args:
        runs: All stored runs.
        most: Bytes that they may take together.
        shown: Runs that the scene shows.

    Returns:
        Finished runs on which no process works and that are not shown, oldest first; as many as
        there are if they do not suffice. None while the limit is kept.
    """
    left, found = sum(run.size for run in runs) - most, []
    for run in sorted(runs, key=lambda run: (run.ended, run.path.name)):
        if left <= 0:
            break
        if run.finished and not run.busy and run.path not in shown:
            found.append(run)
            left -= run.size
    return found


def discard_runs(paths: Sequence[Path]) -> int:
    """Sets run folders aside on which no process works, at once; `sweep_discarded` deletes them.

    Returns:
        The number that are gone.
    """
    gone = 0
    for path in paths:
        try:
            with FolderLock(path):
                pass
            # On Windows impossible while a file in it is open.
            rename(path, path.with_name(DELETING + path.name))
        except (EngineError, InputError, OSError):
            continue  # a process works on it, or its lock is no file
        gone += 1
    return gone


def sweep_discarded(root: Path) -> None:
    """Deletes the run folders that were set aside; takes a while where they are large."""
    for path in root.glob(f"{DELETING}*"):
        remove_tree(path, ignore_errors=True)
