"""Formats times and sizes for people."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Formats seconds as minutes and seconds, 75 -> 1:15; with hours from an hour on."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """Formats a time span in seconds in a fitting unit: 20 s, 2 min, 1 h 30 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def percent(share: float) -> str:
    """Formats a share of 1 in percent, with two digits where they tell something: 0.91 %, 100 %."""
    value = 100 * share
    return f"{value:.2g} %" if value < 10 else f"{value:.0f} %"


def counted(count: int, one: str) -> str:
    """A number with its noun: 1 slice, 3 slices."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def size(count: float) -> str:
    """Formats a number of bytes: 24.2 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def sentence(text: str) -> str:
    """A message of the engine with a capital at its beginning."""
    return text[:1].upper() + text[1:]
