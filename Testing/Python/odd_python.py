"""A Python that lacks something, as the other computer's: ``python odd_python.py -u -c CODE``.

ODD in the environment says what: old (its version), no-torch, full-code and full-runs (the disk,
while the code or a run is written), noise (a login prints), hostile (it sends files to other
places), or hangs-up (the connection ends before the engine has begun).
"""

import builtins
import errno
import importlib.util
import json
import os
import sys
import zipfile


def full(*args, **options):
    raise OSError(errno.ENOSPC, "No space left on device", "there")


def hostile():
    """Answers as the bootstrap and the agent do, then sends a file to another place."""
    from SparseSegNetLib.remote.frames import Frames
    from SparseSegNetLib.remote.package import MARK

    sys.stdin.buffer.readline()
    out = sys.stdout.buffer
    out.write(MARK.encode() + b"\n")
    for line in ({"python": [3, 12, 0]}, {"known": True}, {"ready": True}):
        out.write(json.dumps(line).encode() + b"\n")
    out.flush()
    frames = Frames(sys.stdin.buffer, out)
    while frames.receive()[0]["kind"] != "open":
        pass
    if os.environ["ODD"] == "hangs-up":
        return
    frames.send("file", number=1, path=os.environ["ODD_PATH"], length=4)
    frames.send("piece", b"evil", number=1)
    while frames.receive() is not None:
        pass


def main():
    odd = os.environ["ODD"]
    if odd == "old":
        sys.version_info = (3, 9, 2, "final", 0)
    elif odd == "no-torch":
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *a: None if name == "torch" else find(name, *a)
    elif odd == "full-code":
        zipfile.ZipFile.extractall = full
    elif odd == "full-runs":
        # Once our code is there.
        importing = builtins.__import__

        def meddle(name, *args, **options):
            found = importing(name, *args, **options)
            if "transfer" in name:
                sys.modules["SparseSegNetLib.remote.transfer"].atomic_path = full
            return found

        builtins.__import__ = meddle
    elif odd == "noise":
        print("Welcome to gpu-box!\n42 updates are waiting.", flush=True)
    elif odd in ("hostile", "hangs-up"):
        return hostile()
    exec(sys.stdin.buffer.readline(), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
