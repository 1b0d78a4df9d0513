"""The list of annotated slices, stored with the segmentation node (and so in .mrb files)."""

from __future__ import annotations

import json

from ..annotation.slices import AnnotatedSlice
from ..errors import InputError
from ..runfolder.forms import parse_json
from ..runfolder.schema import SLICES

ATTRIBUTE = "SparseSegNet.AnnotatedSlices"


def listedSlices(segmentationNode) -> dict[AnnotatedSlice, bool] | None:
    """The annotated slices that are stored with a segmentation node.

    Args:
        segmentationNode: The segmentation.

    Returns:
        The slices in the order of axis and index, each with True if the user marked it as complete
        (False: it was detected from painting). None if no list was ever stored.

    Raises:
        InputError: If the node's attribute cannot be parsed.
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
            f"({error}): remove the node's attribute {ATTRIBUTE}, and the slices will be detected "
            "from what is drawn."
        ) from error


def listSlices(segmentationNode, slices: dict[AnnotatedSlice, bool] | None) -> None:
    """Stores the list of annotated slices with the node.

    Args:
        segmentationNode: The segmentation.
        slices: The slices, each with True if the user marked it as complete. None removes the
            list, so that slices are detected again.
    """
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
