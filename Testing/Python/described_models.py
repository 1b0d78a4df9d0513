"""Model files with a description and no weights, as far as nothing computes with them."""

import json

from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.runfolder.model_description import ModelDescription, Score, TrainingCase

SEGMENTS = [
    Segment("Shell", "Shell", (0.9, 0.6, 0.1), 1, {"TerminologyEntry": "a~b^c^d~e"}),
    Segment("Core", "Core", (0.3, 0.7, 0.9), 2),
]


def describe(**changes):
    about = {
        "name": "nested",
        "created": "2026-11-20T10:00:00+00:00",
        "segments": SEGMENTS,
        "channels": ["MR"],
        "modality": "other",
        "ranges": [(20.0, 200.0)],
        "spacing": (0.8, 0.8, 1.2),
        "orientation": "LPS",
        "cases": [
            TrainingCase(name, (30, 28, 24), (0.8, 0.8, 1.2), 5, 3000, ("Shell", "Core"))
            for name in ("MR a", "MR b", "MR c")
        ],
        "scores": [Score(0.85, 0.92, 900), Score(0.8, 0.89, 700)],
        "scored": "On slices that were held out.",
    }
    return ModelDescription(**{**about, **changes})


def write_model(path, **changes):
    """A .safetensors file with a description and one tensor of no meaning."""
    header = {
        "__metadata__": {"sparsesegnet": json.dumps(describe(**changes).to_json())},
        "weight": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0\0\0\0")
    return path
