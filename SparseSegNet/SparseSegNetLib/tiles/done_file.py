"""The small file beside a store that says which of its tiles are done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runfolder.atomic import atomic_path
from ..runfolder.checksums import sha256_of
from ..runfolder.file_retries import remove

ENDING = ".tiles"
SCHEMA = 1


class DoneFile:
    """The task that a store is written for, and the tiles that are done.

    The first line is the task as JSON, each further line the number of a tile whose chunks are
    written. A line that was cut off does not count: that tile is computed again.

    Args:
        store: The store, beside which the file lies.
        task: What is computed.
        done: Numbers of the tiles that are done.
    """

    def __init__(self, store: Path, task: dict[str, Any], done: Iterable[int] = ()):
        self.path, self.task, self.done = beside(store), task, set(done)

    @classmethod
    def create(cls, store: Path, task: dict[str, Any]) -> DoneFile:
        """Begins a file for a new store.

        Raises:
            OSError: It cannot be written.
        """
        made = cls(store, task)
        with atomic_path(made.path) as temporary:
            line = json.dumps({"sparsesegnet": SCHEMA, **task}, allow_nan=False)
            temporary.write_text(line + "\n", encoding="utf-8")
        return made

    @classmethod
    def open(cls, store: Path) -> DoneFile | None:
        """Reads the file of a store; None if there is none.

        Raises:
            InputError: It is damaged.
        """
        path = beside(store)
        if not path.is_file():
            return None
        try:
            head, *rest = path.read_text(encoding="utf-8").split("\n")
            task = json.loads(head)
            if task.pop("sparsesegnet") != SCHEMA:
                raise ValueError("it is of another version")
            whole = rest[:-1]  # behind the last line's end there is nothing, or a part of a line
            return cls(store, task, [int(line) for line in whole if line.isdecimal()])
        except (ValueError, KeyError, AttributeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}, which says what of {store} is done, is damaged ({error}): delete both "
                "and begin again."
            ) from error

    def add(self, number: int) -> None:
        """Notes a tile whose chunks are written.

        Raises:
            OSError: It cannot be written.
        """
        with self.path.open("r+b") as file:
            # A part of a line that a full disk or a lost power left must not begin this one.
            content = file.read()
            file.seek(content.rfind(b"\n") + 1)
            file.truncate()
            file.write(f"{number}\n".encode())
        self.done.add(number)

    def check(self, task: dict[str, Any], words: Callable[[str], str] = str) -> None:
        """Raises InputError unless the same is to be computed as before."""
        for key, value in task.items():
            if self.task.get(key) != value:
                raise InputError(
                    f"{self.path} was begun with another {words(key)} ({self.task.get(key)}, now "
                    f"{value}): --resume goes on with the same alone. Name another output, or "
                    "delete both to begin again."
                )

    def finish(self) -> None:
        """Removes the file: all is done."""
        remove(self.path)


def beside(store: Path) -> Path:
    """The file of a store."""
    return store.with_name(store.name + ENDING)


def digest(path: Path) -> str:
    """A short number that tells the content of a file from that of others."""
    return sha256_of(path)[:16]
