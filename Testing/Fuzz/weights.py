"""Model files and checkpoints, whole and as their readers take them."""

from __future__ import annotations

import sys
from pathlib import Path

from whole_inputs import SHAPE


def write_weights(folder: Path, checkpoint: bool) -> None:
    import torch

    from SparseSegNetLib.engine.plan import Fingerprint
    from SparseSegNetLib.engine.planning.auto_plan import make_plan
    from SparseSegNetLib.engine.training.checkpoint import save_state

    plan = make_plan(Fingerprint(SHAPE, (1.0, 1.0, 1.0), 1, 3, 50, 2)).to_json()
    layer = torch.nn.Linear(3, 2)
    if not checkpoint:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
        from small_models import small_model

        small_model().save(folder / "model.safetensors")
        return
    tensors = {
        f"{part}.{name}": value
        for part in ("network", "average")
        for name, value in layer.state_dict().items()
    }
    tensors |= {"random.sampler": torch.get_rng_state(), "random.torch": torch.get_rng_state()}
    about = {
        "steps": 3,
        "scorings": 1,
        "rate": 1.0,
        "losses": [0.5],
        "network_share": 0.5,
        "held": True,
        "held_slices": ["k:2"],
        "best": 0.5,
        "batch": 4,
        "patch": [8, 8, 8],
        "optimiser": {"state": {}, "groups": [{"lr": 0.1}]},
        "plan": plan,
        "seconds": 3.0,
        "began": 1.0,
    }
    paths = folder / "state.safetensors", folder / "state-previous.safetensors"
    for _ in range(2):
        save_state(paths, tensors, about)


def read_model(folder: Path) -> object:
    import torch

    from SparseSegNetLib.engine.prediction.model import Model

    return Model.load(folder / "model.safetensors", torch.device("cpu"))


def read_checkpoint(folder: Path) -> object:
    from SparseSegNetLib.engine.plan import Plan
    from SparseSegNetLib.engine.training.checkpoint import load_state
    from SparseSegNetLib.engine.training.training_state import check_state

    told: list[str] = []
    state = load_state(
        (folder / "state.safetensors", folder / "state-previous.safetensors"),
        check_state,
        told.append,
    )
    if state is None:
        raise AssertionError("the generation before was not taken")
    return Plan.from_json(state[1]["plan"]), told
