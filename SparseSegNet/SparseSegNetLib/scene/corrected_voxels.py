"""The voxels that corrections of a result made drawn, kept with the segmentation in the scene."""

from __future__ import annotations

import base64
import binascii
import json
import zlib

import numpy as np

from ..errors import InputError

ATTRIBUTE = "SparseSegNet.CorrectedVoxels"


def correctedVoxels(segmentationNode, shape: tuple[int, int, int]) -> np.ndarray:
    """Flat indices, int64 and rising, into an array (k, j, i) of that shape; empty where nothing
    was ever corrected, or where that was on a grid of another shape.

    Raises InputError when the attribute of the node cannot be understood.
    """
    text = segmentationNode.GetAttribute(ATTRIBUTE)
    nothing = np.zeros(0, np.int64)
    if text is None:
        return nothing
    try:
        about = json.loads(text)
        steps = np.frombuffer(zlib.decompress(base64.b64decode(about["voxels"])), "<i8")
        found = np.cumsum(steps)
        if tuple(about["shape"]) != tuple(shape):
            return nothing
        if found.size and not 0 <= found.min() <= found.max() < np.prod(shape, dtype=np.int64):
            raise ValueError("a voxel lies outside the volume")
    except (ValueError, KeyError, TypeError, binascii.Error, zlib.error) as error:
        raise InputError(
            f"the list of corrected voxels of '{segmentationNode.GetName()}' cannot be read "
            f"({error}): remove the node's attribute {ATTRIBUTE}; slices with corrections may then "
            "be taken for complete ones, so look at the list of slices."
        ) from error
    return found


def addCorrectedVoxels(segmentationNode, changed: np.ndarray) -> None:
    """Remember more corrected voxels. changed: boolean (k, j, i)."""
    known = correctedVoxels(segmentationNode, changed.shape)
    voxels = np.union1d(known, np.flatnonzero(changed)).astype("<i8")
    packed = zlib.compress(np.diff(voxels, prepend=np.int64(0)).astype("<i8").tobytes())
    segmentationNode.SetAttribute(
        ATTRIBUTE,
        json.dumps(
            {"shape": list(changed.shape), "voxels": base64.b64encode(packed).decode("ascii")}
        ),
    )
