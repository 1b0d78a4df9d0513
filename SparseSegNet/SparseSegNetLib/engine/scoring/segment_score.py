"""The score of a segment, as a run keeps and shows it."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class SegmentScore:
    """The expected quality of a segment on the voxels that were not annotated.

    Attributes:
        slices: Number of slices (or parts of an annotation without slices) that show it.
        iou: Best estimate; None where fewer than two slices show it or nothing was judged.
        low: Lower end of the 80 % interval of the IoU.
        high: Upper end.
        dice: Best estimate.
        near: Share of its border that lies within one voxel of the true one.
        folds: The IoU of out-of-fold predictions, by distances.
        plug_in: The IoU that calibrated probabilities expect; None where there are none.
        near_folds: `near` by out-of-fold predictions, by distances.
        near_plug_in: `near` that calibrated probabilities expect.
        uncovered: Share of its voxels that lie farther from the annotation than any that was
            judged.
    """

    slices: int
    iou: float | None = None
    low: float | None = None
    high: float | None = None
    dice: float | None = None
    near: float | None = None
    folds: float | None = None
    plug_in: float | None = None
    near_folds: float | None = None
    near_plug_in: float | None = None
    uncovered: float = 0.0

    def to_json(self) -> dict:
        """Dictionary that can be written as JSON."""
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }
