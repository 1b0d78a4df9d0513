"""The process over there: looks for the engine's packages, then serves one job and ends.

`bootstrap` starts it. It imports the standard library alone until the packages are known to be
there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ..runfolder.exit_codes import CANCELLED
from .frames import Frames

NEEDED = ("numpy", "scipy", "torch", "safetensors")
PIP_NAMES = "torch numpy scipy SimpleITK safetensors"


def lacking() -> list[str]:
    """Names of the packages that the engine needs and this Python lacks, or has too old."""
    names = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if names:
        return names
    from ..client.interpreter import missing

    return missing()


def main(given: BinaryIO, out: BinaryIO, data_folder: str) -> None:
    """Serves one job, then ends the process.

    Args:
        given: Messages of the proxy.
        out: Messages to the proxy.
        data_folder: Where run folders are to lie.
    """
    frames, code = Frames(given, out), CANCELLED
    try:
        if names := lacking():
            frames.send(
                "fault",
                code="remote-packages",
                cause=f"{sys.executable} there lacks {' and '.join(names)}, or has one too old.",
                remedy=f"Install what is missing there: '{sys.executable} -m pip install "
                f"{PIP_NAMES}', or name another remote Python.",
            )
        else:
            from .service import Service

            code = Service(frames, Path(data_folder) / "remote").serve()
    except (OSError, ValueError, EOFError) as error:
        print(f"the connection has ended: {error!r}", file=sys.stderr)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)
