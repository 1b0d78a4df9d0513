"""Stored runs in the section Train: their size, and the offer to delete old ones."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ..runfolder.stored_runs import StoredRun, discard_runs, may_go
from ..units import size
from .background_task import BackgroundTask
from .run_controller import RunController

GIGABYTE = 1_000_000_000
LISTED = 8  # runs by name in a question


class RunsSection:
    """Moves the runs of earlier versions, looks at the stored ones, and deletes with consent.

    Args:
        panel: The panel.
        controller: The run's controller.

    Attributes:
        runs: The stored runs as they were seen last.
    """

    def __init__(self, panel, controller: RunController):
        self.panel, self.controller, self.ui = panel, controller, panel.ui
        self.runs: list[StoredRun] = []
        self._move: BackgroundTask | None = BackgroundTask(panel.runs.moving())
        self._look: BackgroundTask | None = None
        self._again = True  # look once more when the present task is done
        ui = self.ui
        ui.runsLimitSpin.value = panel.runs.limit
        ui.runsLimitSpin.valueChanged.connect(self.onLimit)
        ui.deleteRunsButton.clicked.connect(self.onDeleteRuns)
        ui.freeRunsButton.clicked.connect(self.onFreeRuns)
        self.update()

    def look(self) -> None:
        """Looks at the stored runs soon, in a thread."""
        self._again = True

    def tick(self) -> None:
        """Follows the threads; called by the timer."""
        if self._move is not None:
            if not self._move.poll():
                return
            error, self._move = self._move.error, None
            self.findAgain()
            self.panel.update()
            if error is not None:
                self.controller.showMessage(
                    _(
                        "The runs of an earlier version in {folder} stay there, they cannot be "
                        "moved ({why}). Free some disk space and open the module again."
                    ).format(
                        folder=self.panel.runs.oldRoot,
                        why=getattr(error, "strerror", None) or error,
                    )
                )
        if self._look is not None and self._look.poll():
            found, self._look = self._look.result, None
            if found is not None and not self._again:  # else runs were deleted meanwhile
                self.runs = found
            self.update()
        if self._look is None and self._again:
            self._again = False
            self._look = BackgroundTask(self.panel.runs.looking())

    def findAgain(self) -> None:
        """Follows runs that the scene remembers and that were moved."""
        parameters, found = self.panel.parameters, self.panel.runs.found
        if parameters is None:
            return
        for name in ("runFolder", "modelFile"):
            before = getattr(parameters, name)
            if (now := found(before)) != before:
                setattr(parameters, name, now)

    def _shown(self) -> set[Path]:
        """Folders that the scene, or a run of this session, needs."""
        parameters, run = self.panel.parameters, self.controller.run
        paths = [] if parameters is None else [parameters.runFolder, parameters.modelFile]
        found = {Path(p) for p in paths if p}
        found |= {folder for path in found for folder in path.parents}
        return found if run is None else found | {Path(run.folder)}

    def _offered(self) -> list[StoredRun]:
        return may_go(self.runs, self.panel.runs.limit * GIGABYTE, self._shown())

    def _old(self) -> list[StoredRun]:
        """All runs but those that are shown or worked on."""
        shown = self._shown()
        return [run for run in self.runs if run.path not in shown and not run.busy]

    def update(self) -> None:
        """Shows number and size of the stored runs, and the offer if they are too large."""
        ui, limit = self.ui, self.panel.runs.limit
        total = sum(run.size for run in self.runs)
        ui.deleteRunsButton.enabled = bool(self._old())
        ui.runsInfoLabel.text = (
            _("{count}, {size}").format(count=len(self.runs), size=size(total))
            if self.runs
            else _("none")
        )
        where = _("Stored training runs, which can be resumed, in {folder}")
        ui.runsInfoLabel.toolTip = where.format(folder=self.panel.runs.folder)
        over, offered = total > limit * GIGABYTE, self._offered()
        ui.runsOffer.visible = over
        ui.freeRunsButton.visible = bool(offered)
        if not over:
            return
        text = _("Stored runs take {size} of {limit} GB.").format(size=size(total), limit=limit)
        if offered:
            ui.freeRunsButton.text = _("Delete the {count} oldest ({size})…").format(
                count=len(offered), size=size(sum(run.size for run in offered))
            )
        else:
            text += " " + _(
                "All of them can be resumed, are in use or are shown: see Runs in Advanced."
            )
        ui.runsOfferLabel.text = text

    def onLimit(self, gigabytes: int) -> None:
        """Stores the size above which old runs are offered for deletion."""
        self.panel.runs.limit = gigabytes
        self.update()

    def onFreeRuns(self) -> None:
        """Asks the user, then deletes the oldest finished runs, as many as are too much."""
        self._delete(
            self._offered(),
            _(
                "Delete the oldest finished runs with their weights? Their results stay in your "
                "scenes; scenes that were saved with one of them can neither continue its "
                "training nor save its model afterwards."
            ),
        )

    def onDeleteRuns(self) -> None:
        """Asks the user, then deletes all stored runs but those that are shown."""
        self._delete(
            self._old(),
            _(
                "Delete all old runs with their weights? Scenes that were saved with one of "
                "them cannot resume it afterwards."
            ),
        )

    def _delete(self, runs: list[StoredRun], question: str) -> None:
        names = [f"{run.path.name} ({size(run.size)})" for run in runs[:LISTED]]
        if len(runs) > LISTED:
            names.append(_("and {count} more").format(count=len(runs) - LISTED))
        together = _("Together {size}:").format(size=size(sum(run.size for run in runs)))
        if runs and slicer.util.confirmOkCancelDisplay(
            "\n".join([question, "", together, *names]), _("Delete runs")
        ):
            gone = discard_runs([run.path for run in runs])
            if gone < len(runs):
                self.controller.showMessage(
                    _(
                        "{count} runs could not be deleted: a program works on them, or holds "
                        "one of their files."
                    ).format(count=len(runs) - gone)
                )
            self.runs = [run for run in self.runs if run.path.is_dir()]
            self.update()
        self.look()
