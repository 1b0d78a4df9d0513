"""SparseSegNet: dense 3D segmentations from a few annotated slices."""

import sys

__version__ = "0.1.0"  # the one place; packaging reads it, CITATION.cff is compared

# `python -m SparseSegNetLib...` puts the current folder before everything else, and a file such as
# json.py that lies beside somebody's scans would be run. Here nothing else was imported yet.
if (
    sys.argv[:1] == ["-m"]
    and not sys.flags.safe_path
    and sys.path[0] != __file__.rpartition("SparseSegNetLib")[0].rstrip("/\\")
):
    del sys.path[0]
