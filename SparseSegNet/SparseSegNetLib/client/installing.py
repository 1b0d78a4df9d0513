"""The process of an installation: runs programs one after the other and reports in JSON lines.

``python -m SparseSegNetLib.client.installing STEPS`` runs Python with the arguments of each step, a
JSON list of lists: an installation in this Python. The engine's own environment is made by
`make_environment`, by the same means.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import EngineError
from ..runfolder.local_data import local_data_folder
from ..runfolder.lock import FolderLock
from . import ended_together

FAILED = 1
RAW_PROGRESS = (24, 1)  # the oldest pip that tells bytes without a terminal
_OF_PIP = re.compile(r"Progress (\d+) of (\d+)")
_writing = threading.Lock()


def report(event: str, **fields) -> None:
    """Prints an event: started, step, said, size, failed or done."""
    with _writing:
        print(json.dumps({"event": event, **fields}), flush=True)


class StepFailed(Exception):
    """A program ended with an error; its last lines tell why.

    Attributes:
        lines: Of its output.
        code: Its exit code.
    """

    def __init__(self, lines: Sequence[str], code: int):
        super().__init__(lines[-1] if lines else f"exit code {code}")
        self.lines, self.code = list(lines), code


def run(
    command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> list[str]:
    """Runs a program and reports its output line by line.

    Args:
        command: The program and its arguments.
        environment: Its variables; this process's by default.
        folder: Its current folder.

    Returns:
        The last lines of its output.

    Raises:
        StepFailed: It cannot be started, or ends with an error.
    """
    lines: deque[str] = deque(maxlen=100)
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            cwd=folder,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise StepFailed([f"{command[0]}: {error.strerror or error}"], FAILED) from error
    assert process.stdout is not None
    for data in process.stdout:
        text = data.decode("utf-8", "replace").strip()
        if found := _OF_PIP.fullmatch(text):
            report("size", bytes=int(found[1]), total=int(found[2]))
        elif text:
            lines.append(text)
            report("said", line=text)
    if code := process.wait():
        raise StepFailed(lines, code)
    return list(lines)


def pip_environment() -> dict[str, str]:
    """This process's variables, and those with which pip tells its progress."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    with suppress(importlib.metadata.PackageNotFoundError):
        found = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("pip"))
        if found and (int(found[1]), int(found[2])) >= RAW_PROGRESS:
            environment["PIP_PROGRESS_BAR"] = "raw"
    return environment


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of an installation, in a folder that is made where it is missing.

    Raises:
        EngineError: Another program holds it.
        OSError: The folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FolderLock(folder)
    except EngineError as error:
        raise EngineError(
            "locked",
            "another Slicer, or a command, is installing or removing what the engine needs.",
            "Wait until it is done, then check again.",
        ) from error
    with lock:
        yield


def in_this_python(steps: Sequence[Sequence[str]]) -> None:
    """Runs Python with the arguments of each step.

    Raises:
        EngineError: Another installation of this user runs.
        StepFailed: A step ends with an error; later ones are not begun.
    """
    with ExitStack() as held:
        with suppress(OSError):  # pip tells whether it can write where it has to
            held.enter_context(locked(local_data_folder() / "installing"))
        for number, arguments in enumerate(steps, 1):
            report("step", number=number, count=len(steps))
            run([sys.executable, "-u", *arguments], pip_environment())


def whole(work: Callable[[], object]) -> int:
    """Runs the work of an installing process, which ends with whatever it started.

    Args:
        work: It raises StepFailed, EngineError or OSError where it fails.

    Returns:
        The exit code.
    """
    ended_together.begin()
    report("started", pid=os.getpid())
    try:
        work()
    except StepFailed as error:
        report("failed", code=error.code)
        return FAILED
    except EngineError as error:
        report("failed", problem=error.code, cause=error.cause, remedy=error.remedy)
        return FAILED
    except OSError as error:
        report("said", line=str(error))
        report("failed")
        return FAILED
    report("done")
    return 0


if __name__ == "__main__":
    sys.exit(whole(lambda: in_this_python(json.loads(sys.argv[1]))))
