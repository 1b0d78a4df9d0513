"""One run from its folder to its result: prepare, probe, train, predict."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable

import numpy as np
import torch

from ..annotation.composition import check_trainable, keep_drawn
from ..run.folder import RunFolder
from . import metrics
from .device import choose_device, free_memory, prepare_threads
from .held_out import Split, hold_out, on_grid
from .inference import finish
from .model_file import save_model
from .plan import Plan, fingerprint, make_plan
from .preprocess import Normalisation, WorkingVolume, working_volume
from .probe import settle
from .trainer import Report, Stopped, Trainer

PROGRESS_EVERY = 0.25  # seconds
CHECKPOINT_EVERY = 30.0
LEAST_TRAINING = 1.0  # seconds, however short the budget
MEMORY_SHARE = 0.4  # of the free memory, for the volume on the device and its probabilities


class Cancelled(Exception):
    """The client gave the run up, or stopped it before anything was learnt."""


class Job:
    """commands: has the events `stop` and `cancel`.  emit: sends an event to the client.
    begun: time.monotonic() at which the time budget began."""

    def __init__(self, path: str, commands, emit: Callable[..., None], begun: float):
        self.commands, self.emit, self.begun = commands, emit, begun
        self.folder = RunFolder.open(path)
        self.options = self.folder.options
        self.trainer: Trainer | None = None
        self._last_progress = self._last_checkpoint = 0.0
        self._report: Report | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def run(self) -> None:
        threads = prepare_threads()
        device = choose_device(self.options.device)
        self.emit("ready", pid=os.getpid(), device=str(device), torch=torch.__version__,
                  threads=threads)
        self.input = self.folder.read_input(mapped=True)
        check_trainable(self.input.labels, self.folder.names)
        self.normalisation = Normalisation.measure(self.input.image)
        plan, volume = self._plan(device)
        split = self._split(plan, volume)
        self._train(plan, volume, split)
        self._predict(volume)

    def _check(self) -> None:
        """Break off when the client asked for it."""
        if self.commands.cancel.is_set():
            raise Cancelled("asked to")
        if self.commands.stop.is_set():
            raise Stopped

    def _volume(self, device: torch.device) -> Callable[[tuple], WorkingVolume]:
        def make(shape: tuple) -> WorkingVolume:
            return working_volume(self.input.image, self.input.labels,
                                  self.input.geometry.spacing_kji, shape, self.normalisation,
                                  device)
        return make

    def _plan(self, device: torch.device) -> tuple[Plan, WorkingVolume]:
        classes = len(self.folder.segments) + 1
        print_ = fingerprint(self.input.labels, self.input.geometry.spacing_kji,
                             self.input.image.shape[0], classes, len(self.input.slices))
        make = self._volume(device)
        if self.options.max_steps:
            # Nothing may depend on the clock: the same seed and steps give the same bits.
            plan = make_plan(print_)
            volume = make(plan.shape)
        else:
            self._progress(0, None, 0.0, "probing")
            # Image and its normalised copies, labels and probabilities, in bytes per voxel.
            bytes_per_voxel = 8 * print_.channels + 4 * classes + 8
            most = MEMORY_SHARE * free_memory(device) / bytes_per_voxel
            left = max(LEAST_TRAINING, self.options.time_budget - self.seconds)
            try:
                plan, volume = settle(print_, make, device, left, most, self._check)
            except Stopped:
                raise Cancelled("stopped before the first training step") from None
        if plan.shape != print_.shape:
            self.emit("warning", text=(
                "the volume is worked on at {}x{}x{} instead of {}x{}x{} voxels, to fit the time "
                "and memory; a longer time budget uses more.".format(
                    *reversed(plan.shape), *reversed(print_.shape))))
        versions = {"torch": torch.__version__, "python": platform.python_version(),
                    "numpy": np.__version__}
        self.folder.save_plan({"device": str(device), **plan.to_json()}, versions)
        self.emit("plan", device=str(device), **plan.to_json())
        return plan, volume

    def _split(self, plan: Plan, volume: WorkingVolume) -> Split | None:
        labels = volume.labels.cpu().numpy()
        slices = on_grid(self.input.slices, self.input.labels.shape, plan.shape)
        split = hold_out(labels, slices, self.options.seed)
        if split is None:
            self.emit("warning", text="too few annotated slices to hold one out: no honest score "
                                      "of the result can be given.")
        return split

    def _train(self, plan: Plan, volume: WorkingVolume, split: Split | None) -> None:
        seconds = max(LEAST_TRAINING,
                      self.options.time_budget - self.seconds - plan.seconds_to_predict)
        self._last_checkpoint = self.seconds
        self.trainer = Trainer(plan, [volume], len(self.folder.segments) + 1, split,
                               self.options.seed)
        try:
            self.trainer.train(seconds, self.options.max_steps, self._told)
        except Stopped:
            self.emit("warning", text="stopped early: the best result so far is kept.")
        self.trainer.use_best()
        self._save_model(self.folder.checkpoint_path)

    def _told(self, report: Report) -> None:
        """After each training step."""
        previous, self._report = self._report, report
        if report.held_out is not None or previous is None or previous.phase != report.phase:
            self._metrics(report)
        if self.seconds - self._last_progress >= PROGRESS_EVERY:
            self._progress(report.step, report.loss, report.fraction, report.phase)
        if self.seconds - self._last_checkpoint >= CHECKPOINT_EVERY:
            self._last_checkpoint = self.seconds
            self._save_model(self.folder.checkpoint_path)
        self._check()

    def _metrics(self, report: Report) -> None:
        rows = report.held_out
        record = {
            "step": report.step, "seconds": round(self.seconds, 3), "loss": _finite(report.loss),
            "phase": report.phase, "held_out": rows,
            "held_out_dice": None if rows is None else metrics.mean(r["dice"] for r in rows),
        }
        self.folder.append_metrics(record)
        self.emit("metrics", **record)

    def _progress(self, step: int, loss: float | None, fraction: float, phase: str) -> None:
        self._last_progress = self.seconds
        if self.options.max_steps:
            remaining = self.seconds / fraction * (1 - fraction) if fraction else None
        else:
            remaining = max(0.0, self.options.time_budget - self.seconds)
        record = {"step": step, "loss": _finite(loss), "seconds": round(self.seconds, 3),
                  "phase": phase}
        self.folder.append_metrics(record)
        self.emit("progress", **record, fraction=round(fraction, 4),
                  remaining=None if remaining is None else round(remaining, 1))

    def _predict(self, volume: WorkingVolume) -> None:
        report = self._report

        def step(share: float) -> None:
            if self.commands.cancel.is_set():
                raise Cancelled("asked to")
            self._progress(report.step, report.loss, share, "predicting")

        probabilities = self.trainer.predictor().probabilities(volume, step=step)
        labels, uncertainty = (t.numpy() for t in finish(probabilities, volume.full_shape))
        drawn = self.input.labels != 255
        uncertainty[drawn] = 0
        self.folder.write_result(1, keep_drawn(labels, self.input.labels), uncertainty)
        scored = [m for m in self.folder.read_metrics() if m.get("held_out")]
        self.emit("done", seconds=round(self.seconds, 2), step=report.step,
                  held_out=scored[-1]["held_out"] if scored else None,
                  held_out_slices=[str(s) for s in self.trainer.split.slices]
                  if self.trainer.split else [])

    def _save_model(self, path) -> None:
        plan = self.trainer.plan
        save_model(path, self.trainer.average, {
            "network": self.options.network,
            "plan": plan.to_json(),
            "inputs": self.input.image.shape[0],
            "channels": self.input.channels,
            "normalisation": {k: list(v) for k, v in vars(self.normalisation).items()},
            "segments": [s.to_json() for s in self.folder.segments],
            "provenance": {"run": self.folder.description["name"],
                           "created": self.folder.description["created"],
                           "steps": self.trainer.steps, "seed": self.options.seed,
                           "versions": self.folder.description["versions"]},
        })


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value or abs(value) == float("inf") else value
