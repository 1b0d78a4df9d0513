"""Damaged input for every reader: nothing but a value or an InputError may come of it.

    make fuzz                                   # 10,000 inputs per reader, and a table
    python Testing/Fuzz/fuzz.py --count 500 --reader run.json

Readers run in a child process with a memory limit (none on Windows, which has no such limit for
a process by itself), so that a death is seen: the parent knows with which input it was busy,
begins a new child behind it, and keeps the input. Exit code 1 when anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path

from readers import READERS, Reader
from SparseSegNetLib.client.processes import engine_environment
from SparseSegNetLib.errors import InputError

SLOW = 8.0  # seconds of processor time that an input may take, however busy the machine is
HANGS = 30 * SLOW  # seconds by the clock until a child is taken for hanging
MEMORY = 2 << 30  # bytes that a child may take beside what it has once everything is loaded
FINDINGS = Path(tempfile.gettempdir()) / "sparsesegnet-fuzz"


@dataclass
class Outcome:
    """What came of a reader's inputs. counts: value, InputError, other, death.  found: what must
    not be: number of the input and what happened.  slowest: seconds of processor time."""

    counts: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    found: list[tuple[int, str]] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        return bool(self.found)


def fuzz(
    names: Sequence[str],
    count: int,
    seed: int = 0,
    told: Callable[[str, Outcome], None] = lambda name, outcome: None,
) -> dict[str, Outcome]:
    """Read `count` damaged inputs with each of these readers. told: called after each input."""
    outcomes = {name: Outcome() for name in names}
    todo = [(name, 0) for name in names]
    while todo:
        todo = _one_child(todo, count, seed, outcomes, told)
    return outcomes


def _one_child(
    todo: list[tuple[str, int]],
    count: int,
    seed: int,
    outcomes: dict[str, Outcome],
    told: Callable[[str, Outcome], None],
) -> list[tuple[str, int]]:
    """Have a child read until it has done all or ends; what is left to do."""
    environment = engine_environment()
    environment.pop("PYTHONSAFEPATH")  # this file imports those beside it
    child = subprocess.Popen(
        [
            sys.executable,
            __file__,
            "--child",
            json.dumps(todo),
            "--count",
            str(count),
            "--seed",
            str(seed),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env=environment,
        encoding="utf-8",
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in child.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    busy, patience = None, 120.0  # seconds to load everything
    while True:
        try:
            line = lines.get(timeout=patience)
        except queue.Empty:
            child.kill()
            line = ""
        if not line:
            break
        said = json.loads(line)
        name, number = said["reader"], said["number"]
        if "kind" not in said:
            busy, patience = (name, number), HANGS
            continue
        busy = None
        outcome = outcomes[name]
        outcome.counts[said["kind"]] += 1
        outcome.slowest = max(outcome.slowest, said["seconds"])
        if said["kind"] == "other" or said["seconds"] > SLOW:
            outcome.found.append((number, said["text"] or f"{said['seconds']:.1f} s"))
            keep(name, number, seed)
        told(name, outcome)
    code = child.wait()
    if busy is None:
        if code:
            raise RuntimeError(f"the child ended by itself ({code}): it must not")
        return []
    name, number = busy
    outcomes[name].counts["death"] += 1
    outcomes[name].found.append((number, f"the process ended ({code})"))
    keep(name, number, seed)
    told(name, outcomes[name])
    behind = [n for n, _ in todo].index(name)
    return [*([(name, number + 1)] if number + 1 < count else []), *todo[behind + 1 :]]


def damage(reader: Reader, number: int, seed: int, folder: Path) -> None:
    """Make the damaged input of that number out of a whole one."""
    reader.mutated(folder, random.Random(f"{reader.name} {seed} {number}"))


class Whole:
    """A whole input that can be had back after it was damaged and read: only what changed is
    written again, which is far quicker than a copy for each input."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self._marks = {path: self._mark(path) for path in self._files}

    def restore(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self._files:
                path.unlink()
        for path, data in self._files.items():
            if self._mark(path) != self._marks[path]:
                path.write_bytes(data)
                self._marks[path] = self._mark(path)

    def _mark(self, path: Path) -> tuple[int, int, int] | None:
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ino


def keep(name: str, number: int, seed: int) -> None:
    """Keep an input that was answered badly."""
    reader, target = READERS[name], FINDINGS / f"{name.replace(' ', '-')}-{seed}-{number}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    reader.make(target)
    damage(reader, number, seed, target)


def child(todo: list[tuple[str, int]], count: int, seed: int) -> None:
    """Read inputs, saying before each which it is, and afterwards what came of it."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print

    def say(**data) -> None:
        out.write(json.dumps(data) + "\n")

    with (
        tempfile.TemporaryDirectory() as scratch,
        open(os.devnull, "w") as nowhere,
        redirect_stderr(nowhere),
    ):
        root = Path(scratch)
        for place, (name, first) in enumerate(todo):
            folder = root / str(place)
            folder.mkdir()
            READERS[name].make(folder)
            whole = Whole(folder)
            READERS[name].read(folder)  # it must be readable, and loads all
            whole.restore()
            if place == 0:
                _limit_memory()
            for number in range(first, count):
                damage(READERS[name], number, seed, folder)
                say(reader=name, number=number)
                begun = time.process_time()
                kind, text = _answer(READERS[name], folder)
                say(
                    reader=name,
                    number=number,
                    kind=kind,
                    text=text,
                    seconds=time.process_time() - begun,
                )
                whole.restore()


def _answer(reader: Reader, folder: Path) -> tuple[str, str]:
    try:
        reader.read(folder)
    except InputError:
        return "InputError", ""
    except Exception as error:
        return "other", f"{type(error).__name__}: {str(error)[:200]}"
    return "value", ""


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return  # Windows
    import torch  # noqa: F401  # loaded before the limit, not under it

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        limit = pages * resource.getpagesize() + MEMORY
    except OSError:
        limit = 16 << 30  # macOS maps much that it never uses
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def table(outcomes: dict[str, Outcome], count: int) -> str:
    """The outcomes as Markdown."""
    lines = [
        "| reader | inputs | value | InputError | other | deaths | slowest (s) |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {count} | {o.counts['value']} | {o.counts['InputError']} | "
        f"{o.counts['other']} | {o.counts['death']} | {o.slowest:.2f} |"
        for name, o in outcomes.items()
    ]
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=10_000, help="inputs per reader")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--reader",
        action="append",
        choices=list(READERS),
        metavar="NAME",
        help=f"only this one (several times for several): {', '.join(READERS)}",
    )
    options.add_argument("--child", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        child(json.loads(given.child), given.count, given.seed)
        return 0
    from tqdm import tqdm

    names = given.reader or list(READERS)
    with tqdm(total=len(names) * given.count, unit=" inputs", smoothing=0.05) as bar:

        def told(name: str, outcome: Outcome) -> None:
            bar.set_description_str(name, refresh=False)
            bar.update()

        outcomes = fuzz(names, given.count, given.seed, told)
    print(table(outcomes, given.count))
    for name, outcome in outcomes.items():
        for number, text in outcome.found[:10]:
            print(f"{name}, input {number}: {text} (kept in {FINDINGS})")
    return int(any(outcome.bad for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
