"""The process that makes, or removes, the engine's own environment.

``python -m SparseSegNetLib.client.make_environment make|remove`` reports in JSON lines (see
`installing`). uv makes the environment, with a Python of its own where this one will not do; where
there is no uv for this system, venv and pip do.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from ..errors import EngineError
from ..runfolder import file_retries
from ..runfolder.disk_size import size_of
from ..runfolder.lock import NAME as LOCK
from ..runfolder.requirements import SAFETENSORS, TORCH
from . import own_environment
from .diagnosis import examine
from .foreign import HOME, outside_slicer
from .installation_failures import explain
from .installing import StepFailed, locked, pip_environment, report, run, whole
from .interpreter import OWN, Interpreter
from .own_environment import CACHE, MARK, PYTHONS, UV, VENV, python_in
from .pip_settings import NO_INDEX, for_uv

REQUIREMENTS = (TORCH, SAFETENSORS, "numpy>=1.26", "scipy>=1.11", "SimpleITK>=2.3")
PYTHON = "3.12"  # as Slicer's
OLDEST_UV = (0, 8)
OF_TORCH = "download.pytorch.org"
EVERY = 1.0  # seconds between two looks at the size


def make(folder: Path) -> None:
    """Makes the environment; what there was is removed first.

    Raises:
        EngineError: It cannot be made; the message tells the remedy.
        OSError: A file cannot be written.
    """
    request = python_request()
    with locked(folder):
        clear(folder, keep=(CACHE,))  # what was downloaded whole need not be again
        try:
            interpreter = _made(folder, request)
            report("step", number=4, count=4, name="check")
            found = examine("auto", folder, interpreter)
            failed = [c for c in found["checks"] if c["state"] == "failed"]
            if failed:
                raise EngineError("check", failed[0]["said"], failed[0]["remedy"])
        except StepFailed as error:
            problem = explain(error.lines, error.code)
            clear(folder, keep=() if problem.code == "disk-full" else (CACHE,))
            raise problem from error
        for name in (CACHE, UV):
            file_retries.remove_tree(folder / name, ignore_errors=True)
        now = datetime.now().isoformat(timespec="seconds")
        size = size_of(folder / VENV, folder / PYTHONS)
        own_environment.write_mark(folder, found["versions"], found["device"] or "cpu", size, now)


def remove(folder: Path) -> None:
    """Removes the environment, whole or not.

    Raises:
        EngineError: A file of it is in use, or it is being made.
    """
    if folder.is_dir():
        with locked(folder):
            clear(folder)


def clear(folder: Path, keep: tuple[str, ...] = ()) -> None:
    """Removes what lies in the environment's folder, the mark first.

    Raises:
        EngineError: A file is in use.
    """
    (folder / MARK).unlink(missing_ok=True)
    for path in sorted(folder.iterdir()):
        if path.name in (LOCK, *keep):
            continue
        try:
            _delete(path)
        except OSError as error:
            raise EngineError(
                "in-use",
                f"{error.filename} cannot be removed ({error.strerror}).",
                "End runs and other Slicers, which may use it, and try again.",
            ) from error


def _delete(path: Path) -> None:
    """Deletes a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        file_retries.remove_tree(path)
    else:
        file_retries.remove(path)


def python_request() -> str:
    """The Python to make the environment with, as uv names it.

    Raises:
        EngineError: torch is not made for this computer.
    """
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        if translated():
            return f"cpython-{PYTHON}-macos-aarch64-none"
        raise EngineError(
            "no-wheel",
            "torch is not made any more for Macs with an Intel processor.",
            "conda-forge still has it: 'conda create -n sparsesegnet -c conda-forge pytorch "
            "safetensors numpy scipy simpleitk', then choose that environment's Python.",
        )
    of_slicer = HOME in os.environ or "Slicer" in Path(sys.executable).name
    if of_slicer or not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return PYTHON  # Slicer's cannot run without Slicer's launcher
    return sys.executable


