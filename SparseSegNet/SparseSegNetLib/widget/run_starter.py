"""The start of a run: what was painted is read, the run folder written, the engine started."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from ..errors import EngineError, InputError
from ..runfolder.options import Options
from ..scene.logic import densification, resumption
from ..scene.paint_observer import lentLayers
from ..scene.scene_run import SceneRun
from ..scene.training_set import training
from ..steps import Overtaken, Steps
from .stepped_task import SteppedTask


class RunStarter:
    """Starts runs in steps, so that the window answers meanwhile.

    Args:
        panel: The panel with parameters, annotation session and run store.
        controller: The run's controller.
    """

    def __init__(self, panel, controller):
        self.panel, self.controller = panel, controller
        self._task: SteppedTask | None = None
        self._message: Callable[[], str] = str

    @property
    def busy(self) -> bool:
        """True from the press of a button until the engine is started, or refused."""
        return self._task is not None

    def train(self) -> None:
        """Begins to start a run with the present annotation and parameters."""
        parameters = self.panel.parameters
        pairs = self.panel.training.pairs()
        if len(pairs) > 1 and parameters.channels:
            self.controller.showMessage(
                _(
                    "Several scans are trained on by their volume alone: uncheck the further "
                    "channels, or train on all channels from the Python console "
                    "(SparseSegNet.train)."
                )
            )
            return
        if len(pairs) > 1 and (parameters.prior is not None or parameters.startFile):
            self.controller.showMessage(
                _(
                    "A prior or a model to start from goes with one scan alone: choose none in "
                    "Advanced, or uncheck the further scans."
                )
            )
            return
        options = Options(
            parameters.network,
            parameters.timeBudget,
            parameters.device,
            parameters.seed,
            largest_component=parameters.largestComponent,
            save_model=len(pairs) == 1,
            scan_names=parameters.scanNames,
        )
        volumes = [parameters.volume, *parameters.channels]
        segmentation, name = parameters.segmentation, parameters.runName
        prior, startFile = parameters.prior, parameters.startFile

        def start() -> Steps[SceneRun]:
            folder = self.panel.runs.new(name)
            if len(pairs) > 1:
                several = [(p.volume, p.segmentation) for p in pairs]
                return training(several, options, runFolder=folder, known=lentLayers)
            return densification(
                volumes,
                segmentation,
                options,
                prior=prior,
                startFrom=startFile or None,
                runFolder=folder,
                known=lentLayers,
            )

        self._begin(start, self.panel.annotate.next.unconfirmed)

    def resume(self, folder, moreTime: float, message: str) -> None:
        """Begins to resume a run, see `RunController.continueRun`."""
        parameters = self.panel.parameters
        nodes = parameters.volume, parameters.segmentation
        self._begin(
            lambda: resumption(folder, *nodes, moreTime=moreTime, known=lentLayers),
            lambda: message,
        )

    def _begin(self, start: Callable[[], Steps[SceneRun]], message: Callable[[], str]) -> None:
        self._message = message
        self._task = SteppedTask(self._steps(start))
        self.controller.showMessage(message())
        self.panel.update()

    def _steps(self, start: Callable[[], Steps[SceneRun]]) -> Steps[SceneRun]:
        if self.panel.session is not None:
            yield from self._painted(self.panel.session)
        return (yield from start())

    def _painted(self, session) -> Steps[None]:
        """Reads what was painted just before, also what Slicer was not told of."""
        annotate = self.panel.annotate
        while True:
            try:
                changes = yield from session.looking(annotate.shownPlanes())
                break
            except Overtaken:
                continue
        if self.panel.session is session:
            annotate.take(changes)

    def tick(self) -> None:
        """Goes on starting the run."""
        if self._task is None or not self._task.poll():
            return
        task, self._task = self._task, None
        if isinstance(task.error, InputError | EngineError):
            self.panel.update()
            self.controller.showMessage(str(task.error))
        elif task.error is not None:
            self.panel.update()
            raise task.error
        else:
            self.controller.show(task.result)
            self.controller.showMessage(self._message())

    def giveUp(self) -> None:
        """Starts no run; the folder that was begun is removed."""
        if self._task is not None:
            self._task.giveUp()
            self._task = None
