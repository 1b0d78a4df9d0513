"""Between the steps of a training: commands of the client, previews, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ...annotation.composition import UNLABELLED, keep_drawn
from ...annotation.slices import AnnotatedSlice, array_axis, check_slices, parse_slices
from ...errors import InputError
from ...runfolder.options import SHORTEST_BUDGET
from ...runfolder.phases import Phase
from ..compute.boxes import box_within, round_up
from ..compute.memory import retry_smaller
from ..compute.problems import out_of_memory
from ..data.inputs import Inputs
from ..data.preprocessing import coarse_index
from ..stopping import Cancelled, Interrupted, Stopped
from ..training.report import Report
from ..training.trainer import Trainer
from .clock import Clock
from .commands import Commands
from .export import labels_with_annotation
from .reporter import Reporter

CHECKPOINT_EVERY = (3.0, 15.0)  # seconds, at least and at most
CHECKPOINT_SHARE = 0.01  # of the time, where that allows more than the least
PREVIEW_EVERY = 5.0  # seconds, at least
PREVIEW_SHARE = 0.03  # of the time, at most, goes into previews that nobody asked for
PREVIEW_TILE = 48**3  # voxels: commands are looked at between two tiles
TRAIN_FIRST = 1.0  # seconds on new labels before they are shown
QUIET = 3.0  # seconds without new labels before the priors are made again
PRIORS_PAUSE = 3.0  # times what it took, until they are made again
HEARTBEAT = 5.0  # seconds between signs of life while paused


class TrainingCallback:
    """Called after each step of a training.

    Args:
        trainer: The training.
        inputs: The run's volumes.
        commands: Commands of the client.
        clock: The run's time.
        reporter: Gets reports, previews and warnings.
        save: Writes a checkpoint.
        restack: Makes the priors again from the labels as they are; it is given a function to
            call in between.
        drawn: Called with the number of a volume and its labels before they changed.

    Attributes:
        aside: Seconds of the training that went into something else, for the benchmarks.
    """

    def __init__(
        self,
        trainer: Trainer,
        inputs: Inputs,
        commands: Commands,
        clock: Clock,
        reporter: Reporter,
        save: Callable[[], None],
        restack: Callable[[Callable[[], None]], None],
        drawn: Callable[[int, np.ndarray], None],
    ):
        self.drawn = drawn
        self.trainer, self.inputs, self.commands = trainer, inputs, commands
        self.clock, self.reporter, self.save, self.restack = clock, reporter, save, restack
        self._saved = self._previewed = clock.seconds
        self._checkpoint_cost = 0.0
        self._preview_cost = trainer.plan.seconds_to_predict
        self._wanted: dict[int, list[AnnotatedSlice] | None] = {}
        self._answer_from = 0.0
        self._restack_from: float | None = None
        self._restack_not_before = 0.0
        self.aside = {"checkpoints": 0.0, "previews": 0.0, "priors": 0.0}

    def after_step(self, report: Report) -> None:
        """Carries out commands of the client, makes previews and checkpoints.

        Raises:
            Stopped: The client wants the best result so far.
            Cancelled: The client gave the run up, or it is interrupted.
        """
        self.reporter.step(report)
        self.check()
        for message in self.commands.take():
            getattr(self, "_on_" + message["command"].replace("-", "_"))(message)
        now = self.clock.seconds
        if self._wanted:  # nothing long is begun while somebody waits for an answer
            if now >= self._answer_from:
                self._timed("previews", self._answer)
        elif self._restack_from is not None and now >= self._restack_from:
            self._timed("priors", self._make_priors_again)
        elif now - self._previewed >= max(PREVIEW_EVERY, self._preview_cost / PREVIEW_SHARE):
            self._timed("previews", lambda: self._show_all(0))
        least, most = CHECKPOINT_EVERY
        if self.clock.seconds - self._saved >= min(
            most, max(least, self._checkpoint_cost / CHECKPOINT_SHARE)
        ):
            self._timed("checkpoints", self.checkpoint)

    def _timed(self, what: str, action: Callable[[], object]) -> None:
        begun = time.monotonic()
        try:
            action()
        finally:
            self.aside[what] += time.monotonic() - begun

    def check(self) -> None:
        """Pauses, stops or cancels where the client asked for it, as `after_step`."""
        if self.commands.paused:
            self._pause()
        if self.commands.cancel.is_set():
            if self.commands.interrupted:
                self.checkpoint()
            raise Cancelled("asked to")
        if self.commands.stop.is_set():
            raise Stopped

    def checkpoint(self) -> None:
        """Writes a checkpoint to resume from."""
        self._saved, begun = self.clock.seconds, time.monotonic()
        saved = self.reporter.trying("the checkpoint", self.save)
        self._checkpoint_cost = time.monotonic() - begun
        if saved:
            self.reporter.emit(
                "checkpoint", step=self.trainer.steps, seconds=round(self.clock.seconds, 3)
            )

    def _pause(self) -> None:
        device = self.trainer.device
        self.clock.pause()
        self.checkpoint()
        self.trainer.move(torch.device("cpu"))
        pause(self.commands, self.reporter)
        # Meanwhile other programs may have taken the device's memory.
        places = [device, torch.device("cpu")]

        def smaller() -> str | None:
            return f"the CPU instead of {places.pop(0)}" if len(places) > 1 else None

        retry_smaller(
            lambda: self.trainer.move(places[0]),
            smaller,
            self.reporter.recovered,
            device,
            "going on after the pause",
        )
        self.clock.resume()

    def _on_set(self, message: dict) -> None:
        budget = float(message["time_budget"])
        if budget < SHORTEST_BUDGET:
            self.reporter.warn(
                f"the time budget {budget:g} is refused: give at least {SHORTEST_BUDGET:g} s."
            )
            return
        self.clock.budget = budget
        folder = self.inputs.folder
        folder.options = replace(folder.options, time_budget=budget)
        folder.description["options"] = folder.options.to_json()
        self.reporter.trying("the new time budget", folder.save)

    def _on_labels_changed(self, message: dict) -> None:
        try:
            number = self._number(message)
            before = self.inputs.items[number].labels
            self.inputs.reread(number)
        except InputError as error:
            self.reporter.warn(f"the changed labels are not used: {error}")
            return
        labels = self.inputs.items[number].labels
        if not np.array_equal(labels, before):
            self.drawn(number, before)
            self._teach(number)
            self._make_priors_from(self.clock.seconds + QUIET)
        self._answer_from = self.clock.seconds + TRAIN_FIRST
        self.reporter.emit(
            "labels",
            input=number + 1,
            step=self.trainer.steps,
            labelled=int((labels != UNLABELLED).sum()),
        )

    def _teach(self, number: int) -> None:
        trainer, trained = self.trainer, self.inputs.trained
        if number in trained:
            place = trained.index(number)
            volume = trainer.training_set.volumes[place]
            trainer.change_labels(place, *self.inputs.labels_for(number, volume))
        else:
            trainer.add_volume(self.inputs.volume_like(number, trainer.plan, trainer.device))
            trained.append(number)

    def _on_preview(self, message: dict) -> None:
        try:
            number = self._number(message)
            planes = message.get("planes")
            slices = None if planes is None else parse_slices(planes)
            check_slices(slices or [], self.inputs.folder.shape(number + 1))
            if number not in self.inputs.trained:
                raise InputError(f"input {number + 1} is not annotated")
        except InputError as error:
            self.reporter.warn(f"no preview: {error}")
            return
        self._wanted[number] = slices

    def _number(self, message: dict) -> int:
        number = message.get("input", 1)
        if number not in range(1, len(self.inputs.items) + 1):
            raise InputError(f"there is no input {number!r}.")
        return number - 1

    def _answer(self) -> None:
        for number, slices in list(self._wanted.items()):
            if slices is None:
                if not self._show_all(number, asked=True):
                    return  # interrupted: it is answered later
            else:
                self._show_slices(number, slices)
            self._wanted.pop(number, None)

    def _show_all(self, number: int, asked: bool = False) -> bool:
        """Predicts a whole volume as a preview; False when something more urgent came."""
        begun = time.monotonic()
        before = ("labels-changed",) if asked else ("labels-changed", "preview")
        trainer = self.trainer
        volume = trainer.training_set.volumes[self.inputs.trained.index(number)]
        self._previewed = self.clock.seconds
        try:
            found = trainer.probabilities(
                volume, lambda share: self._let_in(*before), self._small_tile()
            )
        except Interrupted:
            return False
        drawn = self.inputs.items[number].labels
        labels = labels_with_annotation(found, volume, drawn)
        self.reporter.preview(number, self.inputs.turned_back(number, labels))
        self._preview_cost = time.monotonic() - begun
        self._previewed = self.clock.seconds
        return True

    def _small_tile(self) -> tuple[int, int, int] | None:
        """On a CPU whole tiles take seconds, in which no command would be noticed."""
        plan = self.trainer.plan
        if self.trainer.device.type != "cpu" or plan.planar or any(plan.margin):
            return None
        return round_up(box_within(plan.tile, plan.spacing, PREVIEW_TILE), plan.divisor)

    def _show_slices(self, number: int, slices: list[AnnotatedSlice]) -> None:
        """Predicts single slices, given on the original grid."""
        volume = self.trainer.training_set.volumes[self.inputs.trained.index(number)]
        item, turn = self.inputs.items[number], self.inputs.turns[number]
        shown = {}
        for wanted in slices:
            (turned,) = turn.slices([wanted], self.inputs.folder.shape(number + 1))
            axis = array_axis(turned.axis)
            index = coarse_index(turned.index, volume.full_shape[axis], volume.shape[axis])
            found = self.trainer.slice_probabilities(volume, AnnotatedSlice(turned.axis, index))
            shape = [n for a, n in enumerate(volume.full_shape) if a != axis]
            if list(found.shape[1:]) != shape:
                found = F.interpolate(
                    found[None], size=shape, mode="bilinear", align_corners=False
                )[0]
            labels = keep_drawn(
                found.argmax(dim=0).to(torch.uint8).numpy(), item.labels[turned.selector()]
            )
            if not turn.identity:
                whole = np.full(volume.full_shape, UNLABELLED, np.uint8)
                whole[turned.selector()] = labels
                plane = AnnotatedSlice(wanted.axis, wanted.index).selector()
                labels = turn.back(whole)[plane]
            shown[wanted] = labels
        self.reporter.preview_slices(number, shown)

    def _let_in(self, *names: str) -> None:
        if self.commands.urgent(*names):
            raise Interrupted

    def _make_priors_from(self, when: float) -> None:
        self._restack_from = max(when, self._restack_not_before)

    def _make_priors_again(self) -> None:
        self._restack_from = None
        begun = self.clock.seconds

        def step() -> None:
            self.reporter.progress(Phase.COMPARING_SLICES)
            self._let_in("labels-changed")

        try:
            self.restack(step)
        except Interrupted:
            self._make_priors_from(self.clock.seconds + QUIET)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            self.reporter.warn(
                "memory ran out while the priors were made again: training goes "
                "on with the old ones."
            )
        now = self.clock.seconds
        self._restack_not_before = now + PRIORS_PAUSE * (now - begun)


def pause(commands: Commands, reporter: Reporter) -> None:
    """Waits while the client wants a pause, with a progress event now and then."""
    reporter.emit("paused", step=reporter.newest.step)
    while commands.paused:
        reporter.progress(Phase.PAUSED, now=True)
        commands.wait(HEARTBEAT)
