"""Outcomes of a command's images or tiles: the reasons of failures, and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EngineError, InputError
from ..runfolder.exit_codes import CANCELLED, DONE, SOME_FAILED
from ..units import percent
from .progress import say


@dataclass(frozen=True)
class Outcome:
    """Result of an image, or the reason that there is none.

    Attributes:
        name: Of the image.
        result: A few words: written, there already, or failed and why.
        seconds: That it took; None if it was skipped.
        uncertain: See `uncertain_share`.
        failed: Whether there is no result.
    """

    name: str
    result: str
    seconds: float | None = None
    uncertain: float | None = None
    failed: bool = False


def reason(error: Exception) -> str:
    """Cause of a failure in one line, without a remedy that speaks of the removed run folder."""
    if isinstance(error, EngineError):
        text = error.cause
    elif isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        text = f"{name}{error.strerror or error}"
    elif isinstance(error, MemoryError):
        text = "there is too little memory for it; crop it, or close other programs"
    else:
        text = f"{type(error).__name__}: {error} (a fault in SparseSegNet)"
    return " ".join(text.split())


def report(outcomes: Sequence[Outcome], count: int, cancelled: bool) -> int:
    """Prints the summary.

    Args:
        outcomes: Of the images that were looked at.
        count: Of all images.
        cancelled: The user has ended the command.

    Returns:
        The exit code.
    """
    if outcomes:
        print(table(outcomes))
    if cancelled:
        missing = count - sum(not o.failed for o in outcomes)
        say(
            f"cancelled: {missing} of {count} images have no result. What is written stays; the "
            "same command with --resume goes on with the others."
        )
        return CANCELLED
    if failed := sum(o.failed for o in outcomes):
        if count > 1:
            say(
                f"{failed} of {count} images failed. Once the cause is removed, the same command "
                "with --resume segments these alone."
            )
        return SOME_FAILED
    return DONE


def table(outcomes: Sequence[Outcome], what: str = "image") -> str:
    """The summary, for people.

    Args:
        outcomes: The rows.
        what: Heads the column of names.
    """
    rows = [(what, "seconds", "uncertain", "result")]
    for one in outcomes:
        rows.append(
            (
                one.name,
                "" if one.seconds is None else f"{one.seconds:.0f}",
                "" if one.uncertain is None else percent(one.uncertain),
                one.result,
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(3)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows
    )
