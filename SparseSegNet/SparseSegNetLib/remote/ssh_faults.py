"""Reasons why no connection comes about, from what ssh and the other computer's shell print."""

from __future__ import annotations

import re

from ..errors import EngineError
from .ssh_command import host

# What is printed, the error's code, cause and remedy. {host} and {command} are filled in.
KNOWN = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "ssh-host-key",
        "{host} shows another host key than before.",
        "Ask who runs it whether that is meant; if so, 'ssh-keygen -R' removes the old key. "
        "Nothing was sent.",
    ),
    (
        r"Host key verification failed|No \w+ host key is known",
        "ssh-host-key",
        "the host key of {host} is not known yet.",
        "Connect once in a terminal with '{command}' and confirm the key.",
    ),
    (
        r"Permission denied|Too many authentication failures|No supported authentication",
        "ssh-permission",
        "{host} does not let us in.",
        "It has to work without a password: set up a key ('ssh-copy-id'), and if the key has a "
        "passphrase load it into the agent ('ssh-add'). '{command}' in a terminal must not ask.",
    ),
    (
        r"Connection refused",
        "ssh-refused",
        "{host} refuses the connection.",
        "Is its SSH server running, and is the port right ('-p PORT')?",
    ),
    (
        r"Could not resolve hostname|Name or service not known|No route to host"
        r"|Network is unreachable|timed out|Unable to open connection",
        "ssh-unreachable",
        "{host} cannot be reached.",
        "Check its name, the network and whether a VPN is needed.",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "remote-disk-full",
        "the disk of {host}, or your quota on it, is full.",
        "Free some space there, or have SPARSESEGNET_DATA name another folder there.",
    ),
)

# A shell over there that has no such program; ssh itself ends with 255.
CANNOT_RUN = (126, 127)
NO_PROGRAM = re.compile(r"not found|No such file|not recognized|cannot find", re.IGNORECASE)
SSH_FAILED = 255


def no_answer(command: str, python: str, code: int | None, printed: str) -> EngineError:
    """Error of a connection over which no Python of ours has answered.

    Args:
        command: The SSH command.
        python: The Python that was to run over there.
        code: Exit code of the SSH command; None if it was ended since nothing came.
        printed: What came on its error stream, and on its output before it ended.
    """
    there = host(command)
    last = next(filter(None, reversed([s.strip() for s in printed.splitlines()])), "nothing")
    if code in CANNOT_RUN or (code != SSH_FAILED and NO_PROGRAM.search(printed)):
        return EngineError(
            "remote-python",
            f"{there} cannot run '{python}' ({last[:200]}).",
            "Name the Python there that has torch, with its full path, as remote Python "
            "(--remote-python).",
        )
    for pattern, name, cause, remedy in KNOWN:
        if re.search(pattern, printed, re.IGNORECASE):
            about = {"host": there, "command": command}
            return EngineError(name, cause.format(**about), remedy.format(**about))
    end = "gave no answer" if code is None else f"ended (exit code {code})"
    return EngineError(
        "ssh",
        f"the SSH command for {there} {end} before Python answered. It printed last: "
        f"'{last[:300]}'.",
        f"Does '{command} {python} --version' work in a terminal, without a question?",
    )
