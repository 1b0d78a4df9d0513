"""The signals by which a system asks a program to end, and what the command line makes of them."""

from __future__ import annotations

import signal
from collections.abc import Callable

# SIGBREAK is Windows' (Ctrl-Break, and the only one that a program there can answer); SIGHUP comes
# when a terminal closes.
NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")


class Terminated(KeyboardInterrupt):
    """The system, or a batch system, wants this program to end in order."""


def answer(handler: Callable[[int, object], None], *others: str) -> None:
    """Call `handler` when this process is asked to end. others: further signals, by name.

    What is ignored from outside, as SIGHUP under nohup, stays so.
    """
    for name in (*NAMES, *others):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def raise_terminated(number: int, frame: object) -> None:
    """A handler: raises Terminated in the main thread."""
    raise Terminated
