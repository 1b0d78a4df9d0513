"""The states of a run, and the state that a phase of the engine belongs to."""

from __future__ import annotations

from ..runfolder.phases import Phase, RemotePhase

ENDED = ("done", "failed", "cancelled")
_OF_PHASE: dict[str, str] = {
    RemotePhase.CONNECTING: "preparing",
    RemotePhase.SENDING: "preparing",
    RemotePhase.RECEIVING: "finishing",
    Phase.PREPARING: "preparing",
    Phase.CORRECTING_BIAS: "preparing",
    Phase.PROBING: "preparing",
    Phase.PREDICTING: "finishing",
    Phase.PAUSED: "paused",
}


def state_of_phase(phase: str, trained: bool) -> str:
    """The state of a run in a phase.

    Args:
        phase: Of a progress event.
        trained: Whether training has begun: slices are compared before it, and again where labels
            have changed.
    """
    if phase == Phase.COMPARING_SLICES:
        return "training" if trained else "preparing"
    return _OF_PHASE.get(phase, "training")
