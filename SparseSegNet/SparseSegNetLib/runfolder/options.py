"""Options of a run, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import InputError
from .presets import Preset, preset

SHORTEST_BUDGET = 5.0
MODALITIES = ("auto", "ct", "other")


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        network: A preset of the engine.
        time_budget: Seconds from the engine's start to its result.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' ….
        seed: Random seed of the whole run.
        max_steps: End training after so many steps instead of by time (0: by time); together
            with the seed this makes a run on the CPU repeatable to the bit.
        tile: Voxels along i, j, k that a published network takes in; None as published.
        kernel: Edge of the convolutions of a published network (V-Net: 5 or 3); None as
            published.
        width: Channels of the first level of a published network; None as published.
        batch_norm: False leaves out the batch normalisation of a published network.
        n4: Correct the bias field of each channel first (Tustison 2010).
        resample: Spacing of the grid to work on, mm along i, j, k; None for the image's own.
        hold_out: Hold out some annotated slices from training as validation slices.
        largest_component: Keep of each segment only its largest connected component, and the
            components that touch annotation.
        modality: How the intensities of several volumes compare: 'ct' for Hounsfield units, 'other'
            where each volume has its own scale, 'auto' to tell by the values.
        match_histograms: Match the histogram of each volume to that of the training set, percentile
            by percentile (Nyul 2000; for MR of several scanners).
        save_model: Make a model of a single volume too, after its result, that predicts others.
        scan_names: Store the names of scans, channels and files in the run folder, and so in the
            model; False stores numbers instead, for names may be those of patients.
        probabilities: Write the class probabilities of the result, too, on the working grid.
        priors_alone: Train no network, and write the ensembles that were made without each fold's
            labels: a network is trained on them afterwards, at a finer resolution.

    Raises:
        InputError: A value is out of range or does not fit the network.
    """

    network: str = "auto"
    time_budget: float = 120.0
    device: str = "auto"
    seed: int = 0
    max_steps: int = 0
    tile: tuple[int, int, int] | None = None
    kernel: int | None = None
    width: int | None = None
    batch_norm: bool = True
    n4: bool = False
    resample: tuple[float, float, float] | None = None
    hold_out: bool = True
    largest_component: bool = False
    modality: str = "auto"
    match_histograms: bool = False
    save_model: bool = False
    scan_names: bool = True
    probabilities: bool = False
    priors_alone: bool = False

    def __post_init__(self):
        chosen = preset(self.network)
        if not (math.isfinite(self.time_budget) and self.time_budget >= SHORTEST_BUDGET):
            raise InputError(
                f"the time budget is {self.time_budget:g} s: give at least {SHORTEST_BUDGET:g} s."
            )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"the seed is {self.seed}: give a whole number from 0 to 2^63 - 1.")
        if self.max_steps < 0:
            raise InputError(f"the number of steps is {self.max_steps}: it cannot be negative.")
        self._check_network(chosen)
        if self.modality not in MODALITIES:
            raise InputError(
                f"the modality is '{self.modality}': choose one of {', '.join(MODALITIES)}."
            )
        if self.resample is not None and (
            len(self.resample) != 3 or not all(math.isfinite(mm) and mm > 0 for mm in self.resample)
        ):
            raise InputError(
                f"the spacing to resample to is {self.resample}: give three positive "
                "numbers, mm along i, j and k."
            )

    def _check_network(self, chosen: Preset) -> None:
        if chosen.tile is None:
            given = [
                name
                for name, value in (
                    ("tile", self.tile),
                    ("kernel", self.kernel),
                    ("width", self.width),
                )
                if value is not None
            ]
            if given or not self.batch_norm:
                raise InputError(
                    f"{' and '.join(given) or 'batch normalisation'} cannot be "
                    f"chosen for the network {chosen.name}, which finds it by "
                    "itself: choose a published network with it."
                )
            return
        if self.tile is not None:
            if len(self.tile) != 3:
                raise InputError(
                    f"the tile {self.tile} has {len(self.tile)} sides: give three, "
                    "voxels along i, j and k."
                )
            i, j, k = self.tile
            chosen.check_tile((k, j, i))
        if self.kernel is not None and self.kernel not in chosen.kernels:
            raise InputError(
                f"a kernel of {self.kernel} voxels is not offered for the network "
                f"{chosen.name}: choose "
                f"{' or '.join(map(str, chosen.kernels))}."
            )
        if self.width is not None and not 1 <= self.width <= 256:
            raise InputError(
                f"the width is {self.width} channels: give 1 to 256 (published: {chosen.width})."
            )
        if not self.batch_norm and not chosen.batch_norm:
            raise InputError(f"the network {chosen.name} has no batch normalisation to leave out.")

    def to_json(self) -> dict:
        """Dictionary of all options that can be written as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> Options:
        """Options from `to_json`'s dictionary; unknown names are ignored."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known
        }
        return cls(**values)
