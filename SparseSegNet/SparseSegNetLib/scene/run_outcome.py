"""The outcome of a run: results, uncertainties, its score, slices to draw next."""

from __future__ import annotations

from ..client.engine_run import EngineRun
from ..runfolder.score import score_lines
from ..steps import Steps
from .run_case import RunCase


class RunOutcome:
    """The part of SceneRun that reads what the engine has written.

    Nodes are created at the first access.
    """

    _run: EngineRun
    _cases: list[RunCase]

    def _case(self, volumeNode) -> RunCase:
        raise NotImplementedError

    @property
    def result(self):
        """The dense segmentation of the (first) volume as a new node, created at the first access.

        Raises:
            EngineError: If the run failed.
            InputError: If the run is not done, volume, segmentation or a segment was removed from
                the scene, or the volume's grid was changed.
        """
        return self._cases[0].result(self._run)

    @property
    def results(self) -> list:
        """The dense segmentation of each volume, see `result`."""
        return [case.result(self._run) for case in self._cases]

    def resultOf(self, volumeNode):
        """The dense segmentation of one of the volumes, see `result`."""
        return self._case(volumeNode).result(self._run)

    def makingResult(self, volumeNode) -> Steps:
        """Makes the dense segmentation of a volume in steps (see `steps`), see `result`."""
        return self._case(volumeNode).makingResult(self._run)

    @property
    def uncertainty(self):
        """The model's uncertainty as a scalar volume node, created at the first access.

        0 certain, 255 undecided between the two most probable segments; 0 in annotated voxels.
        """
        return self._cases[0].uncertainty(self._run)

    @property
    def uncertainties(self) -> list:
        """The uncertainty of each volume, see `uncertainty`."""
        return [case.uncertainty(self._run) for case in self._cases]

    @property
    def score(self) -> dict | None:
        """The expected quality of the (first) volume's result; None while it is unknown.

        A dict, see `runfolder.score.score_form`: per segment iou, low and high of its 80 %
        interval, dice, near (share of the border within one voxel of the true one), slices; gains
        (what more slices are likely worth), new_slices (how they had been predicted), history.
        """
        return self._run.folder.read_score()

    @property
    def scoreText(self) -> list[str]:
        """The score as sentences; none while there is no score."""
        folder = self._run.folder
        return score_lines(self.score, folder.names, folder.geometry())

    @property
    def disagreements(self) -> list[dict]:
        """Regions of the first volume where prediction and annotation disagree, worst first.

        Each is a dict: voxels (their number), voxel (k, j, i) to look at, drawn and model (names
        of segments, or 'background').
        """
        return self._run.folder.read_disagreements()
