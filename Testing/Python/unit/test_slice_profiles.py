"""Sums over slices: what they count, how they are turned, and damaged files of them."""

import numpy as np
import pytest

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.orientation import Turn
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput
from SparseSegNetLib.suggestion.slice_profiles import SliceProfiles, areas_of, contours_of

SHAPE = (5, 6, 7)
SEGMENTS = [Segment("a", "Shell", (1, 0, 0), 1), Segment("b", "Core", (0, 1, 0), 2)]


def labels(seed=0):
    return np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)


def profiles(volume):
    areas = areas_of(volume, 2)
    return SliceProfiles.of(
        areas, 0.5 * areas, areas.sum(axis=0), contours_of(volume), volume.shape
    )


def plane_of(volume, axis, index):
    return volume[AnnotatedSlice(axis, index).selector()]


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_each_slice_by_itself(axis):
    volume = labels()
    volume[1, 2:4] = UNLABELLED
    found = profiles(volume)
    for index in range(volume.shape["kji".index(axis)]):
        plane = plane_of(volume, axis, index)
        counted = [(plane == value).sum() for value in (1, 2)]
        assert found.areas(axis)[:, index].tolist() == counted
        assert found.uncertainty(axis)[:, index].tolist() == [c / 2 for c in counted]
        assert found.entropy(axis)[index] == sum(counted)
        edges = (plane[1:] != plane[:-1]).sum() + (plane[:, 1:] != plane[:, :-1]).sum()
        assert found.contours(axis)[index] == edges


@pytest.mark.parametrize("wanted", ["LPS", "RAI", "SLP", "PIR", "ASL"])
def test_turned_back(wanted):
    """Sums of the turned volume, turned back, are those of the volume."""
    volume, turn = labels(), Turn.between("LPS", wanted)
    turned = np.ascontiguousarray(turn.array(volume))
    back = profiles(turned).turned_back(turn)
    assert back.shape == SHAPE and (back.array == profiles(volume).array).all()


@pytest.fixture
def folder(tmp_path):
    grid = Geometry(SHAPE[::-1], (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    drawn = np.full(SHAPE, UNLABELLED, np.uint8)
    drawn[2] = labels()[2]
    item = RunInput(np.zeros((1, *SHAPE), np.int16), drawn, grid, [AnnotatedSlice("k", 2)])
    return RunFolder.create(tmp_path / "run", [item], SEGMENTS, Options())


def test_kept_in_the_run_folder(folder):
    assert folder.read_profiles() is None and not folder.notes
    written = profiles(labels())
    folder.write_profiles(1, written)
    found = RunFolder.open(folder.path).read_profiles()
    assert (found.array == written.array).all() and found.shape == SHAPE
    assert folder.read_preview() is None, "they are no preview"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda a: a[:-1], r"is of 5x18 values, expected 6x18"),
        (lambda a: np.where(a == a[0, 0], np.nan, a).astype(np.float32), "not finite"),
        (lambda a: a - 100, "negative"),
        (lambda a: a.astype(np.uint8), "uint8"),
        (lambda a: None, "no .npy array"),
    ],
)
def test_damaged_ones_are_left_out_and_noted(folder, damage, said):
    folder.write_profiles(1, profiles(labels()))
    file = folder.path / "result" / "1-profiles.npy"
    array = damage(np.load(file))
    file.write_bytes(b"nothing") if array is None else np.save(file, array)
    assert folder.read_profiles() is None
    (note,) = folder.notes
    assert "1-profiles.npy is damaged" in note and said in note
