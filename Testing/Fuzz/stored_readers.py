"""Readers of volumes that stay in their files, for damaged input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import zarr

from SparseSegNetLib.files.label_region import LabelSource
from SparseSegNetLib.files.labels import Reading
from SparseSegNetLib.files.ngff_labels import LabelStore
from SparseSegNetLib.files.open_stored import open_stored
from SparseSegNetLib.tiles.done_file import DoneFile
from whole_inputs import GRID, SEGMENTS, SHAPE, annotation, pixels

STRAIGHT = GRID.__class__(GRID.size, GRID.spacing, GRID.origin, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
STORE = "store.ome.zarr"


def write_ngff(version: str) -> Callable[[Path], None]:
    """A function that writes a store of that version."""

    def make(folder: Path) -> None:
        LabelStore.create(folder / STORE, STRAIGHT, SEGMENTS, version)
        group = zarr.open_group(str(folder / STORE / "labels" / "segmentation"), mode="r+")
        group["0"][:] = annotation()

    return make


def read_ngff(folder: Path) -> object:
    """Reads a store as an image, and as labels."""
    image = open_stored(folder / STORE)
    source = LabelSource(folder / STORE / "labels" / "segmentation", STRAIGHT, Reading())
    box = source.drawn_box()
    shown = None if box is None else source.annotation(((0, 0, 0), STRAIGHT.shape))
    return image.missing_note(), image.read((0, 0, 0), image.shape).sum(), shown


def write_mapped(ending: str) -> Callable[[Path], None]:
    """A function that writes a file that can be mapped into memory."""

    def make(folder: Path) -> None:
        if ending == ".npy":
            np.save(folder / "image.npy", pixels())
            return
        sitk.WriteImage(sitk.GetImageFromArray(pixels()), str(folder / f"image{ending}"), False)

    return make


def read_mapped(folder: Path) -> object:
    """Reads all of such a file."""
    image = open_stored(next(p for p in sorted(folder.iterdir()) if p.suffix != ".raw"))
    return image.read((0, 0, 0), image.shape).sum(dtype=float)


def write_done(folder: Path) -> None:
    """A file of tiles."""
    done = DoneFile.create(folder / STORE, {"shape": list(SHAPE)})
    done.add(1)
    done.add(2)


def read_done(folder: Path) -> object:
    """Reads it."""
    done = DoneFile.open(folder / STORE)
    if done is not None:
        done.check({"shape": list(SHAPE)})
    return done