def translated() -> bool:
    """True for a program for Intel's processors that runs on Apple's."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "sysctl.proc_translated"],
            capture_output=True,
            encoding="ascii",
            errors="replace",
            check=False,
        )
        return done.stdout.strip() == "1"
    return False


def _made(folder: Path, request: str) -> Interpreter:
    report("step", number=1, count=4, name="uv")
    environment = outside_slicer(os.environ)
    uv = found_uv(environment) or downloaded_uv(folder)
    python = python_in(folder)
    with watched(folder):
        if uv is None:
            _by_venv(folder, request)
        else:
            _by_uv(uv, folder, request, environment)
    return Interpreter(OWN, str(python))


def found_uv(environment: dict[str, str]) -> str | None:
    """A uv that is there and new enough."""
    places = (
        sysconfig.get_path("scripts"),
        *environment.get("PATH", "").split(os.pathsep),
        os.path.expanduser("~/.local/bin"),
        os.path.expanduser("~/.cargo/bin"),
    )
    # shutil.which would look into the current folder, which may hold a stranger's files.
    programs = [uv_in(Path(place)) for place in places if os.path.isabs(place)]
    program = next((p for p in programs if p is not None), None)
    if program is None:
        return None
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            [program, "--version"],
            capture_output=True,
            encoding="ascii",
            errors="replace",
            check=False,
            timeout=60,
        ).stdout
        found = re.search(r"(\d+)\.(\d+)", said)
        if found and (int(found[1]), int(found[2])) >= OLDEST_UV:
            return program
    return None


def uv_in(folder: Path) -> str | None:
    """The program uv in a folder."""
    program = folder / ("uv.exe" if os.name == "nt" else "uv")
    return str(program) if program.is_file() and os.access(program, os.X_OK) else None


def downloaded_uv(folder: Path) -> str | None:
    """A uv that pip puts into the environment's folder, None if there is none for this system."""
    target = folder / UV
    oldest = "uv>={}.{}".format(*OLDEST_UV)
    options = ["--target", str(target), "--no-deps", "--only-binary", ":all:"]
    try:
        run([sys.executable, "-m", "pip", "install", *options, oldest], pip_environment())
    except StepFailed as error:
        if explain(error.lines, error.code).code in ("no-wheel", "installation"):
            return None
        raise
    return uv_in(target / "bin")


def uv_environment(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Variables for uv; those that the user set count more, but for where things lie."""
    mine = {
        "UV_TORCH_BACKEND": "auto",  # the torch for the card that is there
        "UV_SYSTEM_CERTS": "1",  # as browsers do: a hospital's own root certificates
        "UV_PYTHON_NO_REGISTRY": "1",
        "UV_PYTHON_INSTALL_BIN": "0",
        **for_uv(environment),
        **environment,
        "UV_CACHE_DIR": str(folder / CACHE),
        "UV_PYTHON_INSTALL_DIR": str(folder / PYTHONS),
        "NO_COLOR": "1",
    }
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON"):
        mine.pop(name, None)
    return mine


def _by_uv(uv: str, folder: Path, request: str, environment: dict[str, str]) -> None:
    variables = uv_environment(folder, environment)
    report("step", number=2, count=4, name="python")
    run([uv, "venv", "--no-project", "--python", request, str(folder / VENV)], variables, folder)
    report("step", number=3, count=4, name="packages")
    install = [uv, "pip", "install", "--python", str(python_in(folder)), *REQUIREMENTS]
    if variables.pop(NO_INDEX, "0").lower() in ("1", "true", "yes", "on"):
        install.append("--no-index")
    try:
        run(install, variables, folder)
    except StepFailed as error:
        # Some firewalls let the package index through, but not PyTorch's own server.
        reached = OF_TORCH not in "\n".join(error.lines)
        if reached or "UV_TORCH_BACKEND" in environment:
            raise
        report("said", line=f"{OF_TORCH} cannot be reached: the package index is asked for torch.")
        del variables["UV_TORCH_BACKEND"]
        run(install, variables, folder)


def _by_venv(folder: Path, request: str) -> None:
    if request != sys.executable:
        raise EngineError(
            "no-uv",
            "uv, which would bring a Python, cannot be installed: the package index has none for "
            "this system, or is blocked.",
            "Check the index in pip's configuration, or make an environment with Python 3.11 or "
            "later, torch, safetensors, numpy, scipy and SimpleITK yourself, and choose its "
            "Python.",
        )
    report("step", number=2, count=4, name="python")
    run([sys.executable, "-m", "venv", str(folder / VENV)])
    report("step", number=3, count=4, name="packages")
    # Without this Python's path, on which pip would find what it is to install.
    variables = outside_slicer(pip_environment())
    variables.pop("PIP_PROGRESS_BAR", None)  # venv's pip may be an older one
    run([str(python_in(folder)), "-m", "pip", "install", *REQUIREMENTS], variables, folder)


@contextmanager
def watched(folder: Path):
    """Reports every now and then how much has come: uv tells nothing without a terminal."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(EVERY):
            report("size", bytes=size_of(*(folder / name for name in (CACHE, PYTHONS, UV))))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


WORK: dict[str, Callable[[Path], None]] = {"make": make, "remove": remove}

if __name__ == "__main__":
    sys.exit(whole(lambda: WORK[sys.argv[1]](own_environment.place())))
