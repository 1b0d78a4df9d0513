"""The command ``sparsesegnet doctor``."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from ..client.diagnosis import examine
from ..errors import InputError

NO_DEVICE = 4
MARKS = {"ok": "ok  ", "warning": "note", "failed": "FAIL"}


def doctor(options: argparse.Namespace) -> int:
    """Runs the engine's checks and prints their results; returns the exit code."""
    folder = (options.folder or Path(tempfile.gettempdir())).absolute()
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: create it first.")
    found = examine(options.device, folder)
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for check in found["checks"]:
            print(f"{MARKS[check['state']]} {check['name']:11s} {check['said']}")
            if check["remedy"]:
                print(f"     {'':11s} {check['remedy']}")
        print("\nThe engine can run." if found["ok"] else "\nThe engine cannot run here.")
    return 0 if found["ok"] else NO_DEVICE
