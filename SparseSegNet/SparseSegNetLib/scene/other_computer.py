"""The choice of another computer for the engine, for Slicer's Python console."""

from __future__ import annotations

from ..client import interpreter
from ..remote.ssh_command import words


def useAnotherComputer(ssh: str | None, python: str = interpreter.REMOTE_PYTHON) -> None:
    """Has the next runs compute on another computer, as *Engine* in the panel does.

    Nothing is checked: the panel, or ``sparsesegnet doctor --ssh``, does that.

    Args:
        ssh: The command that logs in there without a question, such as "ssh me@gpu-box"; None for
            this computer again.
        python: The Python with torch over there.

    Raises:
        InputError: If the command cannot be read, or the choice cannot be stored.
    """
    if ssh is None:
        interpreter.choose(interpreter.AUTO)
        return
    words(ssh)
    interpreter.choose(interpreter.SSH, python, ssh)
