"""Faults that an engine meets at a named moment, without a look at the clock.

The environment variable ENGINE_FAULT holds one, as `Fault.text` writes it; quick_engine puts it in
force. The moment is the event that tells of a phase, or the writing of a file of the run folder.
"""

import errno
import json
import os
import shutil
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "ENGINE_FAULT"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
REFUSED = {"full": errno.ENOSPC, "read-only": errno.EROFS}  # what the system answers to a writer
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod")


@dataclass(frozen=True)
class Fault:
    """kind: 'killed', 'full', 'read-only', 'moved' (to the folder's name with '-moved' behind it),
    'deleted', or 'record', which appends the names of written files to the file `path`.
    folder: the run folder.
    phase, file: the moment; the file is a path below the folder.
    until: phase in which the fault is mended."""

    kind: str
    folder: str
    phase: str = ""
    file: str = ""
    until: str = ""
    path: str = ""

    @property
    def text(self):
        return json.dumps(asdict(self))


def moved(folder):
    return Path(f"{folder}-moved")


class Injection:
    """A fault in the engine's own process."""

    def __init__(self, fault):
        self.fault, self.folder, self.active = fault, Path(fault.folder), fault.kind == "record"
        self.busy = False

    def happens(self):
        """At its moment."""
        if self.active:
            return
        self.active = True
        if self.fault.kind == "killed":
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        elif self.fault.kind == "moved":
            os.rename(self.folder, moved(self.folder))
        elif self.fault.kind == "deleted":  # at one blow, whatever the client writes meanwhile
            os.rename(self.folder, moved(self.folder))
            shutil.rmtree(moved(self.folder))

    def told(self, phase):
        """When the engine tells of a phase."""
        if self.fault.until and phase == self.fault.until:
            self.active = False
        elif phase == self.fault.phase:
            self.happens()

    def watch(self, event, arguments):
        """Sees what the process does with files; an error raised here is the system's answer."""
        if self.busy or not (event in CHANGES or event == "open"):
            return
        if event == "open" and not (arguments[2] or 0) & WRITING:
            return
        path = arguments[1] if event == "os.rename" else arguments[0]
        if not isinstance(path, (str, os.PathLike)) or self.folder not in Path(path).parents:
            return
        self.busy = True
        try:
            self.written(Path(path), event)
        finally:
            self.busy = False

    def written(self, path, event):
        name = path.relative_to(self.folder).as_posix()
        if self.fault.kind == "record" and event in ("os.rename", "open"):
            with open(self.fault.path, "a", encoding="utf-8") as file:
                file.write(f"{name}\n")
        if name == self.fault.file:
            self.happens()
        if self.active and self.fault.kind in REFUSED:
            number = REFUSED[self.fault.kind]
            raise OSError(number, os.strerror(number), str(path))


def install():
    """Puts the fault that the environment names in force in this process, if it names one."""
    if VARIABLE not in os.environ:
        return
    from SparseSegNetLib.runfolder import protocol

    injection = Injection(Fault(**json.loads(os.environ[VARIABLE])))
    encode = protocol.encode

    def encoded(kind, name, **data):
        if name == "progress":
            injection.told(data["phase"])
        return encode(kind, name, **data)

    protocol.encode = encoded
    sys.addaudithook(injection.watch)
