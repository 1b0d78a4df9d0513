"""The command ``sparsesegnet networks``."""

from __future__ import annotations

import argparse
import json
import subprocess

from ..client.interpreter import chosen
from ..client.processes import cannot_start, command_of, engine_environment
from ..errors import EngineError
from ..runfolder.exit_codes import DONE

DESCRIBE = "SparseSegNetLib.engine.describe"


def describe() -> list[dict]:
    """Properties of each network, from the engine in a process of its own (it needs torch).

    Raises:
        EngineError: The process failed.
    """
    interpreter = chosen()
    try:
        done = subprocess.run(
            command_of(["-m", DESCRIBE], interpreter),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env=engine_environment(interpreter),
        )
    except OSError as error:
        raise cannot_start(interpreter.python, error.strerror or str(error)) from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise EngineError(
            "torch",
            f"the engine cannot describe its networks: {last[0]}.",
            "'sparsesegnet doctor' tells why.",
        )
    return json.loads(done.stdout)


def networks(options: argparse.Namespace) -> int:
    """Prints the networks and their properties, or their JSON; returns the exit code."""
    rows = describe()
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return DONE
    for row in rows:
        print(f"{row['name']:8s} {row['title']}. {row['source']}.")
        print(
            f"         {row['parameters']:,} parameters; receptive field "
            f"{_times(row['receptive_field'])}; tile {_times(row['input_tile'])} -> "
            f"{_times(row['output_tile'])}, {row['batch']} per step; "
            f"{row['training_memory'] / 2**30:.1f} GiB to train, "
            f"{row['tile_memory'] / 2**30:.1f} GiB to predict a tile."
        )
        print(
            f"         {row['loss']} loss, {row['optimiser']}, learning rate "
            f"{row['learning_rate']:g}, normalisation: {row['norm']}."
            + (f" It {row['note']}." if row["note"] else "")
        )
    print(
        "\nParameters and memory are for one channel and two classes, sizes in voxels along "
        "i, j, k. A receptive\nfield is counted as in Milletari 2016, Table 1; memory is "
        "estimated for float32 at the default tile."
    )
    return DONE


def _times(values: list[int]) -> str:
    return "x".join(map(str, values))
