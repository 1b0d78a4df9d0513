"""The states of a run, and the state that a phase of the engine belongs to."""

from __future__ import annotations

ENDED = ("done", "failed", "cancelled")
_OF_PHASE = {
    "connecting": "preparing",
    "sending": "preparing",
    "correcting bias": "preparing",
    "probing": "preparing",
    "predicting": "finishing",
    "receiving": "finishing",
    "paused": "paused",
}


def state_of_phase(phase: str, trained: bool) -> str:
    """The state of a run in a phase.

    Args:
        phase: Of a progress event.
        trained: Whether training has begun: slices are compared before it, and again where labels
            have changed.
    """
    if phase == "comparing slices":
        return "training" if trained else "preparing"
    return _OF_PHASE.get(phase, "training")
