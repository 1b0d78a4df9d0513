"""The order in which overlapping segments are laid over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .drawn import is_background

CONTAINED = 0.95  # share of a segment within another from which it counts as a part of it
MOST_NAMED = 3  # pairs of segments in a message


def painting_order(
    names: Sequence[str],
    sizes: Sequence[int],
    overlaps: Mapping[tuple[int, int], int],
) -> list[int]:
    """Order in which segments are laid over each other, as indices into the segmentation's list.

    Of two segments that overlap the one that comes later in the list counts, with two exceptions.
    A segment within a larger one (a tumour in an organ that was painted over both) is laid over
    it, wherever they stand in the list: otherwise all that was drawn of it would be lost. Every
    segment counts against Background, which may be painted generously.

    Args:
        names: The segments' names.
        sizes: Voxels of each segment.
        overlaps: Voxels that two segments share, by their indices, the smaller first.
    """
    waiting = [n for n in range(len(names)) if not is_background(names[n])]
    around = {n: containers(n, sizes, overlaps) & set(waiting) for n in waiting}
    order = [n for n in range(len(names)) if is_background(names[n])]
    painted: set[int] = set()
    while waiting:
        first = next(n for n in waiting if around[n] <= painted)
        waiting.remove(first)
        painted.add(first)
        order.append(first)
    return order


def containers(n: int, sizes: Sequence[int], overlaps: Mapping[tuple[int, int], int]) -> set[int]:
    """The larger segments within which the n-th one lies."""
    found = set()
    for pair, shared in overlaps.items():
        if n in pair:
            other = pair[0] if pair[1] == n else pair[1]
            if sizes[n] < sizes[other] and shared >= CONTAINED * sizes[n]:
                found.add(other)
    return found


def overlap_note(
    names: Sequence[str],
    sizes: Sequence[int],
    overlaps: Mapping[tuple[int, int], int],
) -> str | None:
    """Message about segments that share voxels, None if there are none.

    Args:
        names: The segments' names.
        sizes: Voxels of each segment.
        overlaps: Voxels that two segments share, by their indices, the smaller first.
    """
    order = painting_order(names, sizes, overlaps)
    parts = []
    for pair, shared in sorted(overlaps.items(), key=lambda item: -item[1]):
        if any(is_background(names[n]) for n in pair):
            continue
        under, over = sorted(pair, key=order.index)
        if shared >= sizes[under]:
            parts.append(
                f"all {shared} drawn voxels of '{names[under]}' are covered by '{names[over]}', "
                "which comes later in the list"
            )
        elif under in containers(over, sizes, overlaps):
            parts.append(
                f"'{names[over]}' lies within '{names[under]}' and counts there ({shared} voxels)"
            )
        else:
            parts.append(
                f"'{names[under]}' and '{names[over]}' share {shared} voxels, which count as "
                f"'{names[over]}', the later in the list"
            )
    if not parts:
        return None
    more = f"; and {len(parts) - MOST_NAMED} more pairs" if len(parts) > MOST_NAMED else ""
    return f"segments overlap: {'; '.join(parts[:MOST_NAMED])}{more}."
