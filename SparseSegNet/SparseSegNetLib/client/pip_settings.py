"""The settings of pip, as uv takes them: a hospital's mirror is configured once, for pip."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

NO_INDEX = "UV_NO_INDEX"  # stands for uv's option --no-index, for which uv has no variable
# uv's variable for each setting of pip; what is set for uv itself stays.
OF_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": NO_INDEX,
    "trusted-host": "UV_INSECURE_HOST",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
    "proxy": "HTTPS_PROXY",
}
COMMAS = ("UV_FIND_LINKS",)  # of several values; spaces elsewhere
PATIENCE = 60.0  # seconds
# As pip writes. Libraries may have changed the locale of this process meanwhile.
ENCODING = None if os.name == "nt" else "utf-8"


def for_uv(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv from pip's configuration (files and variables) of this Python.

    Args:
        environment: The variables that uv gets otherwise.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            capture_output=True,
            encoding=ENCODING,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return translated(done.stdout, environment)


def translated(listed: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv from what ``pip config list`` prints.

    Args:
        listed: Lines such as ``global.index-url='https://mirror/simple'``; a later one, such as
            that of an environment variable, counts more.
        environment: Variables that are set already; they stay as they are.
    """
    found = {}
    for line in listed.splitlines():
        name, equals, value = line.partition("=")
        section, _dot, option = name.strip().partition(".")
        if section.strip(":") not in ("global", "install", "env") or not equals:
            continue
        target = OF_UV.get(option.strip().lstrip("."))
        value = value.strip().strip("'\"").replace("\\n", " ").strip()
        if target and value and target not in environment:
            found[target] = ("," if target in COMMAS else " ").join(value.split())
    return found
