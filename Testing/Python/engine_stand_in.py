"""Stands in for runs of the engine: thresholds images and writes results into the run folder."""

import shutil
from typing import ClassVar

import numpy as np
from model_files import DESCRIPTION, write_model

from SparseSegNetLib.errors import EngineError
from SparseSegNetLib.runfolder.prior_outputs import write_probabilities

THRESHOLDS = (30, 100)  # above which there is Shell, and Core


class StandIn:
    """A run that is done after one `wait`.

    Attributes:
        made: All runs, in order.
        faults: By the name of an input, what happens instead of a result: an EngineError, or an
            exception that is raised while the client waits, such as KeyboardInterrupt.
    """

    made: ClassVar[list] = []
    faults: ClassVar[dict] = {}

    def __init__(self, folder):
        self.folder, self.state, self.error = folder, "preparing", None
        self.warnings, self.plan = [], {"network": "auto", "event": "plan"}
        self.summary = {}
        self.inputs = [folder.read_input(n) for n in range(1, folder.count + 1)]
        self.given_model = folder.given_model is not None
        self._observers = []
        type(self).made.append(self)

    @property
    def ended(self):
        return self.state in ("done", "failed", "cancelled")

    def observe(self, observer):
        self._observers.append(observer)

    def cancel(self):
        self.state = "cancelled"

    def stop(self):
        self._finish()

    def wait(self, timeout=None):
        fault = type(self).faults.get(self.inputs[0].name)
        if isinstance(fault, EngineError):
            self.folder.log_path.write_text("it crashed")
            self.error, self.state = fault, "failed"
            return
        event = {"event": "progress", "step": 1, "loss": None, "seconds": 1.0, "remaining": 1.0}
        for observer in self._observers:
            observer({**event, "phase": "predicting", "fraction": 0.5})
        if fault is not None:
            raise fault
        self._finish()

    def _finish(self):
        for number, item in enumerate(self.inputs, start=1):
            if item.predict != []:
                labels = np.digitize(item.image[0], THRESHOLDS).astype(np.uint8)
                uncertainty = np.where(labels == 1, 200, 0).astype(np.uint8)
                self.folder.write_result(number, labels, uncertainty)
                if self.folder.options.probabilities:
                    one = np.arange(len(THRESHOLDS) + 1)[:, None, None, None] == labels
                    write_probabilities(self.folder.path, number, one)
        if self.folder.task == "train":
            channels = self.inputs[0].channels
            ranges = [(0.0, 1.0)] * len(channels)
            write_model(self.folder.model_path, channels=channels, ranges=ranges)
        elif self.folder.task == "densify" and self.folder.given_model:
            shutil.copyfile(self.folder.given_model, self.folder.model_path)
        score = {"iou": 0.5, "dice": 2 / 3, "voxels": 10}
        self.summary = {
            "seconds": 3.0,
            "step": 25,
            "held_out": [score for _ in self.folder.segments],
            "held_out_slices": ["k:3"],
        }
        self.state = "done"

    def result(self, number=1):
        if self.error is not None:
            raise self.error
        return self.folder.read_result(number)


assert len(DESCRIPTION.segments) == len(THRESHOLDS)
