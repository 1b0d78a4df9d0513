"""Starting and ending the engine's process, and error messages from its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import EngineError
from .foreign import foreign_arguments, outside_slicer
from .interpreter import OWN, SSH, THIS, Interpreter

PROXY = "SparseSegNetLib.remote.proxy"
# Where SparseSegNetLib lies: the child must find the same one, installed or not.
PACKAGE_PARENT = Path(__file__).resolve().parents[2]

# Windows' exit codes of programs that it ended.
ACCESS_VIOLATION, DLL_NOT_FOUND, DLL_NOT_INITIALISED = 0xC0000005, 0xC0000135, 0xC0000142


def engine_environment(interpreter: Interpreter | None = None) -> dict[str, str]:
    """This process's environment variables, with those that the engine needs.

    Python finds no code in the current folder, which may hold a stranger's files: entries of
    PYTHONPATH that depend on it (empty or relative ones) are left out.

    Args:
        interpreter: The Python that gets them; this process's by default. Another one gets nothing
            that points to this one's libraries, or to packages of the user outside of it.
    """
    needed = {"PYTHONUTF8": "1", "PYTHONSAFEPATH": "1"}
    if interpreter is not None and interpreter.kind not in (THIS, SSH):
        if interpreter.kind == OWN:
            needed["PYTHONNOUSERSITE"] = "1"
        return {**outside_slicer(os.environ), **needed}
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join([str(PACKAGE_PARENT), *filter(os.path.isabs, given)])
    return {**os.environ, **needed, "PYTHONPATH": path}


def command_of(arguments: Sequence[str], interpreter: Interpreter) -> list[str]:
    """The command that runs Python with these arguments, its output unbuffered.

    For an engine on another computer it is a process of this Python that stands for it.
    """
    if interpreter.kind == SSH:
        there = ["--ssh", interpreter.ssh, "--python", interpreter.python]
        return [sys.executable, "-u", "-m", PROXY, *there, *arguments]
    own = interpreter.kind == THIS
    return [interpreter.python, "-u", *(arguments if own else foreign_arguments(arguments))]


def kill_tree(pid: int) -> None:
    """Ends a process at once, with those that it started where the system knows them."""
    if sys.platform == "win32":
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                ["taskkill", "/F", "/T", "/PID", str(pid)],
                check=False,
                capture_output=True,
                timeout=10,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
        return
    with suppress(OSError):
        # A group of its own holds the launcher and what it launched; our own must not be killed.
        if (group := os.getpgid(pid)) != os.getpgid(0):
            os.killpg(group, signal.SIGKILL)
            return
        os.kill(pid, signal.SIGKILL)


def kill_group(leader: int) -> None:
    """Ends what is left of a process that leads a group of its own, be it gone already."""
    if sys.platform == "win32":
        kill_tree(leader)
        return
    with suppress(OSError):
        if leader > 1 and leader != os.getpgid(0):  # 0 would be our own, 1 everything
            os.killpg(leader, signal.SIGKILL)


def cannot_start(python: str, reason: str) -> EngineError:
    """Error of an engine that cannot be started, for the system's `reason`."""
    return EngineError(
        "no-python",
        f"the engine cannot be started: {reason}.",
        f"Is {python} a program that can be run?",
    )


def interrupted_end(folder: Path | str) -> EngineError:
    """Error of an engine that was asked to end and did not confirm it in time."""
    return EngineError(
        "interrupted",
        "the training was interrupted.",
        f"'sparsesegnet resume \"{folder}\"' resumes from its last checkpoint.",
    )


def explain_end(code: int, output: str, folder: Path | str, log: Path | str) -> EngineError:
    """Error of an engine that ended without giving a reason.

    Args:
        code: Its exit code, negative for a signal.
        output: The last line of its output.
        folder: The run folder.
        log: The log file.
    """
    on = f"'sparsesegnet resume \"{folder}\"' resumes from its last checkpoint. The log is {log}."
    unsigned = code & 0xFFFFFFFF
    if code == -9 or code == 137:
        return EngineError(
            "killed",
            "the system, or somebody, killed the engine; most often because memory ran out.",
            f"Close other programs, or crop the volume. {on}",
        )
    if code in (-11, -4, -6, -7, -8, 139, 132, 134) or unsigned == ACCESS_VIOLATION:
        return EngineError(
            "crashed",
            f"the engine crashed (exit code {code}). Its last output: {output}",
            f"Often an installation of torch that does not fit the machine: "
            f"'sparsesegnet doctor' checks it. {on}",
        )
    if unsigned in (DLL_NOT_FOUND, DLL_NOT_INITIALISED):
        return EngineError(
            "library-missing",
            "a library that Python or torch needs is missing.",
            f"Install the Microsoft Visual C++ Redistributable (x64). The log is {log}.",
        )
    return EngineError(
        "died",
        f"the engine ended without a result (exit code {code}). Its last output: {output}",
        on,
    )
