"""Results that took long to make, kept with their settings: a benchmark can be broken off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from SparseSegNetLib.runfolder.atomic import write_json

RUNS = Path(__file__).resolve().parent / "runs"
ENGINE = Path(__file__).resolve().parents[2] / "SparseSegNet" / "SparseSegNetLib" / "engine"


def stored(folder: Path, name: str, settings: dict, make: Callable[[], dict]) -> dict:
    """What `make` gave with these settings, now or earlier."""
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    record = {
        "settings": settings,
        **make(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    return record


def engine_hash() -> str:
    """Changes when the engine's code does, so that stored results are not taken for new ones."""
    digest = hashlib.sha256()
    for path in sorted(ENGINE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def read_rows(path: Path) -> list[dict]:
    """The rows of a JSONL file; a last line that was cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
