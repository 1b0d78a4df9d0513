"""This package as the other computer gets it: the engine and what it needs, as one archive."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
HERE_ONLY = ("widget", "scene", "files", "cli")  # parts that only Slicer or the command line need
OLDEST = [3, 11]  # Python
AGENT = f"{PACKAGE.name}.remote.agent"
MARK = "SPARSESEGNET-REMOTE-1"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same files make the same archive
# Understood by every shell: sh, csh, fish, cmd and PowerShell.
LOADER = '-u -c "import sys;exec(sys.stdin.buffer.readline())"'


def archive() -> bytes:
    """The package without what runs on this computer only, as a zip."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(PACKAGE.rglob("*.py")):
            relative = path.relative_to(PACKAGE)
            if relative.parts[0] not in HERE_ONLY:
                about = zipfile.ZipInfo(f"{PACKAGE.name}/{relative.as_posix()}", LONG_AGO)
                about.compress_type = zipfile.ZIP_DEFLATED
                about.external_attr = 0o644 << 16
                made.writestr(about, path.read_bytes())
    return written.getvalue()


def first_line(code: bytes) -> bytes:
    """The line of Python that LOADER reads and runs.

    Args:
        code: The archive, which is sent if the other side asks for it.
    """
    settings = {
        "mark": MARK,
        "agent": AGENT,
        "oldest": OLDEST,
        "size": len(code),
        "sha256": hashlib.sha256(code).hexdigest(),
        "local_data": _source("runfolder/local_data.py"),
    }
    # The folder that one lands in over there may hold anything.
    text = (
        "import sys; sys.path[:] = [p for p in sys.path if p]\n"
        f"SETTINGS = {json.dumps(settings)}\n{_source('remote/bootstrap.py')}"
    )
    return f"exec({text!a})\n".encode("ascii")


def _source(name: str) -> str:
    return (PACKAGE / name).read_text(encoding="utf-8")
