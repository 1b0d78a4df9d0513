"""Moves run folders from one place to another, so that an interruption loses and doubles nothing.

A run that has moved holds a file that names where it lay, by which scenes that were saved before
still find it. On one disk a run is renamed. To another disk it is renamed beside itself first, so
that nobody goes on with it, then copied under a temporary name, renamed, and deleted; whatever was
interrupted is taken up by the next attempt.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from ..errors import EngineError, InputError
from .atomic import write_json
from .file_retries import remove, remove_tree, rename
from .forms import read_json, record, text
from .lock import NAME as LOCK
from .lock import FolderLock
from .stored_runs import run_folders

MARK = "moved-from.json"
MOVING, COPYING = ".moving-", ".copying-"  # begin the names of folders on their way


def move_runs(old: Path, new: Path) -> list[Path]:
    """Moves all run folders of `old` on which no process works to `new`.

    Args:
        old: Their folder until now; removed once it is empty.
        new: Their folder from now on; made if there is anything to move.

    Returns:
        The folders that were moved, at their new place. What stays is tried again next time.

    Raises:
        OSError: One cannot be moved, for instance since the disk is full: it stays as it was.
    """
    if not old.is_dir() or old.is_symlink():
        return []
    try:
        lock = FolderLock(old)
    except (EngineError, InputError, OSError):
        return []  # another Slicer moves them at this moment
    moved = []
    with lock:
        halves = sorted(old.glob(f"{MOVING}*"))
        runs = run_folders(old)
        if halves or runs:
            new.mkdir(parents=True, exist_ok=True)
        for path in halves:
            place = old / path.name.removeprefix(MOVING)
            if (target := _copied(path, place, new)) is not None:
                moved.append(target)
        for path in runs:
            if (target := _moved(path, new)) is not None:
                moved.append(target)
    with suppress(OSError):  # it may hold more, or another Slicer has just looked
        if {p.name for p in old.iterdir()} <= {LOCK}:
            remove(old / LOCK)
            old.rmdir()
    return moved


def _moved(path: Path, new: Path) -> Path | None:
    """The new place of a run that was moved; None if a process works on it."""
    try:
        with FolderLock(path):
            write_json(path / MARK, {"path": str(path), "id": uuid.uuid4().hex})
    except (EngineError, InputError):
        return None
    target = _free(new / path.name)
    try:
        rename(path, target)
        return target
    except PermissionError:
        return None  # on Windows a process has a file of it open
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    aside = path.with_name(MOVING + path.name)
    try:
        rename(path, aside)
    except PermissionError:
        return None
    return _copied(aside, path, new)


def _copied(aside: Path, path: Path, new: Path) -> Path | None:
    """The new place of a run that lay at `path`, lies at `aside` and is copied to another disk.

    None if `aside` is no run, nor what is left of one that was copied.
    """
    mark = _mark(aside)
    for run in run_folders(new):
        found = _mark(run)
        # Of a run whose deletion was interrupted the mark may be gone.
        if found is not None and (found == mark or (mark is None and found["path"] == str(path))):
            remove_tree(aside)
            return run
    if not (aside / "run.json").is_file():
        return None
    part = new / (COPYING + path.name)
    remove_tree(part)
    try:
        shutil.copytree(aside, part, symlinks=True, ignore=shutil.ignore_patterns(LOCK))
        target = _free(new / path.name)
        rename(part, target)
    except BaseException:
        remove_tree(part, ignore_errors=True)
        if not path.exists():
            rename(aside, path)
        raise
    remove_tree(aside)
    return target


def _free(path: Path) -> Path:
    """The path, or with a number behind it the first one that does not exist."""
    number, found = 1, path
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def _mark(run: Path) -> dict | None:
    """The place of a run folder before it was moved, and the id of that move; None without one."""
    file = run / MARK
    if not file.is_file():
        return None
    try:
        return read_json(file, record({"path": text(), "id": text()}), "")
    except InputError:
        return None


def moved_from(run: Path) -> str:
    """The path at which a run folder lay before it was moved; empty if it was not."""
    mark = _mark(run)
    return "" if mark is None else mark["path"]


def found_again(path: str, new: Path) -> str:
    """The path of a run folder, or of a file in one, that may have been moved.

    Args:
        path: As it was stored.
        new: Where runs lie that were moved.

    Returns:
        Its new path if there is nothing at the old one any more; else `path`.
    """
    if not path or os.path.lexists(path):
        return path
    wanted = Path(path)
    places = {moved_from(run): run for run in run_folders(new)}
    for folder in (wanted, *wanted.parents):
        if (run := places.get(str(folder))) is not None:
            return str(run / wanted.relative_to(folder))
    return path
