"""Labels that change while an engine trains on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..annotation.slices import AnnotatedSlice
from ..errors import EngineError, InputError
from ..runfolder.disk_faults import written
from ..runfolder.prepared_labels import PreparedLabels
from ..steps import Steps, finished

if TYPE_CHECKING:
    from .engine_run import EngineRun

WHAT = "the changed labels"


class LabelChanges:
    """Writes changed labels into the run folder, and tells the engine.

    Until the engine owns the run folder they are kept. The run is an argument of each method: a run
    that nobody refers to must not be kept by what it owns.

    Attributes:
        sends: True once the engine owns the run folder.
    """

    def __init__(self):
        self.sends = False
        self._unsent: dict[int, tuple[np.ndarray, list[AnnotatedSlice]]] = {}

    def changing(
        self, run: EngineRun, labels: np.ndarray, slices: list[AnnotatedSlice], number: int
    ) -> Steps[None]:
        """See `EngineRun.changing_labels`; nothing is written if it is given up."""
        _refuse_ended(run)
        folder = run.folder
        yield lambda: folder.check_new_labels(number, labels)
        if not self.sends:
            _refuse_ended(run)
            self._unsent[number] = labels, slices
            return
        prepared: list[PreparedLabels] = []

        def prepare() -> None:
            with written(WHAT, folder.path):
                prepared.append(folder.prepare_labels(number, labels, slices))

        try:
            yield prepare
            _refuse_ended(run)
        except BaseException:
            for each in prepared:
                each.drop()
            raise
        with written(WHAT, folder.path):
            prepared[0].put()
        run.send("labels-changed", input=number)

    def send(self, run: EngineRun) -> None:
        """Sends what was changed before the engine owned the folder."""
        self.sends = True
        unsent, self._unsent = self._unsent, {}
        for number, (labels, slices) in unsent.items():
            try:
                finished(self.changing(run, labels, slices, number))
            except EngineError as error:
                run.warnings.append(str(error))


def _refuse_ended(run: EngineRun) -> None:
    if run.ended:
        raise InputError(f"the labels of a run that is {run.state} cannot be changed.")
