"""The first code that runs over there: it says which Python that is, and unpacks this package.

The other computer gets this file as text, so that nothing of ours need be installed on it. A Python
as old as 3.4 can read it, since it is what says that one is too old. The code before it defines
SETTINGS.
"""

import hashlib
import importlib
import io
import json
import os
import shutil
import sys
import tempfile
import zipfile

SETTINGS = globals().get("SETTINGS", {})


def say(stream, **about):
    """Writes one line of JSON."""
    stream.write(json.dumps(about).encode("ascii") + b"\n")
    stream.flush()


def unpack(data, folder):
    """Unpacks the package into a folder, which appears whole or not at all."""
    parent = os.path.dirname(folder)
    if not os.path.isdir(parent):
        os.makedirs(parent)
    temporary = tempfile.mkdtemp(prefix=".writing-", dir=parent)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(temporary)
        os.rename(temporary, folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not os.path.isdir(folder):  # else another connection was quicker
            raise


def main():
    """Hands over to the agent once its code is here."""
    # What anything prints here must not get between our messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    given = sys.stdin.buffer
    out.write(SETTINGS["mark"].encode("ascii") + b"\n")
    say(
        out,
        python=list(sys.version_info[:3]),
        program=sys.executable or "python",
        platform=sys.platform,
    )
    if list(sys.version_info[:2]) < SETTINGS["oldest"]:
        return
    found = {"__name__": "local_data"}
    exec(SETTINGS["local_data"], found)
    data_folder = str(found["local_data_folder"]())
    folder = os.path.join(data_folder, "remote", "code", SETTINGS["sha256"][:20])
    known = os.path.isdir(folder)
    say(out, known=known)
    try:
        if not known:
            data = given.read(SETTINGS["size"])
            if hashlib.sha256(data).hexdigest() != SETTINGS["sha256"]:
                say(out, fault="the engine's code has arrived incomplete", number=0)
                return
            unpack(data, folder)
        os.utime(folder, None)  # in use: the oldest are deleted
    except OSError as error:
        say(out, fault=data_folder + ": " + (error.strerror or str(error)), number=error.errno)
        return
    say(out, ready=True)
    sys.path.insert(0, folder)
    importlib.import_module(SETTINGS["agent"]).main(given, out, data_folder)


if SETTINGS:
    main()
