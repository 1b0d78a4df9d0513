"""The line that names the next useful act."""

from __future__ import annotations

from slicer.i18n import tr as _

FEW = 3  # slices: one of each direction
ENOUGH = 5  # slices that are usually worth training on


def whatNow(panel) -> str:
    """Names the next useful act, for a user who sees the panel for the first time.

    Args:
        panel: The panel.

    Returns:
        A sentence; '' where a message says it already.
    """
    parameters, session = panel.parameters, panel.session
    if parameters is None or panel.problem:
        return ""
    if parameters.volume is None:
        return _("Load a scan, or take SparseSegNetKidney from Sample Data, and choose it in Data.")
    if parameters.segmentation is None:
        return _("Press New in Data, for a segmentation to draw in.")
    if session is None:
        return ""
    return _duringRun(panel) or _whileDrawing(len(session.slices), panel.torchCard.state)


def _duringRun(panel) -> str:
    state = panel.controller.state
    if state == "preparing":
        return (
            _("A first prediction is shown. Go on drawing where it is wrong.")
            if panel.parameters.preview is not None
            else _("The first prediction comes in a few seconds. You can go on drawing.")
        )
    if state == "training":
        return _("Go on drawing where the preview is wrong: it is learnt at once.")
    if state == "paused":
        return _("Press Resume to go on.")
    if state == "done" and panel.parameters.result is not None:
        return _(
            "Look through the slices. Where the result is wrong, draw one more slice "
            "(Next slice proposes which) and press Train, or correct the result."
        )
    return ""


def _whileDrawing(slices: int, torch: str) -> str:
    if slices == 0:
        return _("Draw all structures in one slice. A slice that you paint in is listed by itself.")
    if slices < FEW:
        return _("Draw a slice of another direction, too: {count} of {few}.").format(
            count=slices, few=FEW
        )
    if torch in ("missing", "broken"):
        return _("Install torch above, then press Train.")
    if slices < ENOUGH:
        return _("Press Train, or draw one or two more slices first.")
    return _("Press Train.")
