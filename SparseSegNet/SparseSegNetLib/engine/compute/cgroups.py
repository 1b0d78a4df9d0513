"""Limits that control groups (containers, batch systems) set: memory, and processor time.

Both versions of cgroups are read, also side by side; a limit of any group from the process's own
up to the root of what can be seen counts. The kernel's documents are admin-guide/cgroup-v2 and
admin-guide/cgroup-v1/memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
UNLIMITED = 1 << 60  # version 1 writes the largest number of pages where there is no limit


def memory_left(proc: Path = PROC) -> float | None:
    """Bytes that this process may still take, by the cgroups that it is in.

    Pages of files that were read once and can be dropped do not count as used.

    Args:
        proc: The folder /proc; its files name the folders of the cgroups.

    Returns:
        The least of all groups; None if none sets a limit.
    """
    return min((left for group in _groups(proc, "memory") if (left := _left(group))), default=None)


def cores(proc: Path = PROC) -> float | None:
    """Cores whose time this process may use up, by the cgroups that it is in.

    Args:
        proc: The folder /proc; its files name the folders of the cgroups.

    Returns:
        The least of all groups; None if none sets a limit.
    """
    return min((n for group in _groups(proc, "cpu") if (n := _quota(group))), default=None)


def _groups(proc: Path, controller: str) -> Iterator[Path]:
    """The folders of the process's cgroups of a controller, each before its parents."""
    own = _own_groups(proc)
    for top, root, controllers in _mounts(proc):
        if controller not in controllers and controllers:
            continue
        path = own.get(controller if controllers else "")
        if path is None:
            continue
        # In a container the group may be named as outside, above what is mounted here.
        inside = path.is_relative_to(root) and ".." not in path.parts
        below = path.relative_to(root) if inside else PurePosixPath()
        folder = top / below
        while True:
            if folder.is_dir():
                yield folder
            if folder == top:
                break
            folder = folder.parent


def _own_groups(proc: Path) -> dict[str, PurePosixPath]:
    """The process's group of each controller of version 1, and of version 2 under ''."""
    found = {}
    for line in _lines(proc / "self" / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            found[controller] = PurePosixPath(path)
    return found


def _mounts(proc: Path) -> Iterator[tuple[Path, PurePosixPath, list[str]]]:
    """Mount points of cgroups, the group that lies there, and controllers (version 2: none)."""
    for line in _lines(proc / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, about = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(about) < 3 or about[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = about[2].split(",") if about[0] == "cgroup" else []
        yield Path(_unescaped(fields[4])), PurePosixPath(_unescaped(fields[3])), controllers


def _unescaped(text: str) -> str:
    """A path of mountinfo, in which blanks are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _left(group: Path) -> float | None:
    """Bytes left of a group's limit; None without one. At least 1, since 0 would be no answer."""
    stat = dict(line.split(" ", 1) for line in _lines(group / "memory.stat") if " " in line)
    if (group / "memory.current").is_file():
        limits = [_number(group / "memory.max"), _number(group / "memory.high")]
        used, droppable = _number(group / "memory.current"), stat.get("inactive_file")
    else:
        # The groups above may be hidden from a container, but their least limit is told.
        limits = [
            _number(group / "memory.limit_in_bytes"),
            _whole(stat.get("hierarchical_memory_limit")),
        ]
        used = _number(group / "memory.usage_in_bytes")
        droppable = stat.get("total_inactive_file", stat.get("inactive_file"))
    known = [limit for limit in limits if limit is not None and limit < UNLIMITED]
    if not known or used is None:
        return None
    return float(max(1, min(known) - max(0, used - (_whole(droppable) or 0))))


def _quota(group: Path) -> float | None:
    """Cores of a group; None without a limit."""
    if (group / "cpu.max").is_file():
        quota, _, period = "".join(_lines(group / "cpu.max")).partition(" ")
        parts = _whole(quota), _whole(period)
    else:
        parts = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    # -1 is version 1's word for no limit.
    return parts[0] / parts[1] if parts[0] and parts[1] and min(parts) > 0 else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _number(file: Path) -> int | None:
    return _whole("".join(_lines(file)))


def _whole(text: str | None) -> int | None:
    """An integer in a text; None for 'max' and whatever else is none."""
    try:
        return int(text or "")
    except ValueError:
        return None
