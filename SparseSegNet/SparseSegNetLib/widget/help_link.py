"""The link from a failure to its entry in the error catalogue."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..errors import EngineError


def showLink(label, error: EngineError | None) -> None:
    """Shows the link to an error's entry; hides the label if there is none.

    Args:
        label: A QLabel that opens links in the browser.
        error: The error that is shown beside it.
    """
    link = "" if error is None else error.link
    words = _("More about this error")
    label.text = f'<a href="{link}">{words}</a>' if link else ""
    label.visible = bool(link)
