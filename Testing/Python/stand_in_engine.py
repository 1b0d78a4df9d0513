"""An engine that answers at once: thresholds instead of a network, and no torch.

``python -m stand_in_engine RUN --client``. In the environment: STAND_IN_FAILS, part of the name of
inputs that it fails on; STAND_IN_WAITS, a file that it waits for before it ends; STAND_IN_PREVIEWS,
with which it shows a preview first.
"""

import os
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
from described_models import write_model

from SparseSegNetLib.runfolder.exit_codes import CANCELLED
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.protocol import decode, encode


def tell(name, **data):
    sys.stdout.buffer.write(encode("event", name, **data))
    sys.stdout.buffer.flush()


def listen():
    for line in sys.stdin.buffer:
        command = decode(line, "command")
        if command is not None and command["command"] == "cancel":
            os._exit(CANCELLED)
    os._exit(CANCELLED)  # the client has gone


def predict(image):
    """Shell (1) and core (2) of the phantom, and doubt where the noise is strong."""
    labels, uncertainty = np.empty(image.shape, np.uint8), np.empty(image.shape, np.uint8)
    for plane, found, doubt in zip(image, labels, uncertainty, strict=True):  # it may be large
        found[...] = np.where(plane > 130, 1, np.where(plane > 80, 2, 0))
        distance = np.minimum(abs(plane - 130.0), abs(plane - 80.0))
        doubt[...] = np.where(distance < 4, 200, 0)
    return labels, uncertainty


def main():
    threading.Thread(target=listen, daemon=True).start()
    folder = RunFolder.open(sys.argv[1])
    tell("started", pid=os.getpid())
    tell("ready", pid=os.getpid(), device="cpu")
    about = {"step": 0, "loss": None, "seconds": 0.1, "fraction": 0.5}
    phase = "comparing slices" if "STAND_IN_PREVIEWS" in os.environ else "predicting"
    tell("progress", phase=phase, remaining=1.0, **about)
    if "STAND_IN_PREVIEWS" in os.environ:
        folder.write_preview(1, predict(folder.read_input().image[0])[0])
        tell("preview", input=1, step=0, seconds=0.1)
    held = os.environ.get("STAND_IN_WAITS")
    while held and not Path(held).exists():
        time.sleep(0.01)
    for number in range(1, folder.count + 1):
        item = folder.read_input(number)
        failing = os.environ.get("STAND_IN_FAILS")
        if failing and failing in item.name:
            tell(
                "error",
                code="out-of-memory",
                cause="there is not enough memory.",
                remedy="Crop it.",
            )
            os._exit(5)
        labels, uncertainty = predict(item.image[0])
        np.copyto(labels, item.labels, where=item.labels != 255)
        folder.write_result(number, labels, uncertainty)
    if folder.given_model is None:
        write_model(folder.model_path, segments=folder.segments)
    else:
        shutil.copyfile(folder.given_model, folder.model_path)
    tell("done", seconds=0.2, step=0, held_out=None, held_out_slices=[])
    os._exit(0)


if __name__ == "__main__":
    main()
