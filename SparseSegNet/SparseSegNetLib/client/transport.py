"""Which transport fits the process that we are in."""

from __future__ import annotations

import importlib.util
import sys


def start(arguments: list[str]):
    """Start Python with these arguments: as a QProcess in Slicer, with pipes elsewhere.

    In Slicer Python's threads stand still while the event loop waits, so that pipes that are read
    by threads would run full. Raises EngineError when nothing can be started.
    """
    if "qt" in sys.modules or importlib.util.find_spec("qt") is not None:
        from .qprocess_transport import QProcessTransport

        return QProcessTransport(arguments)
    from .popen_transport import PopenTransport

    return PopenTransport(arguments)
