"""The option largest_component, from the run folder to the result."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_runs import run_folder

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.engine.prediction.connected_components import keep_main_components


def result_of(path, **options):
    """Result and labels; the image is so noisy that specks remain."""
    folder, _ = run_folder(path, (1, 1, 1), noise=300, max_steps=2, **options)
    run = EngineRun(folder)
    assert run.wait(120) == "done"
    return run.result(), folder.read_labels()


def test_loose_pieces_go_on_request_only(tmp_path):
    plain, labels = result_of(tmp_path / "plain")
    cleaned, _ = result_of(tmp_path / "cleaned", largest_component=True)
    assert not np.array_equal(plain, cleaned)
    plain = plain.copy()
    assert keep_main_components(plain, labels) > 0
    assert np.array_equal(plain, cleaned)
    drawn = labels != UNLABELLED
    assert np.array_equal(cleaned[drawn], labels[drawn])
