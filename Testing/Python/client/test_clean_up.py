"""The option largest_component, from the run folder to the result."""

import numpy as np
import pytest
from phantom import nested

torch = pytest.importorskip("torch")

from small_runs import SEGMENTS, SHAPE  # noqa: E402

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices  # noqa: E402
from SparseSegNetLib.annotation.geometry import Geometry  # noqa: E402
from SparseSegNetLib.annotation.spread import spread_slices  # noqa: E402
from SparseSegNetLib.client.run import Run  # noqa: E402
from SparseSegNetLib.engine.loose_pieces import without_loose_pieces  # noqa: E402
from SparseSegNetLib.run.folder import RunFolder, RunInput  # noqa: E402
from SparseSegNetLib.run.options import Options  # noqa: E402


def result_of(path, image, labels, slices, **options):
    grid = Geometry(tuple(reversed(SHAPE)), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    folder = RunFolder.create(path, [RunInput(image[None], labels, grid, slices)], SEGMENTS,
                              Options(device="cpu", max_steps=2, **options))
    run = Run(folder)
    assert run.wait(120) == "done"
    return np.load(path / "result" / "1.npy")


def test_loose_pieces_go_on_request_only(tmp_path):
    image, truth = nested(SHAPE)
    image = image + np.random.default_rng(0).normal(0, 300, SHAPE)  # so noisy that specks remain
    slices = spread_slices((1, 1, 1), SHAPE, truth > 0)
    labels = restrict_to_slices(truth, slices)
    plain = result_of(tmp_path / "plain", image, labels, slices)
    cleaned = result_of(tmp_path / "cleaned", image, labels, slices, largest_component=True)
    assert not np.array_equal(plain, cleaned)
    assert without_loose_pieces(plain, labels) > 0
    assert np.array_equal(plain, cleaned)
    drawn = labels != UNLABELLED
    assert np.array_equal(cleaned[drawn], labels[drawn])
