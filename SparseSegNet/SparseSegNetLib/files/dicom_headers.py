"""Finds the DICOM files of a folder and reads what their headers say of slice and series."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from ..errors import InputError

MAGIC, MAGIC_AT = b"DICM", 128
# Files older than DICOM's part 10 begin with their first element, of group 8 or 2.
BARE = (b"\x08\x00", b"\x02\x00")
CLASS_ELEMENT = b"\x02\x00\x02\x00UI"

STORAGE = "1.2.840.10008.5.1.4.1.1."
DIRECTORY = "1.2.840.10008.1.3.10"
# Classes that ITK cannot read as images, or reads without what they mean, by how they begin.
OTHER_KINDS = {
    DIRECTORY: "DICOMDIR",
    STORAGE + "66.4": "SEG",
    STORAGE + "66.7": "SEG",
    STORAGE + "66": "registration or raw data",
    STORAGE + "67": "real world mapping",
    STORAGE + "481.2": "RTDOSE",
    STORAGE + "481.3": "RTSTRUCT",
    STORAGE + "481.4": "RT record",
    STORAGE + "481.5": "RTPLAN",
    STORAGE + "481.8": "RTPLAN",
    STORAGE + "88": "SR",
    STORAGE + "11": "presentation state",
    STORAGE + "104": "document",
    STORAGE + "9": "waveform",
    STORAGE + "4.2": "spectroscopy",
}
OTHER_MODALITIES = ("SEG", "RTSTRUCT", "RTDOSE", "SR", "PR", "KO")

# What may tell volumes of one series apart, in the order in which it is tried.
TELLING = {
    "echo": "0018|0086",
    "echo time": "0018|0081",
    "temporal position": "0020|0100",
    "b-value": "0018|9087",
    "inversion time": "0018|0082",
    "flip angle": "0018|1314",
    "image type": "0008|0008",
    "trigger time": "0018|1060",
    "acquisition": "0020|0012",
    "acquisition time": "0008|0032",
}


@dataclass
class DicomSlice:
    """One slice: a file, or a frame of a file.

    Attributes:
        path: The file.
        frame: Its number in the file, from 0.
        size: Pixels along i and j.
        spacing: mm along i and j.
        row: Unit vector of i, or None where the header has no orientation.
        column: Unit vector of j, or None.
        position: LPS position of the first pixel's centre, or None.
        rounding: mm by which the position may be rounded, half of its last decimal.
        thickness: mm from slice to slice as the header says, or None.
        uid: Of the series.
        number: Of the series.
        description: Of the series.
        modality: CT, MR and so on.
        instance: UID of this file.
        telling: Values of the `TELLING` elements that are there.
    """

    path: Path
    frame: int
    size: tuple[int, int]
    spacing: tuple[float, float]
    row: tuple[float, ...] | None
    column: tuple[float, ...] | None
    position: tuple[float, ...] | None
    rounding: float
    thickness: float | None
    uid: str
    number: str
    description: str
    modality: str
    instance: str
    telling: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's name, with the number of the frame behind the first."""
        return self.path.name + (f" (frame {self.frame + 1})" if self.frame else "")


@dataclass
class DicomFile:
    """A DICOM file: an image of one or several frames, or something else.

    Attributes:
        path: The file.
        kind: "" for an image, else what it is, such as SEG.
        frames: The number of its frames.
        slice: The first frame; None for what is no image.
    """

    path: Path
    kind: str
    frames: int = 0
    slice: DicomSlice | None = None


def is_dicom(path: Path) -> bool:
    """Tells whether a file is a DICOM file, by its beginning and not by its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(MAGIC_AT + len(MAGIC))
    if head[MAGIC_AT:] == MAGIC:
        return True
    return head[:2] in BARE and _reader(path) is not None


def files_in(folder: Path) -> Iterator[Path]:
    """The DICOM files of a folder, whatever their endings; not those of its subfolders."""
    return (path for path in sorted(folder.iterdir()) if is_dicom(path))


def read_header(path: Path, what: str) -> DicomFile:
    """Reads the header of a DICOM file.

    Args:
        path: The file.
        what: Its role, for the message.

    Raises:
        InputError: The file is damaged.
    """
    kind = _other_kind(_class_of(path))
    if kind:
        return DicomFile(path, kind)
    reader = _reader(path)
    if reader is None:
        raise InputError(
            f"{what}: {path} is a DICOM file that is damaged or cut off, or packed in a way that "
            "ITK cannot read. Copy or download it again; where it does not belong to the image, "
            "take it out of the folder."
        )
    modality = _text(reader, "0008|0060")
    if modality in OTHER_MODALITIES:
        return DicomFile(path, modality)
    row, column = axes(numbers(_text(reader, "0020|0037"), 6))
    written = _text(reader, "0020|0032")
    size, spacing = reader.GetSize(), reader.GetSpacing()
    thickness = numbers(_text(reader, "0018|0088") or _text(reader, "0018|0050"), 1)
    first = DicomSlice(
        path,
        0,
        (size[0], size[1]),
        (spacing[0], spacing[1]),
        row,
        column,
        numbers(written, 3),
        rounding(written.split("\\")),
        abs(thickness[0]) if thickness else None,
        _text(reader, "0020|000e"),
        _text(reader, "0020|0011"),
        " ".join(_text(reader, "0008|103e").split()),
        modality,
        _text(reader, "0008|0018"),
        {name: text for name, tag in TELLING.items() if (text := _text(reader, tag))},
    )
    return DicomFile(path, "", size[2] if len(size) > 2 else 1, first)


def numbers(text: str, count: int) -> tuple[float, ...] | None:
    """The numbers of a DICOM text; None unless there are `count` finite ones."""
    try:
        found = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def axes(
    orientation: tuple[float, ...] | None,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Unit vectors along i and j of a DICOM orientation; None for what is no right angle."""
    if orientation is None:
        return None, None
    row, column = orientation[:3], orientation[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    if not all(abs(length - 1) < 0.01 for length in lengths):
        return None, None
    if abs(sum(a * b for a, b in zip(row, column, strict=True))) > 0.001:
        return None, None
    return tuple(a / lengths[0] for a in row), tuple(b / lengths[1] for b in column)


def rounding(texts: list[str]) -> float:
    """Half a unit of the last decimal of numbers that are written as texts."""
    decimals = 0
    for text in texts:
        mantissa, _, exponent = text.strip().lower().partition("e")
        power = int(exponent) if exponent.lstrip("+-").isdigit() else 0
        decimals = max(decimals, len(mantissa.partition(".")[2]) - power)
    return 0.5 * 10.0**-decimals


def _reader(path: Path) -> sitk.ImageFileReader | None:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def _text(reader: sitk.ImageFileReader, tag: str) -> str:
    """A header's text; letters of a character set other than UTF-8 are taken as Latin-1."""
    if not reader.HasMetaDataKey(tag):
        return ""
    text = reader.GetMetaData(tag).strip(" \0")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text


def _class_of(path: Path) -> str:
    """The class of a DICOM file, from the group at its beginning; "" where there is none."""
    with path.open("rb") as file:
        head = file.read(2048)
    at = head.find(CLASS_ELEMENT, MAGIC_AT)
    if at < 0:
        return ""
    start = at + len(CLASS_ELEMENT) + 2
    length = int.from_bytes(head[start - 2 : start], "little")
    return head[start : start + length].strip(b" \0").decode("ascii", "replace")


def _other_kind(sop_class: str) -> str:
    """The kind of what is no image; "" for an image."""
    for begins, kind in OTHER_KINDS.items():
        if sop_class == begins or sop_class.startswith(begins + "."):
            return kind
    return ""
