"""Frames of multi-frame DICOM files, whose positions ITK does not tell; needs pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from .dicom_headers import DicomFile, DicomSlice, axes, numbers, rounding

# Elements in the functional groups that tell volumes of one file apart: sequence, element.
TELLING = {
    "echo time": ("MREchoSequence", "EffectiveEchoTime"),
    "temporal position": ("FrameContentSequence", "TemporalPositionIndex"),
    "b-value": ("MRDiffusionSequence", "DiffusionBValue"),
    "stack": ("FrameContentSequence", "StackID"),
}


def open_dataset(path: Path, what: str, kind: str, ending: str, pixels: bool = False) -> Any:
    """The content of a DICOM file, by pydicom.

    Args:
        path: The file.
        what: Its role, for the message.
        kind: Its kind, for the message.
        ending: The format in which Slicer can save it, for the message.
        pixels: Whether the voxels are needed.

    Raises:
        InputError: There is no pydicom, or it cannot read the file.
    """
    try:
        import pydicom
    except ImportError as error:
        raise InputError(
            f"{what} {path} is a {kind}, and only the package pydicom reads where its frames lie: "
            "install it with 'pip install \"sparsesegnet[dicom]\"', or open the file in Slicer and "
            f"save it as {ending}."
        ) from error
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except Exception as error:  # pydicom raises many kinds
        raise InputError(f"{what} {path} cannot be read: {error}.") from error


def frames_of(file: DicomFile, what: str) -> list[DicomSlice]:
    """The frames of a multi-frame file as slices.

    Raises:
        InputError: There is no pydicom, the frames have no positions, or ITK would scale their
            values with each other's factors.
    """
    assert file.slice is not None
    data = open_dataset(file.path, what, f"DICOM file of {file.frames} frames", ".nrrd")
    groups = data.get("PerFrameFunctionalGroupsSequence")
    if groups is None or len(groups) != file.frames:
        raise InputError(
            f"{what} {file.path} has {file.frames} frames, but no position for each of them: open "
            "it in Slicer, check the spacing in the module Volumes and save it as .nrrd."
        )
    shared = data.get("SharedFunctionalGroupsSequence") or [{}]
    slopes = set()
    frames = []
    for n, own in enumerate(groups):

        def found(sequence: str, element: str, own: Any = own) -> Any:
            return element_of((own, shared[0]), sequence, element)

        slopes.add(
            tuple(
                found("PixelValueTransformationSequence", name)
                for name in ("RescaleSlope", "RescaleIntercept")
            )
        )
        told = {name: str(found(*where) or "") for name, where in TELLING.items()}
        one = frame_slice(file.slice, n, found)
        frames.append(replace(one, telling={name: text for name, text in told.items() if text}))
    if len(slopes) > 1:
        raise InputError(
            f"{what} {file.path} scales the values of each frame by other factors: open it in "
            "Slicer and save it as .nrrd."
        )
    return frames


def frame_slice(like: DicomSlice, number: int, found: Any) -> DicomSlice:
    """A frame as a slice.

    Args:
        like: Has what is the same for all frames.
        number: The frame, from 0.
        found: Gives the value of an element, by the names of sequence and element; None for none.
    """
    spacing = _texts(found("PixelMeasuresSequence", "PixelSpacing"))
    position = _texts(found("PlanePositionSequence", "ImagePositionPatient"))
    row, column = axes(
        numbers("\\".join(_texts(found("PlaneOrientationSequence", "ImageOrientationPatient"))), 6)
    )
    gap = found("PixelMeasuresSequence", "SpacingBetweenSlices") or found(
        "PixelMeasuresSequence", "SliceThickness"
    )
    along = numbers("\\".join(spacing), 2)
    return replace(
        like,
        frame=number,
        spacing=(along[1], along[0]) if along else like.spacing,
        row=row,
        column=column,
        position=numbers("\\".join(position), 3),
        rounding=rounding(position),
        thickness=abs(float(gap)) if gap else None,
    )


def element_of(groups: Sequence[Any], sequence: str, element: str) -> Any:
    """Value of an element in the first of the functional groups that has it; None if none has."""
    for group in groups:
        items = group.get(sequence)
        if items and items[0].get(element) is not None:
            return items[0].get(element)
    return None


def _texts(values: Any) -> list[str]:
    """Numbers as they are written in the file."""
    if values is None:
        return []
    return [str(getattr(v, "original_string", v)) for v in values]
