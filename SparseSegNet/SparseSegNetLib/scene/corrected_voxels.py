"""Voxels annotated by correcting a result, stored with the segmentation node."""

from __future__ import annotations

import base64
import binascii
import json
import zlib

import numpy as np

from ..errors import InputError

ATTRIBUTE = "SparseSegNet.CorrectedVoxels"


def correctedVoxels(segmentationNode, shape: tuple[int, int, int]) -> np.ndarray:
    """The corrected voxels that are stored with a segmentation node.

    Args:
        segmentationNode: The segmentation.
        shape: The volume's shape (k, j, i).

    Returns:
        Flat indices, int64 and ascending, into an array (k, j, i) of that shape. Empty if nothing
        was corrected, or if that was on a grid of another shape.

    Raises:
        InputError: If the node's attribute cannot be parsed.
    """
    text = segmentationNode.GetAttribute(ATTRIBUTE)
    none = np.zeros(0, np.int64)
    if text is None:
        return none
    try:
        stored = json.loads(text)
        steps = np.frombuffer(zlib.decompress(base64.b64decode(stored["voxels"])), "<i8")
        voxels = np.cumsum(steps)
        if tuple(stored["shape"]) != tuple(shape):
            return none
        if voxels.size and not 0 <= voxels.min() <= voxels.max() < np.prod(shape, dtype=np.int64):
            raise ValueError("a voxel lies outside the volume")
    except (ValueError, KeyError, TypeError, binascii.Error, zlib.error) as error:
        raise InputError(
            f"the list of corrected voxels of '{segmentationNode.GetName()}' cannot be read "
            f"({error}): remove the node's attribute {ATTRIBUTE}; slices with corrections may then "
            "be listed as complete ones, so check the list of slices."
        ) from error
    return voxels


def addCorrectedVoxels(segmentationNode, changed: np.ndarray) -> None:
    """Adds corrected voxels to those stored with a segmentation node.

    Args:
        segmentationNode: The segmentation.
        changed: Boolean (k, j, i), the voxels to add.

    Raises:
        InputError: If the node's attribute cannot be parsed.
    """
    known = correctedVoxels(segmentationNode, changed.shape)
    voxels = np.union1d(known, np.flatnonzero(changed)).astype("<i8")
    packed = zlib.compress(np.diff(voxels, prepend=np.int64(0)).astype("<i8").tobytes())
    segmentationNode.SetAttribute(
        ATTRIBUTE,
        json.dumps(
            {"shape": list(changed.shape), "voxels": base64.b64encode(packed).decode("ascii")}
        ),
    )
