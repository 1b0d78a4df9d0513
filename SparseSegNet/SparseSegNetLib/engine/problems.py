"""From an exception to a cause and a remedy in the user's words."""

from __future__ import annotations

import errno

from ..errors import EngineError


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(
        said in text for said in ("out of memory", "can't allocate memory")))


def classify(error: BaseException) -> EngineError:
    """The EngineError that explains an unexpected exception."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if out_of_memory(error):
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
