"""Removes what an interrupted installation left of torch, which pip itself cannot uninstall.

``python -m SparseSegNetLib.client.torch_cleanup``: a process of its own, so that no library of
torch is in use by it.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from ..runfolder.file_retries import remove_tree

PATTERNS = ("torch", "torchgen", "functorch", "torch-*.dist-info", "~orch*")


def remove(folder: Path) -> list[Path]:
    """Removes torch from a site-packages folder.

    Returns:
        The folders that were removed.

    Raises:
        OSError: A file is in use.
    """
    gone = []
    for pattern in PATTERNS:
        for path in sorted(folder.glob(pattern)):
            if path.is_dir():
                remove_tree(path)
                gone.append(path)
    return gone


if __name__ == "__main__":
    try:
        for path in remove(Path(sysconfig.get_paths()["purelib"])):
            print(f"removed {path}", flush=True)
    except OSError as error:
        sys.exit(
            f"{error.filename} cannot be removed ({error.strerror}): torch is in use. "
            "Restart Slicer and repair torch before anything else."
        )
