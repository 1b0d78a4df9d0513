"""The panel: its sections, its timer, and its reactions to changes of the scene."""

from __future__ import annotations

import logging
import time

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ..errors import InputError
from ..scene.annotation_session import AnnotationSession
from ..scene.segmentations import segmentationsOf
from .annotate_section import AnnotateSection
from .data_section import DataSection
from .engine_choice import EngineChoice
from .learn_section import LearnSection
from .model_section import ModelSection
from .parameters import Parameters
from .result_section import ResultSection
from .run_controller import RunController
from .run_store import RunStore
from .runs_section import RunsSection
from .shown_row import ShownRow
from .torch_card import TorchCard
from .training_list import TrainingList

HEARTBEAT = 100  # milliseconds
BUSY_HEARTBEAT = 25  # milliseconds, while work is done in steps
NODES_EVERY = 1.0  # seconds between two checks of the nodes
QUIT_PATIENCE = 3.0  # seconds that an engine has to end by itself when Slicer quits


class Panel:
    """Owns the state that the sections share: parameters, annotation session, run controller.

    One timer drives everything: it processes the engine's events, reads what was painted, and
    never waits.

    Args:
        owner: The module's widget, a ScriptedLoadableModuleWidget with VTKObservationMixin.

    Attributes:
        parameters: The scene's parameters, None while there are none.
        session: The annotation of the chosen nodes, None without usable nodes.
        problem: Why the nodes cannot be annotated, or empty.
        correcting: True while the editor holds the result.
        runs: The store of run folders.
        controller: The controller of the run.
    """

    def __init__(self, owner):
        self.owner = owner
        self.parameters: Parameters | None = None
        self.session: AnnotationSession | None = None
        self.problem = ""
        self.correcting = False
        self.runs = RunStore()
        self.controller = RunController(self)
        self._connection = None
        self._nodes: tuple = ()
        self._offered = None  # the volume for which a segmentation was chosen automatically
        self._nodesAt = 0.0
        self._lastError = ""

    def setup(self) -> None:
        """Loads the widgets, creates the sections and starts the timer."""
        uiWidget = slicer.util.loadUI(self.owner.resourcePath("UI/SparseSegNet.ui"))
        self.owner.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.torchCard = TorchCard(self)
        self.engine = EngineChoice(self, self.torchCard)
        self.learn = LearnSection(self, self.controller)
        self.data, self.annotate = DataSection(self), AnnotateSection(self, self.controller)
        self.result = ResultSection(self, self.controller)
        self.shown = ShownRow(self)
        self.stored = RunsSection(self, self.controller)
        self.training, self.model = TrainingList(self), ModelSection(self, self.controller)
        scene, owner = slicer.mrmlScene, self.owner
        owner.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        owner.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        owner.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        owner.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        slicer.app.connect("aboutToQuit()", self.onQuit)
        self._timer = qt.QTimer()
        self._timer.interval = HEARTBEAT
        self._timer.timeout.connect(self.onTimer)
        self.selectParameters()
        self._timer.start()

    def cleanup(self) -> None:
        """Ends every process, timer and observer, before the module is reloaded or Slicer ends."""
        self._timer.stop()
        slicer.app.disconnect("aboutToQuit()", self.onQuit)
        self.model.leave()
        self.controller.endAll(QUIT_PATIENCE)
        self.torchCard.cleanup()
        self.engine.cleanup()
        self._disconnect()
        self.annotate.exit()
        self.annotate.editor.cleanup()
        self.learn.curve.cleanup()
        self._setSession(None)
        self.owner.removeObservers()

    def onQuit(self) -> None:
        """Ends every process when Slicer quits."""
        self._timer.stop()
        self.model.leave()
        self.controller.endAll(QUIT_PATIENCE)
        self.torchCard.cleanup()
        self.engine.cleanup()

    def enter(self) -> None:
        """Prepares the panel when the module is shown."""
        self.selectParameters()
        self._chooseFirstVolume()
        self.annotate.enter()
        if self.torchCard.state in ("unknown", "missing"):
            self.torchCard.check()
        self.stored.look()

    def exit(self) -> None:
        """Releases views and keyboard when another module is shown."""
        self.annotate.exit()

    def onTimer(self) -> None:
        """Calls `tick`; an internal error is reported once, and the panel keeps working."""
        try:
            self.tick()
        except Exception as error:
            if repr(error) != self._lastError:
                self._lastError = repr(error)
                logging.exception("SparseSegNet: an internal error")
                self.controller.showMessage(
                    _("An internal error: {error}. The application's log has the details.").format(
                        error=repr(error)
                    )
                )

    def tick(self) -> None:
        """Processes the events of child processes and what was painted."""
        self.torchCard.tick()
        self.stored.tick()
        self.engine.tick()
        if slicer.mrmlScene.IsBatchProcessing():
            return  # a scene is being opened or closed
        self._checkNodes()
        try:
            if self.annotate.tick():
                self.controller.labelsChanged()
        except InputError as error:
            self._setSession(None)
            self.problem = str(error)
            self.update()
        self.controller.follow()
        self.model.tick()
        busy = self.annotate.reading or self.controller.working
        interval = BUSY_HEARTBEAT if busy else HEARTBEAT
        if self._timer.interval != interval:
            self._timer.interval = interval

    def _checkNodes(self) -> None:
        """Checks now and then whether the chosen nodes have become usable or unusable."""
        now, parameters = time.monotonic(), self.parameters
        if parameters is not None and self._nodes != (parameters.volume, parameters.segmentation):
            self.update()  # the scene was busy when they were chosen
        if now - self._nodesAt < NODES_EVERY:
            return
        self._nodesAt = now
        self.training.update()
        self.model.update()
        self.shown.update()  # they are shown and hidden elsewhere, too
        if self.problem or (self.session is not None and not self.session.fits()):
            self._nodes = ()  # try them again
            self.update()

    def update(self) -> None:
        """Updates all sections to the present parameters, scene and run."""
        self._pairNodes()
        self.data.update()
        self.annotate.update()
        self.learn.update()
        self.result.update()
        self.shown.update()
        self.training.update()
        self.model.update()

    def foldForRun(self) -> None:
        """Folds the sections that a run needs no more, so that the others fit on the screen."""
        self.ui.dataSection.collapsed = self.ui.learnSection.collapsed = True

    @property
    def edited(self):
        """The segmentation that the editor holds: the annotation, or the result to correct."""
        result = self.parameters.result
        return result if self.correcting and result is not None else self.parameters.segmentation

    def selectParameters(self) -> None:
        """Connects the panel to the scene's parameter node."""
        node = self.owner.logic.getParameterNode()
        if self.parameters is not None and self.parameters.parameterNode is node:
            return
        self._disconnect()
        self.parameters = Parameters(node)
        self.stored.findAgain()
        self._connection = self.parameters.connectGui(self.ui)
        self.owner.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParameters)
        self.update()

    def _disconnect(self) -> None:
        if self.parameters is not None:
            self.owner.removeObserver(
                self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameters
            )
            self.parameters.disconnectGui(self._connection)
        self.parameters = None

    def onParameters(self, caller=None, event=None) -> None:
        """Updates the panel after a parameter changed."""
        self.update()

    def _chooseFirstVolume(self) -> None:
        """Chooses the volume if the scene has only one."""
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        volumes = [v for v in volumes if not v.IsA("vtkMRMLLabelMapVolumeNode")]
        if self.parameters.volume is None and len(volumes) == 1:
            self.parameters.volume = volumes[0]
        self._offered = None
        self.update()

    def _chooseSegmentation(self, volume) -> None:
        """Chooses the only segmentation that belongs to the volume if none is chosen yet.

        Done once per volume, so that a selector which the user has emptied stays empty.
        """
        if volume is None or volume is self._offered:
            return
        self._offered, parameters = volume, self.parameters
        if parameters.segmentation is None:
            candidates = [
                n
                for n in segmentationsOf(volume)
                if n not in (parameters.result, parameters.preview)
            ]
            if len(candidates) == 1:
                parameters.segmentation = candidates[0]

    def _pairNodes(self) -> None:
        """Starts an annotation session for the chosen volume and segmentation."""
        parameters = self.parameters
        volume = None if parameters is None else parameters.volume
        if not slicer.mrmlScene.IsBatchProcessing():
            self._chooseSegmentation(volume)
        segmentation = None if parameters is None else parameters.segmentation
        if slicer.mrmlScene.IsBatchProcessing():
            volume = segmentation = None  # half of a scene that is being opened
        alive = self.session is None or self.session.alive
        if alive and self._nodes == (volume, segmentation):
            return
        self._nodes, self.problem = (volume, segmentation), ""
        self._setSession(None)
        self.controller.showResultOf(volume)
        if volume is None or segmentation is None:
            return
        try:
            self._setSession(AnnotationSession(volume, segmentation))
        except InputError as error:
            self.problem = str(error)
        else:
            self.annotate.onAlign()

    def _setSession(self, session: AnnotationSession | None) -> None:
        if self.session is not None:
            self.annotate.forget()
            self.session.close()
        self.session = session

    def onSceneStartClose(self, caller=None, event=None) -> None:
        """Lets go of the old scene's nodes; a run ends by itself, and its folder stays."""
        self.model.leave()
        self.controller.leave()
        self.annotate.editor.release()
        self._disconnect()
        self._setSession(None)
        self._nodes, self._offered = (), None
        self.learn.curve.clear()

    def onSceneEndClose(self, caller=None, event=None) -> None:
        """Uses the parameters of the new scene."""
        self._afterScene()

    def onSceneEndImport(self, caller=None, event=None) -> None:
        """Uses the parameters of the scene that was opened."""
        self._disconnect()
        self._afterScene()

    def _afterScene(self) -> None:
        """Uses the scene's own parameters after a scene was closed or opened."""
        self.correcting = False
        self._nodes = ()
        self.selectParameters()
        if self.owner.parent.isEntered:
            self.annotate.enter()

    def onNodeRemoved(self, caller=None, event=None) -> None:
        """Reacts to the removal of the volume or the segmentation in use."""
        if self.session is not None and not self.session.alive:
            if self.controller.active:
                self.controller.showMessage(
                    _(
                        "The volume or the segmentation was deleted during training: the run "
                        "continues and its folder keeps the result, but it cannot be shown."
                    )
                )
            self.update()
