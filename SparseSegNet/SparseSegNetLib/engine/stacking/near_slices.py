"""Slices that lie so near to each other that one of them gives the other away.

A correction that is drawn three voxels beside an old slice is nearly the same slice: whichever of
the two is held out is told by the other, and scores too high. Such slices are held out together
(windows instead of single places are left out where neighbours depend on each other; for slices of
brain MR, dividing by slice instead of by subject raised accuracies by 30 to 55 %).
"""

from __future__ import annotations

from collections.abc import Sequence

from ...annotation.slices import AXES, AnnotatedSlice

NEAR = 0.5  # of the usual gap between two slices of a direction


def group_near_slices(
    slices: Sequence[AnnotatedSlice], extent: dict[str, int]
) -> list[list[AnnotatedSlice]]:
    """Groups slices of one direction that lie within half the usual gap.

    The usual gap is the mean one, or that of as many slices evenly spread inside the object, if
    this is larger: where all slices lie together there are no others to compare with.

    Args:
        slices: The annotated slices.
        extent: Voxels of the annotated object along each of 'i', 'j' and 'k'.

    Returns:
        The groups; slices and groups in their order.
    """
    groups: list[list[AnnotatedSlice]] = []
    for axis in AXES:
        own = sorted(s for s in slices if s.axis == axis)
        if not own:
            continue
        mean = (own[-1].index - own[0].index) / max(1, len(own) - 1)
        usual = max(mean, extent.get(axis, 0) / (len(own) + 1))
        group = [own[0]]
        for item in own[1:]:
            if item.index - group[0].index < NEAR * usual:
                group.append(item)
            else:
                groups.append(group)
                group = [item]
        groups.append(group)
    return sorted(groups)
