"""Errors and warnings of a run that the client makes from what it knows of the engine."""

from __future__ import annotations

from pathlib import Path

from ..errors import EngineError

SILENCE = 15.0  # seconds without an event from the engine until the user is warned


def reported_error(event: dict, log: Path) -> EngineError:
    """The error that an ``error`` event reports; `log` is named where it can help."""
    remedy = event.get("remedy", "")
    if event["code"] not in ("input", "locked") and log.is_file():
        remedy = f"{remedy} The log is {log}.".strip()
    return EngineError(event["code"], event["cause"], remedy)


def protocol_error(text: str, log: Path) -> EngineError:
    """The error of a run that has no result since its events broke the protocol."""
    return EngineError(
        "protocol",
        f"{text}.",
        f"Install SparseSegNet again, so that client and engine are of the same version. "
        f"The log is {log}.",
    )


def protocol_warning(text: str) -> dict:
    """A ``warning`` event about an event that broke the protocol."""
    return {
        "event": "warning",
        "text": f"{text}. Client and engine may be of different versions.",
    }


def silence(log: Path) -> dict:
    """The ``silent`` event."""
    text = (
        f"the engine has not been heard of for {SILENCE:.0f} s. It may be busy, or hang: wait, or "
        f"cancel the run. The log is {log}."
    )
    return {"event": "silent", "seconds": SILENCE, "text": text}
