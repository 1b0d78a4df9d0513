"""Lock of a run folder: one engine at a time owns it."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import EngineError
from .links import refuse_link

NAME = "lock"
# The locked byte lies behind the text: on Windows nobody else may read what is locked.
OFFSET = 1 << 20
HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


class FolderLock:
    """Lock that is held from construction to `release`, or until the process ends in any way.

    The system's file lock decides, so that the lock of a process that was killed is free at once;
    pid and host in the file are for the message. Where the file system has no locks, the pid
    decides on the same host.

    Args:
        folder: The run folder.

    Raises:
        EngineError: Another process holds the lock (code 'locked').
        InputError: A link lies in the place of the lock file.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        refuse_link(self.path)
        # Opened by descriptor, since writing must not truncate what another owner wrote.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        self._descriptor: int | None = descriptor
        try:
            _lock(descriptor)
        except OSError as error:
            holder = _holder(self.path)
            if error.errno in HELD or _still_there(holder):
                os.close(descriptor)
                who = f"process {holder['pid']} on {holder['host']}" if holder else "a process"
                raise EngineError(
                    "locked",
                    f"another engine works on the run folder {folder} ({who}).",
                    "Wait for it, cancel it, or choose another run folder."
                    + ("" if error.errno in HELD else f" If it is gone, delete {self.path}."),
                ) from error
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text)

    def release(self) -> None:
        """Frees the lock; a second call does nothing."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_) -> None:
        self.release()


def _lock(descriptor: int) -> None:
    """Take the system's lock without waiting; OSError when it is held or there is none."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def in_use(folder: Path) -> bool:
    """True if a process works on a run folder, as its lock file says; the lock is not touched."""
    return _still_there(_holder(folder / NAME))


def _holder(path: Path) -> dict | None:
    """Process and host that a lock file names; None if it names none."""
    try:
        found = json.loads(path.read_text(encoding="ascii"))
        return {"pid": int(found["pid"]), "host": str(found["host"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _still_there(holder: dict | None) -> bool:
    """True if the process that wrote a lock lives, as far as can be seen from here."""
    if holder is None or holder["pid"] == os.getpid():
        return False
    return holder["host"] != socket.gethostname() or alive(holder["pid"])


def alive(pid: int) -> bool:
    """True if there is a process with this number on this machine."""
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # may be asked about
        if not handle:
            return False
        code = ctypes.c_ulong()
        ctypes.windll.kernel32.GetExitCodeProcess(handle, ctypes.byref(code))
        ctypes.windll.kernel32.CloseHandle(handle)
        return code.value == 259  # STILL_ACTIVE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
