"""The card of a model: what it segments, in which images, and how well."""

from __future__ import annotations

import html
from datetime import datetime

from slicer.i18n import tr as _

from ..runfolder.model_description import ModelDescription


def card(about: ModelDescription) -> str:
    """Two lines of rich text; names come from a file that may be a stranger's, and are escaped."""
    names = ", ".join(
        "<span style='color:rgb({},{},{})'>■</span> {}".format(
            *(round(255 * part) for part in segment.color), html.escape(segment.name)
        )
        for segment in about.segments
    )
    kind = "CT" if about.modality == "ct" else _("not for CT")
    channels = (
        ""
        if len(about.channels) == 1
        else _("{count} channels ({names})").format(
            count=len(about.channels), names=html.escape(", ".join(about.channels))
        )
    )
    spacing = " × ".join(f"{mm:.3g}" for mm in about.spacing) + " mm"
    first = " · ".join(filter(None, (names, kind, channels, spacing)))
    slices = sum(case.slices for case in about.cases if case.labelled)
    scans = sum(bool(case.labelled) for case in about.cases)
    second = (
        _("Trained on 1 scan, {slices} slices")
        if scans == 1
        else _("Trained on {scans} scans, {slices} slices")
    ).format(scans=scans, slices=slices)
    if (day := _day(about.created)) is not None:
        second += f", {day}"
    dice = [s.dice for s in about.scores or [] if s.dice is not None]
    score = (
        _("Dice {score} on slices held out").format(score=f"{sum(dice) / len(dice):.2f}")
        if dice
        else _("Not scored")
    )
    return f"{first}<br>{second}. {score}."


def _day(created: str) -> str | None:
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d}"
    except ValueError:
        return None
