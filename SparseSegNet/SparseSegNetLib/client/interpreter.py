"""The Python that the engine runs in: this one, its own environment, another one, or one elsewhere.

Elsewhere means on another computer, over an SSH command.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..runfolder.atomic import write_json
from ..runfolder.local_data import local_data_folder
from ..runfolder.requirements import too_old
from . import own_environment

VARIABLE = "SPARSESEGNET_PYTHON"
SSH_VARIABLE, REMOTE_VARIABLE = "SPARSESEGNET_SSH", "SPARSESEGNET_REMOTE_PYTHON"
REMOTE_PYTHON = "python3"
THIS, OWN, OTHER, SSH, AUTO = "this", "own", "other", "ssh", "auto"
SETTING = "engine-python.json"


@dataclass(frozen=True)
class Interpreter:
    """A Python for the engine.

    Attributes:
        kind: 'this' (the one that runs here: in Slicer Slicer's), 'own' (the engine's own
            environment), 'other' (one that the user named) or 'ssh' (on another computer).
        python: The program; for 'ssh' what starts Python there.
        reason: Why it is this one, as a sentence.
        ssh: The SSH command, for 'ssh'.
    """

    kind: str
    python: str
    reason: str = ""
    ssh: str = ""

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.python} over '{self.ssh}'" if self.kind == SSH else self.python


def this_python(reason: str = "") -> Interpreter:
    """The Python that runs here."""
    return Interpreter(THIS, sys.executable, reason)


def in_slicer() -> bool:
    """True in Slicer's own process, which alone has Slicer's Qt."""
    return "qt" in sys.modules or importlib.util.find_spec("qt") is not None


def missing() -> list[str]:
    """Names of the engine's packages (torch, safetensors) that this Python lacks.

    Nothing is imported. A bare folder that an interrupted installation left is no package, and a
    torch that is too old is none for us.
    """
    names = []
    for name in ("torch", "safetensors"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or (name == "torch" and _too_old()):
            names.append(name)
    return names


def _too_old() -> bool:
    with suppress(importlib.metadata.PackageNotFoundError, TypeError):
        return too_old(importlib.metadata.version("torch"))
    return False  # it was not installed by pip: the doctor will tell


def chosen() -> Interpreter:
    """The Python for the engine.

    SPARSESEGNET_SSH (with SPARSESEGNET_REMOTE_PYTHON) or SPARSESEGNET_PYTHON name one for
    everybody. Else, in Slicer, it is the one that was chosen
    (see `choose`), then Slicer's if torch is installed there, then the engine's own environment.
    Elsewhere this Python comes first where torch is installed, since whoever installed us there,
    with pip or conda, means that one.
    """
    if command := os.environ.get(SSH_VARIABLE, "").strip():
        python = os.environ.get(REMOTE_VARIABLE, "").strip() or REMOTE_PYTHON
        return Interpreter(SSH, python, f"The variable {SSH_VARIABLE} names it.", command)
    if named := os.environ.get(VARIABLE, "").strip():
        return Interpreter(OTHER, named, f"The environment variable {VARIABLE} names it.")
    kind, path = setting()
    lacking = missing()
    if not lacking and not in_slicer():
        return this_python("torch is installed in it.")
    if kind in (OTHER, SSH):
        return Interpreter(kind, path, "You chose it.", ssh_setting() if kind == SSH else "")
    whole = own_environment.described() is not None
    own = str(own_environment.python_in(own_environment.place()))
    if kind == OWN and whole:
        return Interpreter(OWN, own, "You chose it.")
    if kind == THIS:
        return this_python("You chose it.")
    if not lacking:
        return this_python("torch is installed in it.")
    if whole:
        return Interpreter(OWN, own, "torch is not installed in this program's own Python.")
    return this_python("Nothing else is installed.")


def setting() -> tuple[str, str]:
    """The user's choice: its kind ('auto' where there is none) and the path of another Python."""
    found = _stored()
    return found.get("use", AUTO), found.get("python", "")


def ssh_setting() -> str:
    """The SSH command that the user chose last; '' without one."""
    return _stored().get("ssh", "")


def _stored() -> dict[str, str]:
    """The stored choice; empty where there is none, or where it is damaged."""
    try:
        found = json.loads((local_data_folder() / SETTING).read_text(encoding="utf-8"))
        about = {name: found.get(name, "") for name in ("use", "python", "ssh")}
    except (OSError, ValueError, AttributeError):
        return {}
    if not all(isinstance(value, str) for value in about.values()):
        return {}
    needed = {THIS: (), OWN: (), OTHER: ("python",), SSH: ("python", "ssh")}
    if about["use"] not in needed or not all(about[name] for name in needed[about["use"]]):
        return {}
    return about


def choose(kind: str, python: str = "", ssh: str = "") -> None:
    """Stores the choice, for all versions of Slicer of this user.

    Args:
        kind: 'this', 'own', 'other', 'ssh', or 'auto' for whichever works.
        python: The program, for 'other' and 'ssh'.
        ssh: The SSH command, for 'ssh'.

    Raises:
        InputError: It cannot be stored.
    """
    path = local_data_folder() / SETTING
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == AUTO:
            path.unlink(missing_ok=True)
            return
        write_json(path, {"use": kind, "python": python, "ssh": ssh})
    except OSError as error:
        raise InputError(
            f"the choice of Python cannot be stored in {path} ({error.strerror or error}): allow "
            f"writing there, or name the Python in {VARIABLE}."
        ) from error


def use_ssh(command: str, python: str | None = None) -> None:
    """Has this process, and those that it starts, use an engine over an SSH command.

    Args:
        command: Such as 'ssh me@gpu-box'.
        python: What starts Python there; python3 by default.
    """
    os.environ[SSH_VARIABLE] = command
    if python:
        os.environ[REMOTE_VARIABLE] = python


def python_at(path: str | Path) -> str:
    """The program that a user's path means: a Python, or the folder of an environment with one.

    Raises:
        InputError: There is none.
    """
    given = Path(os.path.expanduser(path))
    if given.is_dir():
        for inside in ("bin/python", "bin/python3", "python.exe", "Scripts/python.exe"):
            if (given / inside).is_file():
                return str((given / inside).absolute())
        raise InputError(f"the folder {given} holds no Python: choose the program itself.")
    if not given.is_file():
        raise InputError(f"there is no {given}: choose the python program of an environment.")
    # A link is kept: it is by its place that Python finds its environment.
    return str(given.absolute())
