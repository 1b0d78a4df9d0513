"""One job over there: brings the run folder up to date, runs the engine and sends back its files.

When the connection is lost the engine writes a checkpoint and ends: nothing runs on unwatched.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

from ..client.popen_transport import PopenTransport
from ..errors import EngineError, InputError
from ..runfolder.disk_faults import disk_full
from ..runfolder.exit_codes import CANCELLED, DONE
from ..runfolder.file_retries import remove, remove_tree
from ..runfolder.lock import FolderLock, in_use
from ..runfolder.protocol import LineBuffer, decode, encode
from ..runfolder.signals import answer
from ..runfolder.stored_runs import discard_runs, sweep_discarded
from .frames import FrameError, Frames, text_of
from .life import Life
from .outbox import Outbox
from .run_files import ALL, ENGINES, LABELS, contents, place, steps_taken
from .transfer import KINDS, Receiver, Sender

TO_END = 30.0  # seconds that the engine has to write its checkpoint
FOR_AN_ORPHAN = 40.0  # seconds to wait for an engine whose connection was lost
KEPT = 7 * 86400.0  # seconds that the folder of an interrupted run is kept
CODE_KEPT = 30 * 86400.0
NAME = re.compile(r"[a-z0-9-]{1,60}")


class Service:
    """Serves one job of a proxy.

    Args:
        frames: The connection.
        root: Folder for runs and code.
    """

    def __init__(self, frames: Frames, root: Path):
        self._frames, self._root, self._runs = frames, root, root / "runs"
        self._worker: PopenTransport | None = None
        self._receiver: Receiver | None = None
        self._gone = self._ending = self._cancelled = self._arrived = False
        self._bye = threading.Event()
        self._commands = LineBuffer()
        answer(lambda number, frame: self._end_engine())
        self._life = Life(frames, self._lost)

    def serve(self) -> int:
        """Serves the job; returns an exit code for this process."""
        header, about = self._life.expect("open")
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            self._root.chmod(0o700)  # scans are nobody else's
            self._sweep()
            if header.get("run") is None:
                folder = None
                start, _ = self._life.expect("start")
            else:
                folder = self._folder(text_of(header, "run"))
                start = self._synchronise(folder, about)
            where = str(folder or self._runs)
            # Before the engine begins: all that it writes is a change.
            outbox = None if folder is None else Outbox(self._frames, folder)
            self._worker = PopenTransport(
                [where if a is None else str(a) for a in start["arguments"]]
            )
        except (InputError, EngineError) as error:
            self._fault(error)
            return CANCELLED
        except OSError as error:
            self._fault_of_disk(error)
            return CANCELLED
        threading.Thread(target=self._listen, daemon=True).start()
        code = self._follow(outbox)
        if not self._gone:
            with suppress(OSError, ValueError):
                self._frames.send("exit", code=code)
            self._bye.wait(TO_END)
        # All has arrived when the proxy says so; a run that is over leaves nothing here.
        over = self._cancelled or (code == DONE and self._arrived)
        if folder is not None and over:
            remove_tree(folder, ignore_errors=True)
        return CANCELLED if self._gone and not self._arrived else DONE

    def _folder(self, name: str) -> Path:
        if NAME.fullmatch(name) is None:
            raise InputError(f"{name[:80]!r} is no name of a run.")
        folder = self._runs / name
        folder.mkdir(exist_ok=True)
        return folder

    def _sweep(self) -> None:
        """Deletes runs and code that nobody has used for long."""
        runs = [p for p in self._runs.glob("run-*") if _age(p) > KEPT and not in_use(p)]
        discard_runs(runs)
        sweep_discarded(self._runs)
        for code in (self._root / "code").glob("*"):
            if _age(code) > CODE_KEPT:
                remove_tree(code, ignore_errors=True)

    def _synchronise(self, folder: Path, payload: bytes) -> dict:
        """Makes both folders the same, the newer checkpoint first; returns the 'start' message."""
        with _lock_of(folder):
            theirs = json.loads(payload)
            newer = steps_taken(folder) > theirs["steps"]
            if newer:
                sender, mine = Sender(self._frames, folder), contents(folder, ENGINES)
                for path in (p for p in mine if mine[p] != theirs["files"].get(p)):
                    sender.send(path)
            self._frames.send("opened", newer=newer, folder=str(folder))
            _, payload = self._life.expect("files")
            wanted, mine = json.loads(payload), contents(folder, ALL)
            for path in (p for p in mine if p not in wanted):
                remove(place(folder, path, ALL))
            missing = [p for p in wanted if wanted[p] != mine.get(p)]
            self._frames.send("wanted", json.dumps(missing).encode())
            receiver = Receiver(folder, ALL)
            try:
                while (found := self._life.receive())[0]["kind"] in KINDS:
                    receiver.handle(*found)
            finally:
                receiver.close()
        if found[0]["kind"] != "start":
            raise FrameError("no start")
        for sub in ("checkpoint", "preview", "result"):
            (folder / sub).mkdir(exist_ok=True)
        self._receiver = Receiver(folder, LABELS)
        return found[0]

    def _listen(self) -> None:
        """Takes messages of the proxy while the engine works."""
        try:
            while True:
                header, payload = self._life.receive()
                kind = header["kind"]
                if kind == "line":
                    self._command(payload)
                elif kind == "gone":
                    self._end_engine()
                elif kind == "bye":
                    self._arrived = True
                    self._bye.set()
                elif kind in KINDS and self._receiver is not None:
                    self._receiver.handle(header, payload)
        except (EOFError, ValueError):
            self._lost()
        except OSError as error:
            self._fault_of_disk(error)
            self._end_engine()

    def _command(self, data: bytes) -> None:
        for line in self._commands.feed(data):
            command = decode(line, "command")
            self._cancelled |= command is not None and command["command"] == "cancel"
        if self._worker is not None:
            self._worker.send(data)
            if self._cancelled:
                self._worker.close_input()  # so it ends within seconds

    def _follow(self, outbox: Outbox | None) -> int:
        """Sends what the engine prints, and its files; returns its exit code."""
        worker = self._worker
        assert worker is not None
        while True:
            busy = outbox is not None and outbox.waiting and not self._gone
            chunk = worker.receive(0.0 if busy else 0.5)
            try:
                if chunk is None:
                    if busy and outbox is not None:
                        outbox.some()
                elif chunk[0] == "end":
                    if outbox is not None and not self._gone:
                        outbox.rest()
                    return chunk[1]
                elif not self._gone:
                    if outbox is not None and chunk[0] == "out":
                        outbox.look()
                    self._frames.send(chunk[0], chunk[1])
            except (OSError, ValueError):
                self._lost()
                if chunk is not None and chunk[0] == "end":
                    return chunk[1]

    def _lost(self) -> None:
        """The connection has ended: so does the engine, whose output goes nowhere any more."""
        self._gone = True
        self._bye.set()
        self._end_engine()

    def _end_engine(self) -> None:
        """Has the engine write a checkpoint and end, unless it was cancelled."""
        if self._ending:
            return
        self._ending = True
        if self._worker is None:
            if self._gone:
                _end_at_once()
            return
        if not self._cancelled:
            self._worker.send(encode("command", "interrupt"))
        timer = threading.Timer(TO_END, self._kill)
        timer.daemon = True
        timer.start()

    def _kill(self) -> None:
        if self._worker is not None:
            self._worker.kill()
        if self._gone:  # the main thread may wait for a line that is dead
            _end_at_once()

    def _fault_of_disk(self, error: OSError) -> None:
        if disk_full(error):
            self._fault(
                EngineError(
                    "remote-disk-full",
                    f"the other computer's disk, or your quota on it, is full ({self._runs}).",
                    "Free some space there, or have SPARSESEGNET_DATA name another folder there.",
                )
            )
            return
        name = error.filename or self._runs
        self._fault(
            EngineError(
                "remote",
                f"{name} on the other computer: {error.strerror or error}.",
                "Check the rights of that folder there, or have SPARSESEGNET_DATA name another.",
            )
        )

    def _fault(self, error: InputError | EngineError) -> None:
        if isinstance(error, InputError):
            error = EngineError("remote", str(error), "")
        with suppress(OSError, ValueError):
            self._frames.send("fault", code=error.code, cause=error.cause, remedy=error.remedy)


def _end_at_once() -> None:
    os._exit(CANCELLED)


def _age(folder: Path) -> float:
    """Seconds since something in a run folder was replaced, by this computer's own clock."""
    newest = 0.0
    for path in (folder, folder / "checkpoint", folder / "preview"):
        with suppress(OSError):
            newest = max(newest, path.stat().st_mtime)
    return time.time() - newest


def _lock_of(folder: Path) -> FolderLock:
    end = time.monotonic() + FOR_AN_ORPHAN
    while True:
        try:
            return FolderLock(folder)
        except EngineError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.1)
