"""The exit codes of the command line and of the engine's process."""

from __future__ import annotations

DONE, SOME_FAILED, BAD_INPUT, CANCELLED, NO_DEVICE, INTERNAL = range(6)
_OF_ERRORS = {
    "input": BAD_INPUT,
    "locked": BAD_INPUT,
    "cancelled": CANCELLED,
    "interrupted": CANCELLED,
    "rank-lost": CANCELLED,
    "workers-lost": CANCELLED,
    "no-device": NO_DEVICE,
}


def exit_code(error_code: str) -> int:
    """Exit code of a process that ends with an EngineError of this code."""
    return _OF_ERRORS.get(error_code, INTERNAL)
