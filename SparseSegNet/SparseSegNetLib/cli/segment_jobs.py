"""Images to be segmented by a model, as they are named on the command line, and their outputs."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files.other_formats import folder_fault, images_in
from ..files.writing import SEGMENTATION, stem_of, suffix_of
from .case_list import read_list

FORMATS = (SEGMENTATION, ".nrrd", ".nii.gz", ".nii", ".mha", ".nhdr", ".mhd", ".hdr")


@dataclass(frozen=True)
class Job:
    """One image and its outputs.

    Attributes:
        name: Of the image.
        images: The files of its channels.
        output: The dense segmentation.
        uncertainty: The uncertainty image; None if it is not wanted.
    """

    name: str
    images: list[Path]
    output: Path
    uncertainty: Path | None

    @property
    def outputs(self) -> list[Path]:
        """All files that are written."""
        return [self.output, *([self.uncertainty] if self.uncertainty else [])]


def jobs_of(
    arguments: Sequence[str], output: Path, ending: str | None, uncertainty: bool
) -> tuple[list[Job], Path | None]:
    """Images and outputs of the command's arguments.

    Args:
        arguments: Each a file, several channels joined by ';', a folder of DICOM or of images, a
            list in CSV, or a pattern with * that the shell has left.
        output: A file for one image, else a folder.
        ending: Format of the results in a folder; None for segmentations.
        uncertainty: An uncertainty image is wanted beside each.

    Returns:
        The images, and the folder for the results; None if `output` is a file.

    Raises:
        InputError: An image is missing, two would have the same output, or `output` does not fit.
    """
    for text in arguments:
        same = os.path.isdir(text) and os.path.realpath(text) == os.path.realpath(output)
        if same and images_in(Path(text)):
            raise InputError(
                f"the results would lie among the images of {text}: name another folder."
            )
    found = [item for text in arguments for item in _images(text)]
    alone = len(found) == 1
    kind = suffix_of(output)
    if alone and kind and not output.is_dir():
        if ending is not None:
            raise InputError(f"--format is for several results: {output} names the format already.")
        return [_job(*found[0], output, uncertainty)], None
    if kind in FORMATS and not output.is_dir():
        raise InputError(
            f"the output {output} is one file and there are {len(found)} images: name a folder."
        )
    ending = SEGMENTATION if ending is None else f".{ending.lstrip('.')}"
    names: dict[str, list[Path]] = {}
    for name, images in found:
        before = names.setdefault(name.casefold(), images)
        if before is not images:
            raise InputError(
                f"{before[0]} and {images[0]} would both be written to {output / name}{ending}: "
                "list them in a CSV file with the columns image,name, or segment them apart."
            )
    return [
        _job(name, images, output / f"{name}{ending}", uncertainty) for name, images in found
    ], output


def _job(name: str, images: list[Path], output: Path, uncertainty: bool) -> Job:
    kind = suffix_of(output)
    beside = output.with_name(
        f"{stem_of(output)}-uncertainty{'.nrrd' if kind == SEGMENTATION else kind}"
    )
    return Job(name, images, output, beside if uncertainty else None)


def _images(text: str) -> list[tuple[str, list[Path]]]:
    """Name and channels of each image that an argument names."""
    if text.lower().endswith(".csv"):
        rows = read_list(Path(text), ("image",), ("image", "name"))
        return [(row.name, row.images) for row in rows]
    if os.path.isdir(text) and (images := images_in(Path(text))):
        return [_one([str(path)]) for path in images]
    if os.path.exists(text) or not (";" in text or glob.has_magic(text)):
        return [_one([text])]
    if ";" in text:
        return [_one([part.strip() for part in text.split(";") if part.strip()])]
    if not (matching := sorted(glob.glob(text))):
        raise InputError(f"no file matches {text}.")
    return [_one([name]) for name in matching]


def _one(names: list[str]) -> tuple[str, list[Path]]:
    paths = list(map(Path, names))
    for path in paths:
        if not os.path.exists(path):
            raise InputError(f"the image {path} does not exist.")
        if path.is_dir() and (fault := folder_fault(path)) is not None:
            raise InputError(f"the image {path} {fault}.")
    return stem_of(paths[0]), paths
