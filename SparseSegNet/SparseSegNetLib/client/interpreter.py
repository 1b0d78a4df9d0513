"""The Python that the engine runs in: this one, the engine's own environment, or a chosen one."""

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
THIS, OWN, OTHER, AUTO = "this", "own", "other", "auto"
SETTING = "engine-python.json"


@dataclass(frozen=True)
class Interpreter:
    """A Python for the engine.

    Attributes:
        kind: 'this' (the one that runs here: in Slicer Slicer's), 'own' (the engine's own
            environment) or 'other' (one that the user named).
        python: The program.
        reason: Why it is this one, as a sentence.
    """

    kind: str
    python: str
    reason: str = ""


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

    SPARSESEGNET_PYTHON names one for everybody. Else, in Slicer, it is the one that was chosen
    (see `choose`), then Slicer's if torch is installed there, then the engine's own environment.
    Elsewhere this Python comes first where torch is installed, since whoever installed us there,
    with pip or conda, means that one.
    """
    if named := os.environ.get(VARIABLE, "").strip():
        return Interpreter(OTHER, named, f"The environment variable {VARIABLE} names it.")
    kind, path = setting()
    lacking = missing()
    if not lacking and not in_slicer():
        return this_python("torch is installed in it.")
    if kind == OTHER:
        return Interpreter(OTHER, path, "You chose it.")
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
    try:
        found = json.loads((local_data_folder() / SETTING).read_text(encoding="utf-8"))
        kind, path = found.get("use"), found.get("python", "")
    except (OSError, ValueError, AttributeError):
        return AUTO, ""
    if kind not in (THIS, OWN, OTHER) or not isinstance(path, str) or (kind == OTHER and not path):
        return AUTO, ""
    return kind, path


def choose(kind: str, python: str = "") -> None:
    """Stores the choice, for all versions of Slicer of this user.

    Args:
        kind: 'this', 'own', 'other', or 'auto' for whichever works.
        python: The program, for 'other'.

    Raises:
        InputError: It cannot be stored.
    """
    path = local_data_folder() / SETTING
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == AUTO:
            path.unlink(missing_ok=True)
            return
        write_json(path, {"use": kind, "python": python})
    except OSError as error:
        raise InputError(
            f"the choice of Python cannot be stored in {path} ({error.strerror or error}): allow "
            f"writing there, or name the Python in {VARIABLE}."
        ) from error


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
