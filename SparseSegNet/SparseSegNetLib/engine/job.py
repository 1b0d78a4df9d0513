"""One run from its folder to its result: prepare, probe, train, predict."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable

import numpy as np
import torch

from ..annotation.composition import check_trainable, keep_drawn, restrict_to_slices
from ..errors import InputError
from ..run.folder import RunFolder
from ..run.presets import times
from . import metrics
from .bias_field import correct_bias
from .device import choose_device, free_memory, prepare_threads
from .held_out import Split, hold_out, hold_out_fold
from .inference import finish
from .model_file import save_model
from .plan import Plan, fingerprint, make_plan
from .preprocess import Normalisation, WorkingVolume, working_volume
from .priors import Priors
from .probe import resampled_shape, settle
from .recipes import published_plan
from .stacking import Stack, Stacker, prior_of
from .trainer import Report, Stopped, Trainer

PROGRESS_EVERY = 0.25  # seconds
CHECKPOINT_EVERY = 30.0
LEAST_TRAINING = 1.0  # seconds, however short the budget
FEW_STEPS = 100
SAME_SPACING = 0.05  # spacings that differ by less count as the same
WORTH_TRAINING = 5.0  # seconds, where the slices alone already gave a result
PRIORS_SHARE = 0.15  # of the time left, at most, for registering slices
STACK_SHARE = 0.6  # of the time left, at most, for the shallow model
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
        self._report = Report(0, None, 0.0, "preparing")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def run(self) -> None:
        threads = prepare_threads()
        device = choose_device(self.options.device)
        self.emit("ready", pid=os.getpid(), device=str(device), torch=torch.__version__,
                  threads=threads)
        self.inputs = [self.folder.read_input(n + 1, mapped=True)
                       for n in range(self.folder.count)]
        self.trained = [n for n, item in enumerate(self.inputs) if (item.labels != 255).any()]
        check_trainable(np.concatenate([np.unique(item.labels) for item in self.inputs]),
                        self.folder.names)
        for number, item in enumerate(self.inputs, start=1):
            if not np.isfinite(item.image).all():
                raise InputError(f"input {number} has voxels that are not finite (NaN or "
                                 "infinite): replace them first.")
        self._correct_bias()
        self.normalisations = [Normalisation.measure(item.image) for item in self.inputs]
        plan, volumes = self._plan(device)
        stack = self._stack(plan, volumes[self.trained[0]])
        split = self._split(plan, volumes[self.trained[0]], stack)
        self._train(plan, [volumes[n] for n in self.trained], split, stack)
        volumes[self.trained[0]] = self.trainer.target
        self._predict(plan, volumes, device)

    def _check(self) -> None:
        """Break off when the client asked for it."""
        if self.commands.cancel.is_set():
            raise Cancelled("asked to")
        if self.commands.stop.is_set():
            raise Stopped

    def _correct_bias(self) -> None:
        if not self.options.n4:
            return

        def check() -> None:
            if self.seconds - self._last_progress >= PROGRESS_EVERY:
                self._progress(0, None, 0.0, "correcting bias")
            self._check()

        try:
            for item in self.inputs:
                item.image = correct_bias(item.image, item.geometry.spacing_kji, check)
        except Stopped:
            raise Cancelled("stopped before the first training step") from None

    def _volume(self, number: int, shape: tuple, device: torch.device) -> WorkingVolume:
        return working_volume(self.inputs[number], shape, self.normalisations[number], device)

    def _shape_like(self, number: int, plan: Plan) -> tuple:
        """The working grid of another input: at the plan's spacing, its own if that is nearly
        the same."""
        item = self.inputs[number]
        shape, spacing = item.labels.shape, item.geometry.spacing_kji
        wanted = tuple(max(1, round(n * s / mm))
                       for n, s, mm in zip(shape, spacing, plan.spacing, strict=True))
        near = all(abs(s / mm - 1) < SAME_SPACING
                   for s, mm in zip(spacing, plan.spacing, strict=True))
        return shape if near else wanted

    def _plan(self, device: torch.device) -> tuple[Plan, dict[int, WorkingVolume]]:
        """The plan, made for the first annotated volume, and all annotated working volumes."""
        first = self.trained[0]
        item = self.inputs[first]
        classes = len(self.folder.segments) + 1
        print_ = fingerprint(item.labels, item.geometry.spacing_kji, item.image.shape[0],
                             classes, len(item.slices), len(self.inputs))
        if self.options.max_steps:
            # Nothing may depend on the clock: the same seed and steps give the same bits.
            shape = resampled_shape(print_, self.options)
            plan = make_plan(print_, shape=shape) if self.options.network == "auto" else \
                published_plan(print_, self.options, shape)
            volume = self._volume(first, shape, device)
        else:
            self._progress(0, None, 0.0, "probing")
            # Image and its normalised copies, labels and probabilities, in bytes per voxel.
            bytes_per_voxel = len(self.inputs) * (8 * print_.channels + 4 * classes + 8)
            if self.options.network == "auto" and print_.priors:
                bytes_per_voxel += Stacker.bytes_per_voxel(print_.channels, classes)
            most = MEMORY_SHARE * free_memory(device) / bytes_per_voxel
            left = max(LEAST_TRAINING, self.options.time_budget - self.seconds)
            try:
                plan, volume = settle(print_, self.options,
                                      lambda shape: self._volume(first, shape, device),
                                      device, left, most, self._check)
            except Stopped:
                raise Cancelled("stopped before the first training step") from None
            self._warn_of_few_steps(plan)
        volumes = {first: volume}
        for number in self.trained[1:]:
            volumes[number] = self._volume(number, self._shape_like(number, plan), device)
        if plan.shape != resampled_shape(print_, self.options):
            self.emit("warning", text=(
                f"the volume is worked on at {times(plan.shape)} instead of "
                f"{times(print_.shape)} voxels, to fit the time and memory; a longer time "
                "budget uses more."))
        versions = {"torch": torch.__version__, "python": platform.python_version(),
                    "numpy": np.__version__}
        self.folder.save_plan({"device": str(device), **plan.to_json()}, versions)
        self.emit("plan", device=str(device), **plan.to_json())
        return plan, volumes

    def _warn_of_few_steps(self, plan: Plan) -> None:
        left = self.options.time_budget - self.seconds - plan.seconds_to_predict
        steps = max(1, round(left / max(1e-6, plan.seconds_per_step)))
        if steps < FEW_STEPS and plan.network != "auto":
            smaller = "a smaller --tile or --width" + (
                " or --kernel 3" if max(map(max, plan.kernels)) > 3 else "")
            self.emit("warning", text=(
                f"only about {steps} training steps of the network {plan.network} fit into the "
                f"time on this device, too few to learn much: take a GPU, a longer time budget, "
                f"{smaller}, or the network auto."))

    def _stack(self, plan: Plan, volume: WorkingVolume) -> Stack | None:
        """What the slices alone say, which is also the first preview."""
        if not plan.priors:
            return None

        def compare(share: float) -> None:
            self._progress(0, None, 0.0, "comparing slices")
            self._check()

        left = None if self.options.max_steps else self.options.time_budget - self.seconds
        classes = len(self.folder.segments) + 1

        def stacked(left: float | None, step: Callable[[float], None]) -> Stack:
            priors = Priors(volume, classes, None if left is None else PRIORS_SHARE * left, step)
            return Stacker(priors, self.options.seed, None if left is None else STACK_SHARE * left,
                           plan.dtype, step).stack(volume.labels, volume.slices)

        try:
            stack = stacked(left, compare)
        except Stopped:
            self.emit("warning", text="stopped before the first training step: the result is what "
                                      "the slices alone say.")
            stack = stacked(0.0, lambda share: None)
        labels, _ = finish(prior_of(stack.target, classes).cpu(), volume.full_shape)
        self._preview(labels.numpy(), 0)
        if stack.scores is not None:
            self._metrics(Report(0, None, 0.0, "comparing slices", stack.scores))
        return stack

    def _preview(self, labels: np.ndarray, step: int) -> None:
        number = self.trained[0]
        self.folder.write_preview(number + 1, keep_drawn(labels, self.inputs[number].labels))
        self.emit("preview", input=number + 1, step=step, seconds=round(self.seconds, 3))

    def _split(self, plan: Plan, volume: WorkingVolume, stack: Stack | None) -> Split | None:
        if not self.options.hold_out:
            return None
        labels = volume.labels.cpu().numpy()
        if stack is None:
            split = hold_out(labels, volume.slices, self.options.seed)
        else:
            split = hold_out_fold(stack.folds, labels, self.options.seed)
        if split is None and (stack is None or stack.scores is None):
            reason = "too few annotated slices" if stack is None or len(volume.slices) < 2 else \
                "too little time"
            self.emit("warning", text=f"{reason} to hold any out: no honest score of the result "
                                      "can be given.")
        return split if plan.held_out_share > 0 else None

    def _train(self, plan: Plan, volumes: list[WorkingVolume], split: Split | None,
               stack: Stack | None) -> None:
        self.trainer = Trainer(plan, volumes, len(self.folder.segments) + 1, split,
                               self.options.seed, stack)
        left = self.options.time_budget - self.seconds - plan.seconds_to_predict
        seconds = max(LEAST_TRAINING, left)
        if stack is not None and (not stack.folds or left < WORTH_TRAINING):
            seconds = 0.0  # what the slices alone say is the result
        self._last_checkpoint = self.seconds
        try:
            self.trainer.train(seconds, self.options.max_steps, self._told)
        except Stopped:
            self.emit("warning", text="stopped early: the best result so far is kept.")
        self.trainer.use_best()
        self._save_model(self.folder.checkpoint_path)

    def _told(self, report: Report) -> None:
        """After each training step."""
        previous, self._report = self._report, report
        if report.recovered:
            self.emit("oom-recovered", step=report.step, text=(
                f"memory ran out: training goes on with {report.recovered}."))
        if report.held_out is not None or previous.phase != report.phase:
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

    def _predict(self, plan: Plan, volumes: dict[int, WorkingVolume],
                 device: torch.device) -> None:
        report = self._report
        wanted = [n for n, item in enumerate(self.inputs) if item.predict != []]
        for done, number in enumerate(wanted):
            def step(share: float, done: int = done) -> None:
                if self.commands.cancel.is_set():
                    raise Cancelled("asked to")
                self._progress(report.step, report.loss, (done + share) / len(wanted),
                               "predicting")

            volume = volumes.get(number) or \
                self._volume(number, self._shape_like(number, plan), device)
            labels, uncertainty = self._predicted(number, volume, step)
            drawn = self.inputs[number].labels
            uncertainty[drawn != 255] = 0
            self.folder.write_result(number + 1, keep_drawn(labels, drawn), uncertainty)
        scored = [m for m in self.folder.read_metrics() if m.get("held_out")]
        self.emit("done", seconds=round(self.seconds, 2), step=report.step,
                  held_out=scored[-1]["held_out"] if scored else None,
                  held_out_slices=[str(s) for s in self.trainer.split.slices]
                  if self.trainer.split else [])

    def _predicted(self, number: int, volume: WorkingVolume,
                   step: Callable[[float], None]) -> tuple[np.ndarray, np.ndarray]:
        """Labels and uncertainty, uint8 (k, j, i), of an input; of slices alone the labels."""
        predictor, slices = self.trainer.predictor(), self.inputs[number].predict
        if slices is None or volume.shape != volume.full_shape:
            found = self.trainer.probabilities(volume, step)
            labels, uncertainty = (t.numpy() for t in finish(found, volume.full_shape))
            if slices is not None:
                labels = restrict_to_slices(labels, slices)
            return labels, uncertainty
        labels = np.full(volume.shape, 255, np.uint8)
        for n, item in enumerate(slices):
            step(n / len(slices))
            labels[item.selector()] = predictor.slice_labels(volume, item).numpy()
        return labels, np.zeros(volume.shape, np.uint8)

    def _save_model(self, path) -> None:
        plan = self.trainer.plan
        save_model(path, self.trainer.average, {
            "network": self.options.network,
            "plan": plan.to_json(),
            "inputs": self.inputs[0].image.shape[0],
            "channels": self.inputs[0].channels,
            "normalisation": [{k: list(v) for k, v in vars(self.normalisations[n]).items()}
                              for n in self.trained],
            "segments": [s.to_json() for s in self.folder.segments],
            "provenance": {"run": self.folder.description["name"],
                           "created": self.folder.description["created"],
                           "steps": self.trainer.steps, "seed": self.options.seed,
                           "versions": self.folder.description["versions"]},
        })


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value or abs(value) == float("inf") else value
