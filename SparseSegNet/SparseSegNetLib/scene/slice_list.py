"""The annotated slices of a segmentation, kept with it in the scene (and so in .mrb files)."""

from __future__ import annotations

import json

from ..annotation.slices import AnnotatedSlice
from ..errors import InputError
from ..runfolder.forms import parse_json
from ..runfolder.schema import SLICES

ATTRIBUTE = "SparseSegNet.AnnotatedSlices"


def listedSlices(segmentationNode) -> dict[AnnotatedSlice, bool] | None:
    """The slices that are listed as annotated, in the order of axis and index, each with whether
    the user stated it (rather than that painting in it was noticed). None when none were ever
    listed for this segmentation.

    Raises InputError when the attribute of the node cannot be understood.
    """
    text = segmentationNode.GetAttribute(ATTRIBUTE)
    if text is None:
        return None
    try:
        items = parse_json(text)
        SLICES(items, "slices")
        return dict(
            sorted((AnnotatedSlice.from_json(item), bool(item.get("stated"))) for item in items)
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the list of annotated slices of '{segmentationNode.GetName()}' cannot be read "
            f"({error}): remove the node's attribute {ATTRIBUTE}, and the slices will be found "
            "from what is drawn."
        ) from error


def listSlices(segmentationNode, slices: dict[AnnotatedSlice, bool] | None) -> None:
    """Keep the list with the node; None forgets it, so that slices are found again."""
    text = (
        None
        if slices is None
        else json.dumps(
            [
                {**item.to_json(), **({"stated": True} if stated else {})}
                for item, stated in sorted(slices.items())
            ]
        )
    )
    if text == segmentationNode.GetAttribute(ATTRIBUTE):
        return
    if text is None:
        segmentationNode.RemoveAttribute(ATTRIBUTE)
    else:
        segmentationNode.SetAttribute(ATTRIBUTE, text)
