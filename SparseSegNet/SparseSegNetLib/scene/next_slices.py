"""The slice of a volume to draw next, for the annotation as it is in the scene now."""

from __future__ import annotations

from collections.abc import Sequence

from ..annotation.geometry import Geometry
from ..errors import InputError
from ..runfolder.folder import RunFolder
from ..suggestion.ranking import suggest_slices
from ..suggestion.suggested_slice import SuggestedSlice
from .annotations import NodeAnnotation, annotationOf
from .volumes import volumeGeometry


def suggestions(
    volumeNode, segmentationNode, folder: RunFolder | None, count: int = 3
) -> list[SuggestedSlice]:
    """Suggests slices to draw next, the most useful first.

    Nothing needs to be trained: without a prediction it goes by what is drawn.

    Args:
        volumeNode: The volume whose grid the slices are of.
        segmentationNode: The segmentation that is annotated.
        folder: The run whose predictions of this volume are used; None for none.
        count: Number of slices at most.

    Returns:
        Slices with reasons; fewer than `count`, or none, where nothing is left that is worth it.

    Raises:
        InputError: If volume or segmentation cannot be used.
    """
    annotation = annotationOf(segmentationNode, volumeNode, None, trainable=False)
    geometry = volumeGeometry(volumeNode)
    number = None
    if folder is not None:
        number = inputOf(folder, geometry, volumeNode.GetName() or "", annotation)
    names = [segment.name for segment in annotation.segments]
    return suggestedFor(annotation, names, geometry, folder, number, count)


def suggestedFor(
    annotation: NodeAnnotation,
    names: Sequence[str],
    geometry: Geometry,
    folder: RunFolder | None,
    number: int | None,
    count: int,
) -> list[SuggestedSlice]:
    """Suggests slices for an annotation that was read already.

    Args:
        annotation: The annotation.
        names: Of the classes in its labels.
        geometry: The volume's grid.
        folder: The run; None for none.
        number: The run's input (from 1) that is the volume; None if none is.
        count: Number of slices at most.

    Raises:
        InputError: If `count` is not a number of slices.
    """
    if count < 1:
        raise InputError(f"{count} slices cannot be suggested: ask for one or more.")
    profiles, seed = None, 0
    if folder is not None and number is not None:
        profiles, seed = folder.read_profiles(number), folder.options.seed
    return suggest_slices(
        annotation.labels, annotation.slices, names, geometry, profiles, count, seed
    )


def inputOf(
    folder: RunFolder, geometry: Geometry, name: str, annotation: NodeAnnotation
) -> int | None:
    """The run's input (from 1) that is a volume with this annotation.

    Args:
        folder: The run.
        geometry: The volume's grid.
        name: The volume's name, by which one of several on equal grids is told.
        annotation: Its annotation.

    Returns:
        None if the volume or its segments are not those of the run.
    """
    if [s.id for s in folder.segments] != [s.id for s in annotation.segments]:
        return None
    same = [
        number
        for number in range(1, folder.count + 1)
        if folder.geometry(number).difference(geometry) is None
    ]
    named = [n for n in same if folder.description["inputs"][n - 1].get("name") == name]
    if named:
        return named[0]
    return same[0] if folder.count == 1 and same else None
