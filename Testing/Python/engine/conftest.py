"""Small trainings, where their size proves nothing."""

import pytest


@pytest.fixture
def small_training(monkeypatch):
    """Few steps of the shallow models, and small batches of the network."""
    pytest.importorskip("torch")
    from SparseSegNetLib.engine.planning import auto_plan
    from SparseSegNetLib.engine.stacking import voxel_classifier

    monkeypatch.setattr(voxel_classifier, "STEPS", (50, 200))
    monkeypatch.setitem(auto_plan.BATCHES, "cpu", (12**3, 8))
