"""Signals by which a system asks a program to end, and how the command line handles them."""

from __future__ import annotations

import signal
from collections.abc import Callable

# SIGBREAK is Windows' (Ctrl-Break, and the only one that a program there can answer); SIGHUP comes
# when a terminal closes.
NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")


class Terminated(KeyboardInterrupt):
    """The system, or a batch system, asks this program to end."""


def answer(handler: Callable[[int, object], None], *others: str) -> None:
    """Has `handler` called when this process is asked to end.

    A signal that is ignored from outside, as SIGHUP under nohup, stays ignored.

    Args:
        handler: A signal handler.
        *others: Names of further signals to handle.
    """
    for name in (*NAMES, *others):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def raise_terminated(number: int, frame: object) -> None:
    """Signal handler that raises Terminated in the main thread."""
    raise Terminated
