"""A run that applies a model to volumes without annotation."""

from __future__ import annotations

import math

import torch

from ..errors import InputError
from ..runfolder.phases import Phase
from ..runfolder.presets import times
from .compute.allocation import free_memory
from .compute.boxes import working_shape
from .compute.memory import retry_smaller
from .data.inputs import Inputs
from .interaction.export import write_result
from .interaction.task import Task
from .prediction.inference import finish
from .prediction.model import Model, grid_of
from .stopping import Cancelled, Stopped

MEMORY_SHARE = 0.5  # of the free memory, for the volume and its probabilities
LEAST_VOXELS = 8**3  # of a grid that is made coarser since memory ran out


class SegmentationJob(Task):
    """Predicts the inputs of a run with the model in its folder."""

    def work(self) -> None:
        """Predicts one volume after the other."""
        self.reporter.by_steps = True  # there is no time budget: what is left is estimated
        path = self.folder.given_model
        if path is None:
            raise InputError(
                f"the run folder {self.folder.path} holds no model: begin a new run with one."
            )
        self.model = Model.load(path, self.device)
        self._check_fit()
        self.inputs = Inputs(self.folder, self.model.description.orientation)
        try:
            self.inputs.prepare(
                self.model.n4,
                lambda: self.check(Phase.CORRECTING_BIAS),
                lambda images: self.model.intensities,
            )
            for number in range(len(self.inputs.items)):
                self._segment(number)
        except Stopped:
            raise Cancelled("stopped before the end") from None
        self.emit(
            "done",
            seconds=round(self.clock.seconds, 2),
            step=0,
            held_out=None,
            held_out_slices=[],
            seconds_aside={},
        )

    def _check_fit(self) -> None:
        description = self.model.description
        channels = len(self.folder.read_input(1, mapped=True).image)
        if channels != len(description.channels):
            raise InputError(
                f"the image has {channels} channels and the model needs "
                f"{len(description.channels)}: {', '.join(description.channels)}."
            )
        if len(self.folder.segments) != len(description.segments):
            raise InputError(
                f"the run has {len(self.folder.segments)} segments and its model "
                f"{len(description.segments)}: begin a new run with that model."
            )

    def _segment(self, number: int) -> None:
        item, count = self.inputs.items[number], len(self.inputs.items)
        full, spacing = item.labels.shape, item.geometry.spacing_kji
        # The image and its normalised copies, features of a slab, probabilities and their blend.
        each = 12 * len(item.image) + 12 * self.model.classes + 8
        most = [MEMORY_SHARE * free_memory(self.device) / each]
        wanted = grid_of(full, spacing, self.model.spacing)

        def grid() -> tuple[int, int, int]:
            mm = tuple(s * n / m for s, n, m in zip(spacing, full, wanted, strict=True))
            return working_shape(wanted, mm, most[0])

        if grid() != wanted:
            self.reporter.warn(
                f"the volume is worked on at {times(grid())} instead of {times(wanted)} voxels, to "
                "fit the memory."
            )

        def step(share: float) -> None:
            self.check(Phase.PREDICTING, (number + share) / count)

        def attempt() -> tuple[torch.Tensor, torch.Tensor]:
            volume = self.inputs.volume(number, grid(), self.device)
            found = self.model.probabilities(
                volume, step, lambda tile: self.reporter.recovered(f"tiles of {times(tile)} voxels")
            )
            return finish(found, volume.full_shape)

        def smaller() -> str | None:
            if self.device.type != "cpu":
                message = self.to_cpu()
                path = self.folder.given_model
                assert path is not None
                self.model = Model.load(path, self.device)
                return message
            if math.prod(grid()) < 2 * LEAST_VOXELS:
                return None
            most[0] = math.prod(grid()) / 2
            return f"a working grid of {times(grid())} voxels"

        self.reporter.progress(Phase.PREDICTING, number / count, now=True)
        labels, uncertainty = retry_smaller(
            attempt, smaller, self.reporter.recovered, self.device, "predicting"
        )
        write_result(
            self.folder,
            number,
            self.inputs.turned_back(number, labels.numpy()),
            self.inputs.turned_back(number, uncertainty.numpy()),
            whole=True,
        )
