"""The choices that shape a run, checked where they are made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from ..errors import InputError

NETWORKS = ("auto",)
SHORTEST_BUDGET = 5.0


@dataclass(frozen=True)
class Options:
    """network: a preset of the engine.  time_budget: seconds from the engine's start to its
    result.  device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' ….  seed: of all random choices.
    max_steps: end training after so many steps instead of by time (0: by time); together with
    the seed this makes a run on the CPU repeatable to the bit.
    """

    network: str = "auto"
    time_budget: float = 120.0
    device: str = "auto"
    seed: int = 0
    max_steps: int = 0

    def __post_init__(self):
        if self.network not in NETWORKS:
            raise InputError(f"unknown network '{self.network}': choose one of "
                             f"{', '.join(NETWORKS)}.")
        if not (math.isfinite(self.time_budget) and self.time_budget >= SHORTEST_BUDGET):
            raise InputError(f"the time budget is {self.time_budget:g} s: give at least "
                             f"{SHORTEST_BUDGET:g} s.")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"the seed is {self.seed}: give a whole number from 0 to 2^63 - 1.")
        if self.max_steps < 0:
            raise InputError(f"the number of steps is {self.max_steps}: it cannot be negative.")

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> Options:
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})
