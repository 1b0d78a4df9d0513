"""The SSH command that the user names: its words, and the options that make it fit for a program.

Who may log in where is the user's and OpenSSH's affair: keys, agent, known hosts and ~/.ssh/config
are used as they are, and a password is neither asked for nor stored.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import PurePath

from ..errors import EngineError, InputError

# Never ask; no terminal, no forwarded ports; notice a line that is dead. A master connection that
# is open already is used, but none is begun: it would outlive us.
OPENSSH = (
    "-T",
    *("-o", "BatchMode=yes"),
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "ControlMaster=no"),
    *("-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=10"),
    *("-o", "ServerAliveCountMax=3"),
)
EXAMPLE = "'ssh me@gpu-box' or 'ssh -p 2222 me@gpu-box'"


def words(command: str) -> list[str]:
    """The words of a command, in which quotes keep words with spaces together.

    On Windows a backslash is part of a path.

    Raises:
        InputError: There are none, or a quote is not closed.
    """
    lexer = shlex.shlex(command, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    if os.name == "nt":
        lexer.escape = ""
    try:
        found = list(lexer)
    except ValueError as error:
        raise InputError(f"the SSH command {command!r} cannot be read: {error}.") from None
    if not found:
        raise InputError(f"the SSH command is empty: give one such as {EXAMPLE}.")
    return found


def host(command: str) -> str:
    """Name of the other computer for messages: a word with @, else the command's last one."""
    found = words(command)
    return next((word for word in found if "@" in word), found[-1])


def full_command(command: str, remote: str) -> list[str]:
    """Program and arguments that run a command over there.

    Args:
        command: The user's SSH command.
        remote: What the other computer's shell is to run.

    Raises:
        InputError: The SSH command cannot be read.
        EngineError: Its program is missing ('ssh-missing').
    """
    program, *rest = words(command)
    found = shutil.which(os.path.expanduser(program))
    if found is None:
        raise EngineError(
            "ssh-missing",
            f"there is no program {program}.",
            "Install OpenSSH's client (on Windows: Settings, Optional features), or give the "
            "program's full path.",
        )
    name = PurePath(found).stem.lower()
    ours = OPENSSH if name == "ssh" else ("-batch",) if name == "plink" else ()
    return [found, *ours, *rest, remote]
