"""Checkpoints and models whose header is JSON, but of another form."""

import json

import pytest
import torch
from safetensors.torch import save_file

from SparseSegNetLib.engine.plan import Fingerprint, Plan
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.training import checkpoint
from SparseSegNetLib.engine.training.checkpoint import load_state, save_state
from SparseSegNetLib.engine.training.training_state import check_state

PLAN = make_plan(Fingerprint((8, 8, 8), (1.0, 1.0, 1.0), 1, 2, 50, 2)).to_json()
ABOUT = {
    "steps": 3,
    "scorings": 1,
    "rate": 1.0,
    "losses": [0.5],
    "network_share": 0.5,
    "held": True,
    "held_slices": None,
    "best": None,
    "batch": 4,
    "patch": [8, 8, 8],
    "optimiser": {"state": {}, "groups": [{}]},
    "plan": PLAN,
    "seconds": 3.0,
    "began": 1.0,
}
TENSORS = {
    "network.a": torch.ones(2),
    "average.a": torch.ones(2),
    "random.sampler": torch.get_rng_state(),
    "random.torch": torch.get_rng_state(),
}
OTHERS = (3, [], None, "x", {}, {"schema": "1"}, {"schema": [1]}, {"schema": None})


@pytest.mark.parametrize(
    "about",
    [
        *OTHERS,
        {"schema": 1},
        {"schema": 1, **ABOUT, "steps": "3"},
        {"schema": 1, **ABOUT, "plan": {**PLAN, "strides": 3}},
        {"schema": 1, **ABOUT, "plan": {**PLAN, "shape": [0, 8, 8]}},
        {"schema": 1, **ABOUT, "optimiser": []},
    ],
    ids=lambda a: json.dumps(a)[:40],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, about):
    paths = tmp_path / "state.safetensors", tmp_path / "state-previous.safetensors"
    for _ in range(2):
        save_state(paths, TENSORS, ABOUT)
    save_file(TENSORS, paths[0], {checkpoint.KEY: json.dumps(about)})
    told = []
    tensors, found = load_state(paths, check_state, told.append)
    assert found["steps"] == 3 and tensors.keys() == TENSORS.keys()
    assert len(told) == 1 and str(paths[0]) in told[0] and "the one before" in told[0]
    paths[1].unlink()
    assert load_state(paths, check_state, told.append) is None and "begins anew" in told[1]


def test_a_checkpoint_without_weights_falls_back(tmp_path):
    paths = tmp_path / "state.safetensors", tmp_path / "state-previous.safetensors"
    save_state(paths, TENSORS, ABOUT)
    save_state(paths, {"random.torch": TENSORS["random.torch"]}, {**ABOUT, "steps": 4})
    assert load_state(paths, check_state)[1]["steps"] == 3


def test_a_plan_of_another_version_is_taken_as_far_as_it_is_known():
    more = {**PLAN, "further": 1, "strength": {"rotation": 3.0, "further": 2}}
    plan = Plan.from_json(more)
    assert plan.strength.rotation == 3.0 and plan.shape == (8, 8, 8)
