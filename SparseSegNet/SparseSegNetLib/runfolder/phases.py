"""The phases of the engine's work, as progress events name them."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """A phase of a run; the value is its name in messages and in metrics.jsonl."""

    PREPARING = "preparing"
    CORRECTING_BIAS = "correcting bias"
    PROBING = "probing"
    COMPARING_SLICES = "comparing slices"
    HELD_OUT = "held out"
    ALL_SLICES = "all slices"
    PREDICTING = "predicting"
    PAUSED = "paused"


class RemotePhase(StrEnum):
    """A phase of the process that stands for an engine on another computer."""

    CONNECTING = "connecting"
    SENDING = "sending"
    RECEIVING = "receiving"
