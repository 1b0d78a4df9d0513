"""The command ``sparsesegnet environment``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from ..client import installation as installing
from ..client import interpreter as interpreters
from ..client import own_environment
from ..client.diagnosis import examine, refusal
from ..client.installation import Installation
from ..errors import EngineError, InputError
from ..remote.ssh_command import words
from ..runfolder.exit_codes import DONE
from ..units import clock, size

LOOK = 0.1  # seconds


def environment(options: argparse.Namespace) -> int:
    """Shows, makes, removes or chooses the engine's Python; returns the exit code."""
    if options.make:
        _follow(installing.of_own_environment())
        interpreters.choose(interpreters.OWN)
    elif options.remove:
        _follow(installing.removal_of_own_environment())
        if interpreters.setting()[0] == interpreters.OWN:
            interpreters.choose(interpreters.AUTO)
    elif options.over is not None:
        words(options.over)
        _choose_checked(interpreters.SSH, options.there, options.over)
    elif options.python is not None:
        _choose(options.python)
    shown = status()
    if options.json:
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        _print(shown)
    return DONE


def status() -> dict:
    """The engine's Python here, what was chosen for Slicer, and the engine's own environment."""
    here = interpreters.chosen()
    kind, path = interpreters.setting()
    folder = own_environment.place()
    return {
        "python": here.python,
        "kind": here.kind,
        "ssh": here.ssh,
        "reason": here.reason,
        "chosen": path if kind == interpreters.OTHER else interpreters.ssh_setting() or kind,
        "own": {
            "folder": str(folder),
            "remains": own_environment.remains(folder),
            **(own_environment.described(folder) or {}),
        },
    }


def _choose(given: str) -> None:
    if given in (interpreters.AUTO, interpreters.OWN):
        if given == interpreters.OWN and own_environment.described() is None:
            raise InputError("the engine has no environment of its own yet: make it with --make.")
        interpreters.choose(given)
        return
    _choose_checked(interpreters.OTHER, interpreters.python_at(given))


def _choose_checked(kind: str, python: str, ssh: str = "") -> None:
    """Chooses a Python once the doctor has run in it."""
    candidate = interpreters.Interpreter(kind, python, ssh=ssh)
    print(f"checking {candidate.title} ...", file=sys.stderr, flush=True)
    report = examine("auto", Path(tempfile.gettempdir()), candidate)
    if (problem := refusal(report, candidate.title)) is not None:
        raise InputError(problem)
    interpreters.choose(kind, python, ssh)


def _follow(installation: Installation) -> None:
    """Waits for an installation, showing a line of progress on a terminal.

    Raises:
        EngineError: It failed.
        KeyboardInterrupt: It was cancelled; nothing of it runs on.
    """
    terminal, said = sys.stderr.isatty(), ""
    try:
        while installation.poll() == "running":
            if terminal:
                print(f"\r{progress(installation):78.78s}", end="", file=sys.stderr, flush=True)
            elif installation.said != said:
                said = installation.said
                print(said, file=sys.stderr, flush=True)
            time.sleep(LOOK)
    finally:
        installation.cancel()
        if terminal:
            print("\r" + " " * 78 + "\r", end="", file=sys.stderr, flush=True)
    if installation.state == "failed":
        raise installation.problem or EngineError("installation", "the installation failed.")


def progress(installation: Installation) -> str:
    """Step, time and bytes of an installation, and what it said last."""
    number, count = installation.step
    parts = [f"step {number} of {count}", clock(installation.seconds)]
    if installation.size is not None:
        whole = "" if installation.total is None else f" of {size(installation.total)}"
        parts.append(size(installation.size) + (whole or " so far"))
    return ", ".join(parts) + (f": {installation.said}" if installation.said else "")


def _print(shown: dict) -> None:
    where = f" over '{shown['ssh']}'" if shown["ssh"] else ""
    print(f"The engine runs in {shown['python']}{where}.\n{shown['reason']}")
    own = shown["own"]
    if "versions" in own:
        versions = own["versions"]
        print(
            f"The engine's own environment: Python {versions.get('python', '?')}, torch "
            f"{versions.get('torch', '?')}, {own.get('device', '?')}, {size(own['bytes'])} in "
            f"{own['folder']}."
        )
    elif own["remains"]:
        print(
            f"The engine's own environment in {own['folder']} is not whole and is not used: make "
            "it again with --make, or --remove it."
        )
    else:
        print("The engine has no environment of its own; --make makes one.")
    named = {
        interpreters.AUTO: "whichever works",
        interpreters.OWN: "the engine's own environment",
        interpreters.THIS: "Slicer's own Python",
    }
    print(f"Chosen for Slicer: {named.get(shown['chosen'], shown['chosen'])}.")
