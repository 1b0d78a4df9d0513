"""The engine's doctor, asked without waiting: for the panel."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from ..errors import EngineError
from .doctor import DOCTOR, PATIENCE, failed, report_of
from .transports import start


class Examination:
    """Runs the doctor in a process of its own; `poll` gives its report once it is there.

    It never raises: what cannot be asked has failed.
    """

    def __init__(self, device: str = "auto", folder: Path | str | None = None):
        self._folder = Path(folder or tempfile.gettempdir())
        self._said, self._complaint = b"", b""
        self._until = time.monotonic() + PATIENCE
        self.report: dict | None = None
        try:
            self._transport = start(["-m", DOCTOR, device, str(self._folder)])
        except EngineError as error:
            self.report = failed(error.cause, error.remedy)

    def poll(self) -> dict | None:
        """The report (see engine.doctor.examine), or None while it is not there yet."""
        while self.report is None and (chunk := self._transport.receive()) is not None:
            stream, data = chunk
            if stream == "out":
                self._said += data
            elif stream == "err":
                self._complaint += data
            else:
                self.report = report_of(data, self._said, self._complaint, self._folder)
        if self.report is None and time.monotonic() > self._until:
            self._transport.kill()
            self.report = failed(f"no answer within {PATIENCE:.0f} s",
                                 "Restart the computer: a driver may hang.")
        return self.report

    def cancel(self) -> None:
        """Ask no longer."""
        if self.report is None:
            self._transport.kill()
            self.report = failed("not asked to the end", "")
