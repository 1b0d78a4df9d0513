"""The newest prediction of a slice in a run folder, and slices that began from one."""

import os

import numpy as np
import pytest

from SparseSegNetLib.annotation.carried_slices import carry_slice
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice, clear_voxels, in_slices
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (4, 5, 6)
GRID = Geometry(SHAPE[::-1], (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
K2 = AnnotatedSlice("k", 2)


@pytest.fixture
def folder(tmp_path):
    began = AnnotatedSlice("k", 1, prefilled=True)
    item = RunInput(
        np.zeros((1, *SHAPE), np.float32), np.zeros(SHAPE, np.uint8), GRID, [began, K2], ["MR"]
    )
    return RunFolder.create(
        tmp_path / "run", [item], [Segment("a", "A", (1.0, 0.0, 0.0), 1)], Options()
    )


def test_a_run_folder_knows_which_slices_began_from_a_prediction(folder):
    slices = RunFolder.open(folder.path).read_slices()
    assert [(str(s), s.prefilled) for s in slices] == [("k:1", True), ("k:2", False)]
    assert slices[0] == AnnotatedSlice("k", 1) and hash(slices[0]) == hash(AnnotatedSlice("k", 1))
    assert "prefilled" not in K2.to_json()
    finer = Geometry(SHAPE[::-1], (1.0, 1.0, 0.5), GRID.origin, GRID.directions)
    assert all(s.prefilled for s in carry_slice(slices[0], GRID, finer))


def test_the_newest_of_previews_and_result_is_read(folder):
    assert not folder.has_prediction(1, K2) and folder.read_prediction(1, K2) is None
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 0] = 1
    folder.write_preview(1, labels)
    assert folder.has_prediction(1, K2)
    assert (folder.read_prediction(1, K2) == labels[2]).all()
    labels[2, 1] = 1
    folder.write_result(1, labels, labels)
    found = folder.read_prediction(1, K2)
    assert (found == labels[2]).all() and found.flags.writeable
    plane = labels[2].copy()
    plane[3] = 1
    folder.write_preview_slice(1, K2, plane)  # training was continued
    os.utime(folder.path / "result" / "1.npy", (4e9, 4e9))  # the clock was years ahead
    assert (folder.read_prediction(1, K2) == plane).all()
    assert (folder.read_prediction(1, AnnotatedSlice("k", 0)) == 0).all()
    # A damaged preview is left out, a damaged result is named.
    (folder.path / "preview" / "1-k2.npy").write_bytes(b"damaged")
    assert folder.read_prediction(1, K2) is not None and folder.notes
    labels[2, 4] = 7
    np.save(folder.path / "result" / "1.npy", labels)
    with pytest.raises(InputError, match=r"1\.npy is damaged: it holds the label 7"):
        folder.read_prediction(1, K2)


def test_voxels_in_slices(folder):
    j3 = AnnotatedSlice("j", 3, ((1, 3), (2, 6)))
    wanted = np.zeros(SHAPE, bool)
    for item in (K2, j3):
        wanted[item.selector()] = True
    every = np.arange(wanted.size)
    assert (in_slices(every, [K2, j3], SHAPE) == wanted.ravel()).all()
    assert not in_slices(every, [], SHAPE).any() and in_slices(every[:0], [K2], SHAPE).size == 0
    volume = np.ones(SHAPE, np.uint8)
    cleared = np.random.default_rng(0).choice(every, 60, replace=False)
    for item in (K2, j3):
        plane = volume[item.selector()].copy()
        clear_voxels(plane, item, cleared, SHAPE)
        expected = volume.copy()
        expected.ravel()[cleared] = 0
        assert (plane == expected[item.selector()]).all() and not plane.all()
