"""The option largest_component, from the run folder to the result."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_runs import run_folder  # noqa: E402

from SparseSegNetLib.annotation.composition import UNLABELLED  # noqa: E402
from SparseSegNetLib.client.run import Run  # noqa: E402
from SparseSegNetLib.engine.loose_pieces import without_loose_pieces  # noqa: E402


def result_of(path, **options):
    """Result and labels; the image is so noisy that specks remain."""
    folder, _ = run_folder(path, (1, 1, 1), noise=300, max_steps=2, **options)
    run = Run(folder)
    assert run.wait(120) == "done"
    return run.result(), folder.read_labels()


def test_loose_pieces_go_on_request_only(tmp_path):
    plain, labels = result_of(tmp_path / "plain")
    cleaned, _ = result_of(tmp_path / "cleaned", largest_component=True)
    assert not np.array_equal(plain, cleaned)
    plain = plain.copy()
    assert without_loose_pieces(plain, labels) > 0
    assert np.array_equal(plain, cleaned)
    drawn = labels != UNLABELLED
    assert np.array_equal(cleaned[drawn], labels[drawn])
