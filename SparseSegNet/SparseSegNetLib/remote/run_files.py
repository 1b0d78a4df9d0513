"""The files of a run folder that go from one computer to the other, and those that have changed.

What comes from elsewhere is written only where a file of a run folder belongs: names are compared
with a list of forms, and no link is followed.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ..runfolder.checkpoints import readable_checkpoints
from ..runfolder.checksums import sha256_of
from ..runfolder.links import refuse_link

_NUMBER = r"[0-9]{1,6}"
_ENGINES = (
    r"run\.json|metrics\.jsonl|checkpoint/(?:model|state)\.safetensors"
    rf"|(?:preview|result)/{_NUMBER}(?:-[a-z0-9]{{1,20}})?\.(?:npy|json)"
)
_LABELS = rf"inputs/{_NUMBER}/(?:labels\.npy|slices\.json)"
# What the engine writes; the checkpoint before the newest one is needed only where that is damaged,
# which here it cannot be.
ENGINES = re.compile(_ENGINES)
LABELS = re.compile(_LABELS)  # what the client may change while the engine works
ALL = re.compile(
    rf"{_ENGINES}|{_LABELS}|inputs/{_NUMBER}/(?:image\.npy|geometry\.json|prior(?:-known)?\.npy)"
    r"|inputs/model\.safetensors|checkpoint/state-previous\.safetensors"
)
LARGE = re.compile(r"checkpoint/.*")  # sent when nothing else is waiting
NEWEST, BEFORE = "state.safetensors", "state-previous.safetensors"


class PathError(ValueError):
    """A path is none of a file that may come."""


def place(root: Path, path: str, accepted: re.Pattern[str]) -> Path:
    """The file that a path from the other computer means.

    Args:
        root: The run folder.
        path: Relative, with slashes.
        accepted: The forms of paths that may come.

    Raises:
        PathError: It is none of them.
        InputError: A link lies on the way.
    """
    if accepted.fullmatch(path) is None:
        raise PathError(f"the file {path[:80]!r}")
    found = root
    for part in path.split("/"):
        found = found / part
        refuse_link(found)
    return found


def listed(root: Path, accepted: re.Pattern[str]) -> dict[str, tuple[int, int, int]]:
    """The files of these forms that are there, each with what changes when it is replaced."""
    found = {}
    for folder, below, names in os.walk(root):
        here = Path(folder).relative_to(root).as_posix()
        below[:] = [name for name in below if not (Path(folder) / name).is_symlink()]
        for name in names:
            path = name if here == "." else f"{here}/{name}"
            if accepted.fullmatch(path) is None:
                continue
            try:
                about = os.lstat(root / path)
            except OSError:
                continue  # it was replaced or removed just now
            if stat.S_ISREG(about.st_mode):
                found[path] = (about.st_mtime_ns, about.st_size, about.st_ino)
    return found


class Changed:
    """Tells which files have changed since they were last looked at.

    Args:
        root: The run folder.
        accepted: The forms of their paths.
    """

    def __init__(self, root: Path, accepted: re.Pattern[str]):
        self._root, self._accepted = root, accepted
        self._known = listed(root, accepted)

    def look(self) -> tuple[list[str], list[str]]:
        """The files that are new or have changed, and those that have gone, since the last look."""
        now, before = listed(self._root, self._accepted), self._known
        self._known = now
        # Slices before their labels: to the engine a slice without labels is an incomplete one.
        changed = sorted((p for p in now if now[p] != before.get(p)), reverse=True)
        return changed, [p for p in before if p not in now]


def contents(root: Path, accepted: re.Pattern[str]) -> dict[str, str]:
    """SHA-256 of all files of these forms."""
    return {path: sha256_of(root / path) for path in sorted(listed(root, accepted))}


def steps_taken(root: Path, *names: str) -> int:
    """Steps of a run folder's newest checkpoint, or of these; -1 without one."""
    paths = [root / "checkpoint" / name for name in names or (NEWEST, BEFORE)]
    state = next(readable_checkpoints(paths), None)
    steps = -1 if state is None else state[1].get("steps")
    return steps if type(steps) is int else -1
