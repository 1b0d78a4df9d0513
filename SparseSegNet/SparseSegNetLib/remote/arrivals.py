"""Events and descriptions from the engine over there, made fit for this computer.

The other computer is not trusted with more than the engine's results: in a description of a run
from there the plan alone counts, and of an event's error code the link in the panel is made.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..runfolder.atomic import write_json
from ..runfolder.forms import parse_json
from ..runfolder.protocol import decode
from ..runfolder.schema import check_run, read_run
from .frames import FrameError, printable

PLACES = ("cause", "remedy", "text")  # of an event, where the folder over there may be named
CODE = re.compile(r"[a-z-]{1,40}")


def take_plan(folder: Path, data: bytes) -> None:
    """Takes plan and versions from the engine's run.json into this computer's.

    All else in it was written here, and stays: the file that the result goes to, for instance.

    Args:
        folder: The run folder.
        data: Content of the other run.json.

    Raises:
        FrameError: It is none.
        InputError: The plan has not its form.
    """
    try:
        found = parse_json(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FrameError("run.json is no description of a run")
    description = read_run(folder)
    taken = {name: found[name] for name in ("plan", "versions") if name in found}
    if any(description.get(name) != value for name, value in taken.items()):
        description.update(taken)
        check_run(folder / "run.json", description)
        write_json(folder / "run.json", description)


@dataclass(frozen=True)
class Events:
    """Events of the engine as those of a process here.

    Attributes:
        host: Name of the other computer.
        there: The run folder there.
        here: The run folder here.
    """

    host: str
    there: str
    here: str

    def at_home(self, line: bytes) -> tuple[bytes, str]:
        """A line of the engine's output, with this process and this folder in their places.

        Returns:
            The line without its end, and the event's name; '' if it is none.
        """
        event = decode(line, "event")
        if event is None:
            return line, ""
        # A number over there may be anybody's process here, and the client may kill it.
        if "pid" in event:
            event["pid"] = os.getpid()
        event.update({name: printable(t) for name, t in event.items() if isinstance(t, str)})
        for place in PLACES:
            if self.there and isinstance(event.get(place), str):
                event[place] = event[place].replace(self.there, self.here)
        if event["event"] == "error":
            self._settle(event)
        return json.dumps(event, ensure_ascii=True).encode(), event["event"]

    def _settle(self, event: dict) -> None:
        code = event.get("code")
        if code == "disk-full":
            event["code"] = "remote-disk-full"
        elif not isinstance(code, str) or CODE.fullmatch(code) is None:
            event["code"] = "remote"
        if event["code"] != "input":
            event["cause"] = f"on {self.host}: {event.get('cause')}"
