"""Commands of the client: a thread reads stdin, the training looks at them between steps."""

from __future__ import annotations

import os
import sys
import threading

from ...runfolder.exit_codes import CANCELLED
from ...runfolder.messages import ProtocolError, check_message
from ...runfolder.protocol import LineBuffer, decode

GONE_AFTER = 4.0  # seconds that the engine has to end by itself when its client is gone


class Commands:
    """Commands that the client has sent.

    Commands other than stop, cancel and pause are kept until `take`, the newest alone of each kind,
    so that nothing grows however often a client repeats itself.

    Attributes:
        stop: An event, set once the client wants the best result so far.
        cancel: An event, set once the client gives the run up.
        interrupted: Whether the cancel is to leave a checkpoint of this moment.
    """

    def __init__(self):
        self.stop = threading.Event()
        self.cancel = threading.Event()
        self.interrupted = False
        self._pause = False
        self._news = threading.Condition()
        self._waiting: dict[tuple, dict] = {}

    @property
    def paused(self) -> bool:
        """True while the client wants a pause and no end."""
        return self._pause and not (self.stop.is_set() or self.cancel.is_set())

    def urgent(self, *names: str) -> bool:
        """Tells whether an end, a pause or one of these commands is wanted."""
        with self._news:
            wanted = any(name in names for name, _ in self._waiting)
        return wanted or self.paused or self.stop.is_set() or self.cancel.is_set()

    def interrupt(self, number: int, frame: object) -> None:
        """Handles a signal: the system wants the process to end."""
        self.interrupted = True
        # In a thread, since the one that the signal broke into may hold a lock that is needed.
        threading.Thread(target=self.put, args=({"command": "interrupt"},), daemon=True).start()

    def listen(self, descriptor: int) -> None:
        """Reads commands from a client's file descriptor from now on, in a thread."""
        threading.Thread(target=self._listen, args=(descriptor,), daemon=True).start()

    def _listen(self, descriptor: int) -> None:
        lines = LineBuffer()
        # Unbuffered reads: a thread inside sys.stdin's lock would abort the interpreter's exit.
        while data := os.read(descriptor, 65536):
            for line in lines.feed(data):
                message = decode(line, "command")
                if message is None or not self.put(message):
                    print(f"not a command: {line[:200]!r}", file=sys.stderr, flush=True)
        # The end of stdin means that the client has gone: nobody waits for the result. What is
        # written is written whole, so that an end at any moment loses no more than the moment.
        self.put({"command": "cancel"})
        timer = threading.Timer(GONE_AFTER, os._exit, (CANCELLED,))
        timer.daemon = True
        timer.start()

    def put(self, message: dict) -> bool:
        """Accepts a command; False when there is none of that name and form."""
        try:
            check_message(message, "command")
        except ProtocolError:
            return False
        name, number = message["command"], message.get("input", 1)
        with self._news:
            if name == "stop":
                self.stop.set()
            elif name in ("cancel", "interrupt"):
                self.interrupted |= name == "interrupt"
                self.cancel.set()
            elif name in ("pause", "resume"):
                self._pause = name == "pause"
            elif name in ("labels-changed", "preview"):
                self._waiting[name, number] = message
            elif name == "set":
                self._waiting[name, None] = {**self._waiting.get((name, None), {}), **message}
            else:
                return False
            self._news.notify_all()
        return True

    def take(self) -> list[dict]:
        """Takes the commands that wait, oldest first."""
        with self._news:
            taken = list(self._waiting.values())
            self._waiting.clear()
        return taken

    def wait(self, seconds: float) -> None:
        """Sleeps until a command arrives, at most so long."""
        with self._news:
            self._news.wait(seconds)
