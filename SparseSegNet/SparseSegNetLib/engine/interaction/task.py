"""A task on a run folder: its lock, device and clock, and the commands of the client."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from ...runfolder.folder import RunFolder
from ...runfolder.lock import FolderLock
from ...runfolder.phases import Phase
from ..compute.device import prepare_threads
from ..stopping import Cancelled, Stopped
from ..training.together import Alone
from ..trial.choice import CPU, choose_devices
from .callback import pause
from .clock import Clock
from .commands import Commands
from .reporter import Reporter


class Task(ABC):
    """Carries out a run; a subclass says how.

    Args:
        path: The run folder.
        commands: Commands of the client.
        emit: Sends an event to the client.
        begun: time.monotonic() at which the time budget began.
        lock: The folder's lock if it is held already.

    Attributes:
        device: Of networks and volumes; known once `run` has begun.
        ensemble_device: Of priors and shallow model; mostly the same.
        apart: Whether these may be two.
        classes: Labels with background.
        partners: The ranks that train, too.
    """

    device: torch.device
    ensemble_device: torch.device
    apart = False

    def __init__(self, path: str, commands: Commands, emit: Callable, begun: float, lock=None):
        self.commands, self.emit, self._lock = commands, emit, lock
        self.folder = RunFolder.open(path)
        self.options = self.folder.options
        self.clock = Clock(self.options.time_budget, begun)
        self.reporter = Reporter(emit, self.folder, self.clock, self.options.max_steps > 0)
        self.classes = len(self.folder.segments) + 1
        self.partners = Alone()

    def run(self) -> None:
        """Does the work.

        Raises:
            InputError: The inputs cannot be used.
            EngineError: Something else makes it impossible.
            Cancelled: The client gave the run up, or stopped it before there was a result.
        """
        with self._lock or FolderLock(self.folder.path):
            self.folder.sweep()
            threads = prepare_threads()
            devices = choose_devices(self.options.device, self.apart)
            self.device, self.ensemble_device = devices.network, devices.ensemble
            self.emit(
                "ready",
                pid=os.getpid(),
                device=str(self.device),
                torch=torch.__version__,
                threads=threads,
            )
            self.reporter.progress(Phase.PREPARING)
            for note in devices.notes:
                self.reporter.warn(note)
            self.work()

    @abstractmethod
    def work(self) -> None:
        """Does the work of the run on `device`."""

    def check(self, phase: str, fraction: float = 0.0) -> None:
        """Reports the phase; pauses, stops or cancels where the client asked for it."""
        self.reporter.progress(phase, fraction)
        if self.commands.paused:
            self.clock.pause()
            pause(self.commands, self.reporter)
            self.clock.resume()
        if self.commands.cancel.is_set():
            raise Cancelled("asked to")
        if self.commands.stop.is_set():
            raise Stopped

    def raise_if_cancelled(self) -> None:
        """Raises Cancelled where the client wants it; a request to stop is not looked at."""
        if self.commands.cancel.is_set():
            raise Cancelled("asked to")

    def to_cpu(self) -> str | None:
        """Continues on the CPU where the device's memory does not suffice.

        Returns:
            A message; None if it is the CPU already.
        """
        devices = {str(d): None for d in (self.device, self.ensemble_device) if d != CPU}
        if not devices:
            return None
        self.device = self.ensemble_device = CPU
        return f"the CPU instead of {' and '.join(devices)}"
