"""Starting a Python that is not the one that runs here: arguments and environment variables.

Slicer's launcher, and Slicer itself, point Python, the linker and Qt to Slicer's own folders.
Another Python that inherits that loads Slicer's libraries, or does not start at all. Nor may it see
the folder that this library lies in, which holds this Python's packages where pip installed it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# Loads this package alone from where it lies, then runs one of its modules. The current folder goes
# first: Python before 3.11 knows no PYTHONSAFEPATH.
RUN = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "import importlib.util as u, runpy; name, folder, module = sys.argv[1:4]; "
    "s = u.spec_from_file_location(name, folder + '/__init__.py', "
    "submodule_search_locations=[folder]); "
    "m = sys.modules[name] = u.module_from_spec(s); s.loader.exec_module(m); "
    "sys.argv[:] = [module, *sys.argv[4:]]; "
    "runpy.run_module(module, run_name='__main__', alter_sys=True)"
)

HOME = "SLICER_HOME"
# The launcher keeps what it found before itself (ctkAppLauncherEnvironment).
SAVED = re.compile(r"APPLAUNCHER_0_(.+)")
LAUNCHER = re.compile(r"APPLAUNCHER_.+")
# The launcher's own paths lie in the folders of extensions as well.
LAUNCHED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "QT_PLUGIN_PATH")
# Whoever's they are, they are meant for another Python.
NEVER = ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "PYTHONUSERBASE", "__PYVENV_LAUNCHER__")


def foreign_arguments(arguments: Sequence[str]) -> list[str]:
    """Python's arguments for another Python: a module of this package is found without a path."""
    if arguments[0] == "-m" and arguments[1].split(".")[0] == PACKAGE.name:
        return ["-c", RUN, PACKAGE.name, str(PACKAGE), *arguments[1:]]
    return list(arguments)


def outside_slicer(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables without what Slicer, or its launcher, set for its own programs.

    Args:
        variables: Those of this process.

    Returns:
        Variables for a program that is not Slicer's; where there is no Slicer, all but those that
        tell another Python where its library lies.
    """
    saved = {m[1]: value for name, value in variables.items() if (m := SAVED.fullmatch(name))}
    home = variables.get(HOME, "")
    found = {}
    for name, value in variables.items():
        if name in NEVER or LAUNCHER.fullmatch(name):
            continue
        kept = _without(value, home) if home else value
        if kept != value or (saved and name in LAUNCHED):
            kept = _without(saved.get(name, kept if not saved else ""), home)
            if not kept:
                continue
        found[name] = kept
    found.pop(HOME, None)
    return found


def _without(value: str, home: str) -> str:
    """A list of paths without those that lie in Slicer's folder."""
    if not home or _plain(home) not in _plain(value):
        return value
    parts = value.split(os.pathsep)
    return os.pathsep.join(part for part in parts if not _inside(part, home))


def _plain(path: str) -> str:
    return os.path.normcase(path).replace("\\", "/").rstrip("/")


def _inside(path: str, home: str) -> bool:
    return (_plain(path) + "/").startswith(_plain(home) + "/")
