"""Sentences for reasons."""

from __future__ import annotations

from collections.abc import Sequence

from .anatomy import AxisWords

MOST = 3  # names in a sentence
END = 0.2  # of an extent, that is its end


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: 'liver, spleen and 2 more'."""
    shown = list(names) if len(names) <= MOST else [*names[: MOST - 1], f"{len(names) - 2} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def are(names: Sequence[str]) -> str:
    """'is' or 'are'."""
    return "is" if len(names) == 1 else "are"


def place_within(share: float, words: AxisWords) -> str:
    """A place along an axis: 'at the superior end of', 'in the middle of'.

    Args:
        share: Of the extent that lies before the place, 0 to 1.
        words: Of the axis.
    """
    if share < END:
        return f"at the {words.low} end of"
    if share > 1 - END:
        return f"at the {words.high} end of"
    if abs(share - 0.5) <= 0.5 - 2 * END:
        return "in the middle of"
    return f"in the {words.low if share < 0.5 else words.high} half of"
