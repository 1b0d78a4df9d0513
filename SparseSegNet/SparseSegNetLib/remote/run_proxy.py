"""A run whose engine works over there, from the side of its client."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import EngineError, InputError
from ..runfolder.atomic import write_json
from ..runfolder.changes import Changes
from ..runfolder.checkpoints import ELSEWHERE
from ..runfolder.disk_faults import disk_fault
from ..runfolder.exit_codes import CANCELLED
from ..runfolder.file_retries import remove
from ..runfolder.folder import RunFolder
from ..runfolder.forms import parse_json
from ..runfolder.lock import FolderLock
from ..runfolder.phases import RemotePhase
from ..runfolder.protocol import LineBuffer, decode, encode
from ..runfolder.signals import answer
from .arrivals import Events, take_plan
from .connection import Connection
from .frames import FrameError, text_of, whole_of
from .link import Link
from .run_files import (
    ALL,
    BEFORE,
    ENGINES,
    LABELS,
    NEWEST,
    Changed,
    contents,
    steps_taken,
)
from .transfer import KINDS, Receiver, Sender

LOOK_AGAIN = 0.1  # seconds, whether the lock has become free
FOR_AN_ORPHAN = 40.0  # seconds to wait for a process of this run that is ending
TELL = 0.5  # seconds between messages of how much was sent


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser()
    top.add_argument("folder", type=Path)
    top.add_argument("--client", action="store_true")
    top.add_argument("--changes")
    top.add_argument("--wait", type=float, default=0.0)
    return top


class RunProxy:
    """Serves the client of a run.

    Args:
        connect: Begins the connection.
        module: The engine's module.
        arguments: Arguments of the engine's process.
        tell: Prints to the client.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        module: str,
        arguments: list[str],
        tell: Callable[[bytes], None],
    ):
        options = _parser().parse_args(arguments)
        self._connect, self._module, self._print = connect, module, tell
        self._folder: Path = options.folder
        # One whose client died may still be getting a checkpoint.
        patience = max(options.wait, FOR_AN_ORPHAN) if options.wait else 0.0
        self._changes, self._patience = options.changes, patience
        self._begun = time.monotonic()
        self._link: Link | None = None
        self._created = ""
        self._events = Events("", "", "")
        self._commands = threading.Lock()
        self._early: list[tuple[bytes, str]] = []  # commands before the engine has begun
        self._started = False
        self._labels: Changed | None = None

    def run(self) -> int:
        """Brings both folders to the same state, runs the engine, and returns its exit code.

        Raises:
            EngineError: No connection comes about, it is lost, or a fault is reported.
            InputError: The run folder, or what comes back into it, cannot be used.
        """
        answer(self._on_signal)
        threading.Thread(target=self._listen, daemon=True).start()
        self._created = RunFolder.open(self._folder).description.get("created", "")
        with self._lock():
            self._tell_phase(RemotePhase.CONNECTING)
            connection = self._connect()
            try:
                link = self._link = Link(connection)
                self._pull(link)
                if self._changes:
                    Changes.read(self._changes).apply(RunFolder.open(self._folder))
                self._push(link)
                return self._follow(link)
            except InputError:
                raise
            except ValueError as error:
                raise EngineError(
                    "remote",
                    f"what comes from the other computer is refused: {error}.",
                    "The run goes on from its last checkpoint when it is resumed.",
                ) from error
            except OSError as error:
                raise disk_fault(error, self._folder) from error
            except EngineError as error:
                if error.code == "connection-lost" and self._started:
                    raise EngineError(
                        "connection-lost",
                        error.cause,
                        "The engine there writes a checkpoint and ends. Resume the run once the "
                        "connection works again: it goes on from there ('sparsesegnet resume "
                        f'"{self._folder}"\' with the same --ssh).',
                    ) from error
                raise
            finally:
                connection.close()

    def _lock(self) -> FolderLock:
        end = time.monotonic() + self._patience
        while True:
            try:
                return FolderLock(self._folder)
            except EngineError:
                if time.monotonic() >= end:
                    raise
            time.sleep(LOOK_AGAIN)

    def _pull(self, link: Link) -> None:
        """Gets what the engine over there learnt since the connection was lost, if anything."""
        mine = {
            "steps": steps_taken(self._folder),
            "files": contents(self._folder, ENGINES),
        }
        link.send("open", json.dumps(mine).encode(), run=self._name())
        receiver = self._receiver()
        try:
            while (found := link.receive())[0]["kind"] != "opened":
                if found[0]["kind"] in KINDS:
                    receiver.handle(*found)
        finally:
            receiver.close()
        here = str(self._folder)
        self._events = Events(link.connection.host, text_of(found[0], "folder"), here)

    def _receiver(self) -> Receiver:
        taken = {"run.json": lambda data: take_plan(self._folder, data)}
        return Receiver(self._folder, ENGINES, durable=True, taken=taken)

    def _name(self) -> str:
        """The run's name over there: the same for the same run, another one for a copy of it."""
        about = f"{os.path.realpath(self._folder)}\n{self._created}"
        return f"run-{hashlib.sha256(about.encode()).hexdigest()[:20]}"

    def _push(self, link: Link) -> None:
        """Sends what differs over there, and starts the engine."""
        mine = contents(self._folder, ALL)
        if steps_taken(self._folder, NEWEST) >= 0:
            mine.pop(f"checkpoint/{BEFORE}", None)  # needed where the newest is damaged
        link.send("files", json.dumps(mine).encode())
        header, payload = link.receive()
        wanted = parse_json(payload) if header["kind"] == "wanted" else None
        if not isinstance(wanted, list):
            raise FrameError("no list of files")
        paths = [path for path in mine if path in wanted]
        sender = Sender(link.frames, self._folder)
        whole = sum((self._folder / p).stat().st_size for p in paths)
        sent, told = 0, 0.0
        with suppress(OSError, ValueError):  # where the connection is lost, `receive` tells why
            for path in paths:
                for count in sender.pieces(path):
                    sent += count
                    if time.monotonic() > told + TELL:
                        told = time.monotonic()
                        self._tell_phase(RemotePhase.SENDING, sent / max(whole, 1))
        with self._commands:
            self._labels = Changed(self._folder, LABELS)
            write_json(self._folder / ELSEWHERE, {"host": link.connection.host})
            link.send("start", arguments=["-m", self._module, None, "--client"])
            self._started = True
            for line, name in self._early:
                self._send_command(link, line, name)

    def _follow(self, link: Link) -> int:
        """Takes events and files until the engine has ended; returns its exit code."""
        lines, receiver, done, told = LineBuffer(), self._receiver(), False, 0.0
        try:
            while True:
                header, payload = link.receive()
                kind = header["kind"]
                if kind == "out":
                    for line in lines.feed(payload):
                        line, name = self._events.at_home(line)
                        done |= name == "done"
                        with suppress(OSError):  # the client has gone: `_listen` notices
                            self._print(line + b"\n")
                elif kind in KINDS:
                    receiver.handle(header, payload)
                    if done and time.monotonic() > told + TELL:
                        told = time.monotonic()
                        self._tell_phase(RemotePhase.RECEIVING)
                elif kind == "exit":
                    remove(self._folder / ELSEWHERE)  # all is here
                    link.send("bye")
                    return whole_of(header, "code", 1)
        finally:
            receiver.close()

    def _tell_phase(self, phase: str, fraction: float = 0.0) -> None:
        seconds = time.monotonic() - self._begun
        about = {"step": 0, "loss": None, "seconds": seconds, "remaining": None}
        with suppress(OSError):
            self._print(encode("event", "progress", phase=phase, fraction=fraction, **about))

    def _listen(self) -> None:
        """Takes the client's commands, and its end."""
        lines, cancelled = LineBuffer(), False
        with suppress(OSError):
            while data := os.read(0, 65536):
                for line in lines.feed(data):
                    command = decode(line, "command")
                    name = "" if command is None else command["command"]
                    cancelled |= name == "cancel"
                    self._pass_on(line, name)
        if not cancelled:
            self._pass_on(b"", "gone")

    def _pass_on(self, line: bytes, name: str) -> None:
        with self._commands:
            if self._started and self._link is not None:
                self._send_command(self._link, line, name)
            elif name in ("cancel", "interrupt", "gone"):
                self._end()
            else:
                self._early.append((line, name))

    def _send_command(self, link: Link, line: bytes, name: str) -> None:
        """Sends a command, and before it the labels that it tells of."""
        if name == "gone":
            link.send("gone")
            return
        if name == "labels-changed" and self._labels is not None:
            sender = Sender(link.frames, self._folder)
            with suppress(OSError, ValueError):
                for path in self._labels.look()[0]:
                    sender.send(path)
        link.send("line", line + b"\n")

    def _on_signal(self, number: int, frame: object) -> None:
        """Has the engine write a checkpoint and end, as it does upon a signal itself."""
        line = encode("command", "interrupt").rstrip()
        # In a thread, since the one that the signal broke into may hold a lock that is needed.
        threading.Thread(target=self._pass_on, args=(line, "interrupt"), daemon=True).start()

    def _end(self) -> None:
        """Ends this process before the engine over there has begun."""
        if self._link is not None:
            self._link.connection.kill()
        sys.stderr.flush()
        os._exit(CANCELLED)
