"""From an exception to a cause and a remedy in the user's words."""

from __future__ import annotations

import errno

from ..errors import EngineError


def classify(error: BaseException) -> EngineError:
    """The EngineError that explains an unexpected exception."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    low = text.lower()
    if isinstance(error, MemoryError) or "out of memory" in low or "can't allocate memory" in low:
        return EngineError("out-of-memory", f"out of memory ({text}).",
                           "Close other programs, or use --device cpu, or crop the volume.")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return EngineError("disk-full", "the disk is full.",
                           "Free some space, or choose another run folder.")
    if isinstance(error, ImportError):
        return EngineError("torch", f"a library cannot be loaded ({text}).",
                           "Install torch and safetensors again.")
    if isinstance(error, OSError):
        return EngineError("files", f"a file cannot be read or written ({text}).",
                           "Check the run folder's rights and free space.")
    return EngineError("internal", f"{type(error).__name__}: {text}.",
                       "This is a fault in SparseSegNet: please report it with the log.")
