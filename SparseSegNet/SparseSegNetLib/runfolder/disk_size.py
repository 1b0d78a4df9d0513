"""Bytes that folders take on the disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def size_of(*folders: Path) -> int:
    """Bytes of all files in folders; a file with several names counts once.

    Folders that do not exist, and files that vanish meanwhile, have none.
    """
    total, seen, todo = 0, set(), list(folders)
    while todo:
        with suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with suppress(OSError):  # it may be gone again
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(Path(entry.path))
                        continue
                    found = entry.stat(follow_symlinks=False)
                    if found.st_nlink > 1:
                        if (key := (found.st_dev, found.st_ino)) in seen:
                            continue
                        seen.add(key)
                    total += found.st_size
    return total
