"""Small model files with a valid description, and damaged ones."""

import json
from dataclasses import replace

import numpy as np
from safetensors.numpy import save_file

from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.runfolder.model_description import KEY, ModelDescription, Score, TrainingCase

LIVER = "Category~SCT^123037004^Structure~SCT^10200004^Liver~SCT^^~Regions~^^~^^"
DESCRIPTION = ModelDescription(
    "livers",
    "2026-11-26T12:00:00+00:00",
    [
        Segment("Segment_1", "Shell", (1.0, 0.0, 0.0), 1, {"TerminologyEntry": LIVER}),
        Segment("Segment_2", "Core", (0.0, 0.5, 1.0), 2),
    ],
    ["a.nrrd"],
    "other",
    [(12.0, 340.5)],
    (1.0, 1.0, 2.0),
    "LPS",
    [TrainingCase("a", (22, 20, 18), (1.0, 1.0, 2.0), 3, 1200, ("Shell", "Core"))],
    [Score(0.8, 0.9, 321), Score(None, None, 0)],
    "on annotated slices that were left out of training",
    75.0,
    300,
    7,
    {"torch": "2.5", "python": "3.12"},
)


def write_model(path, **changes):
    """Writes a model file that describes a model of shells and cores; returns its path."""
    about = json.dumps(replace(DESCRIPTION, **changes).to_json())
    save_file({"weight": np.zeros((4, 4), np.float32)}, str(path), {KEY: about})
    return path


def damaged(folder):
    """Files that are no models, by what is wrong with them, with a word of the message."""
    whole = write_model(folder / "whole.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["weight"]["shape"], header["weight"]["data_offsets"] = [1 << 34], [0, 1 << 36]
    huge = json.dumps(header).encode()
    (folder / "folder").mkdir()
    files = {
        "truncated": (whole[:-10], "10 bytes are missing"),
        "longer": (whole + b"123", "3 bytes too many"),
        "huge": (len(huge).to_bytes(8, "little") + huge + whole[8 + length :], "bytes are missing"),
        "long header": ((1 << 40).to_bytes(8, "little") + whole[8:], "beginning is damaged"),
        "pickle": (b"PK\x03\x04" + bytes(100), "pickle of Python objects"),
        "old pickle": (b"\x80\x02" + bytes(100), "pickle of Python objects"),
        "text": (b"image,labels\n", "no .safetensors file"),
        "empty": (b"", "no .safetensors file"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {
        **{name: (folder / name, word) for name, (_, word) in files.items()},
        "folder": (folder / "folder", "there is no such file"),
        "missing": (folder / "none", "there is no such file"),
    }
