"""Limits of memory and of processor time that are set from outside the process."""

import ctypes
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from SparseSegNetLib.engine.compute import allocation, cgroups, device, windows_memory
from SparseSegNetLib.engine.planning.planner import MEMORY_SHARE, Planner

CPU = torch.device("cpu")
MB = 1 << 20


class Machine:
    """A made-up /proc and the cgroups that are mounted, in a folder."""

    def __init__(self, folder: Path):
        self.proc, self.top = folder / "proc", folder / "sys fs" / "cgroup"
        (self.proc / "self").mkdir(parents=True)

    def mount(self, kind: str, name: str = "", root: str = "/") -> None:
        place = str(self.top / name).replace(" ", "\\040")
        with (self.proc / "self" / "mountinfo").open("a") as file:
            file.write(f"24 1 0:5 / / rw - ext4 /dev/vda rw\n31 23 0:28 {root} {place} rw,relatime")
            file.write(f" shared:9 - {kind} {kind} rw,{name}\n" if name else f" - {kind} none rw\n")

    def inside(self, *lines: str) -> None:
        (self.proc / "self" / "cgroup").write_text("\n".join(lines) + "\n")

    def group(self, path: str, **files: object) -> None:
        folder = self.top / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(f"{content}\n")

    @property
    def left(self):
        return cgroups.memory_left(self.proc)

    @property
    def cores(self):
        return cgroups.cores(self.proc)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_version_2(machine):
    """The parent leaves less than the process's own group, though its limit is higher."""
    machine.mount("cgroup2")
    machine.inside("0::/user.slice/job/step")
    machine.group("")
    stat = "anon 5\ninactive_file {}\nactive_file 7"
    machine.group(
        "user.slice", memory__max="max", memory__current=9000 * MB, memory__stat=stat.format(0)
    )
    machine.group(
        "user.slice/job",
        memory__max=4000 * MB,
        memory__current=3500 * MB,
        memory__stat=stat.format(300 * MB),
        cpu__max="max 100000",
    )
    machine.group(
        "user.slice/job/step",
        memory__max=2000 * MB,
        memory__high="max",
        memory__current=500 * MB,
        memory__stat=stat.format(100 * MB),
        cpu__max="250000 100000",
    )
    assert machine.left == 800 * MB
    assert machine.cores == 2.5
    machine.group("user.slice/job", memory__current=9999 * MB, cpu__max="50000 100000")
    assert machine.left == 1, "beyond its limit, for a moment"
    assert machine.cores == 0.5
    machine.group("user.slice/job/step", memory__high=400 * MB + 100)
    machine.group("user.slice/job", memory__max="max")
    assert machine.left == 100, "where a group is slowed down counts too"


def test_version_1(machine):
    machine.mount("cgroup", "memory")
    machine.mount("cgroup", "cpu,cpuacct")
    machine.inside("4:memory:/docker/a", "1:cpu,cpuacct:/docker/a", "9:name=systemd:/x", "0::/")
    none = 9223372036854771712
    machine.group("memory", memory__limit_in_bytes=none, memory__usage_in_bytes=1)
    machine.group(
        "memory/docker/a",
        memory__limit_in_bytes=none,
        memory__usage_in_bytes=700 * MB,
        memory__stat=f"inactive_file 1\ntotal_inactive_file {50 * MB}",
    )
    machine.group("cpu,cpuacct/docker/a", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    assert machine.left is None and machine.cores is None
    stat = f"hierarchical_memory_limit {1000 * MB}\ntotal_inactive_file {50 * MB}"
    machine.group("memory/docker/a", memory__stat=stat)
    assert machine.left == 350 * MB, "a limit above the group that cannot be seen"
    machine.group("memory/docker/a", memory__limit_in_bytes=800 * MB)
    assert machine.left == 150 * MB
    machine.group("cpu,cpuacct/docker", cpu__cfs_quota_us=200000, cpu__cfs_period_us=100000)
    assert machine.cores == 2.0


@pytest.mark.parametrize("root", ["/docker/abc", "/elsewhere", "/../../x"])
def test_a_container_sees_its_group_as_the_root(machine, root):
    """Its group is named as on the host; the mount shows that group and what is below it."""
    machine.mount("cgroup2", root=root)
    machine.inside("0::/docker/abc" if root != "/../../x" else "0::/../abc")
    machine.group("", memory__max=300 * MB, memory__current=100 * MB, memory__stat="")
    assert machine.left == 200 * MB


def test_nothing_to_be_read(machine):
    assert machine.left is None and machine.cores is None
    machine.mount("cgroup2")
    machine.inside("garbage", "0::/gone")
    (machine.proc / "self" / "mountinfo").open("a").write("half a line - cgroup2\n\n")
    machine.group("", memory__max="many", memory__current="", memory__stat="x", cpu__max="1")
    assert machine.left is None and machine.cores is None


def test_the_least_counts(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")

    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8000000 kB\n")
    (tmp_path / "self" / "statm").write_text("1000 5 5 1 0 5 0\n")
    assert allocation._available(tmp_path) == 8_192_000_000
    monkeypatch.setattr(resource, "getrlimit", lambda which: (3 << 30, resource.RLIM_INFINITY))
    left = allocation._address_space_left(tmp_path)
    assert left == (3 << 30) - 1000 * resource.getpagesize()
    # Of the process itself, whose address space grows with the tests that it ran before.
    monkeypatch.setattr(allocation, "_address_space_left", lambda *root: 2e8)
    monkeypatch.setattr(allocation.cgroups, "memory_left", lambda: 1e8)
    assert allocation.free_memory(CPU) == 1e8
    monkeypatch.setattr(allocation.cgroups, "memory_left", lambda: None)
    assert allocation.free_memory(CPU) == 2e8
    monkeypatch.setattr(allocation, "_address_space_left", lambda *root: None)
    assert allocation.free_memory(CPU) == pytest.approx(allocation._available(), rel=0.5)


def test_threads_of_a_container(machine, monkeypatch):
    machine.mount("cgroup2")
    machine.inside("0::/")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for quota, threads in (("max", 64), ("200000", 2), ("290000", 2), ("20000", 1), ("9" * 9, 64)):
        machine.group("", cpu__max=f"{quota} 100000")
        assert device.usable_cores(machine.proc) == threads
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert device.usable_cores(machine.proc) == 8


def test_a_card_of_4_gb_plans_for_4_gb(monkeypatch):
    """As a container of 4 GB does: the working grid becomes coarser until its estimate fits."""
    from SparseSegNetLib.engine.plan import Fingerprint
    from SparseSegNetLib.engine.stacking.stacker import Stacker
    from SparseSegNetLib.runfolder.options import Options

    monkeypatch.setattr("SparseSegNetLib.engine.planning.planner.free_memory", lambda device: 4e9)
    fingerprint = Fingerprint((512, 512, 512), (1.0, 1.0, 1.0), 1, 4, 1000, 5)
    inputs = types.SimpleNamespace(
        fingerprint=lambda classes: fingerprint,
        items=[types.SimpleNamespace(prior=None)],
        folder=types.SimpleNamespace(given_model=None),
    )
    planner = Planner(inputs, Options(), 4, lambda: 60.0, lambda: None, print)
    k, j, i = planner._within_memory(CPU, stacked=True)
    used = k * j * i * (8 + 16 + 8 + Stacker.bytes_per_voxel(1, 4))
    assert 0.9 * MEMORY_SHARE * 4e9 < used <= MEMORY_SHARE * 4e9


class Kernel32:
    """Answers as Windows does. limits: fields of the job's limits; None outside of a job."""

    def __init__(self, limits=None):
        self.limits = limits
        self.GetCurrentProcess = lambda: -1
        self.K32GetProcessMemoryInfo = self._counters

    def GlobalMemoryStatusEx(self, status):
        status._obj.available = 9 << 30
        return status._obj.length == 64

    def QueryInformationJobObject(self, job, kind, limits, size, told):
        assert (job, kind, size) == (None, 9, 144)
        for name, value in (self.limits or {}).items():
            setattr(limits._obj, name, value)
        return self.limits is not None

    @staticmethod
    def _counters(process, counters, size):
        counters._obj.committed = 1 << 30
        return size == 72


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_size_t) != 8, reason="sizes of 64 bits")
@pytest.mark.parametrize(
    ("limits", "gigabytes"),
    [
        (None, 9),
        ({"flags": 0, "job_memory": 1}, 9),
        ({"flags": 0x200, "job_memory": 4 << 30}, 3),
        ({"flags": 0x300, "job_memory": 4 << 30, "process_memory": 2 << 30}, 1),
        ({"flags": 0x100, "process_memory": 20 << 30}, 9),
    ],
)
def test_jobs_of_windows(monkeypatch, limits, gigabytes):
    windll = types.SimpleNamespace(kernel32=Kernel32(limits))
    monkeypatch.setattr(ctypes, "windll", windll, raising=False)
    assert windows_memory.free_memory() == gigabytes << 30


CHILD = """
import os, sys
for folder in sys.argv[1:]:
    open(os.path.join(folder, "cgroup.procs"), "w").write(str(os.getpid()))
from SparseSegNetLib.engine.compute.cgroups import cores, memory_left
print(memory_left())
held = b"x" * (100 << 20)
print(memory_left())
print(cores())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_a_real_cgroup():
    made = []
    try:
        for controller, limits in (
            ("memory", {"memory.max": 400 * MB, "memory.limit_in_bytes": 400 * MB}),
            ("cpu", {"cpu.max": "150000 100000", "cpu.cfs_quota_us": 150000}),
        ):
            try:
                top = next(cgroups._groups(cgroups.PROC, controller))
                folder = top / f"sparsesegnet-test-{os.getpid()}-{controller}"
                folder.mkdir()
                made.append(folder)
                name = next(name for name in limits if (folder / name).is_file())
                (folder / name).write_text(str(limits[name]))
            except (StopIteration, OSError) as error:
                if not made or controller == "memory":
                    pytest.skip(f"no cgroup can be made here ({error!r})")
                folder.rmdir()
                made.remove(folder)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *map(str, made)],
            capture_output=True,
            encoding="utf-8",
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if "PermissionError" in done.stderr or "cgroup.procs" in done.stderr:
            pytest.skip("no process may be put into a cgroup here")
        before, after, granted = done.stdout.split()
        assert 300 * MB < float(before) <= 400 * MB
        assert 90 * MB < float(before) - float(after) < 130 * MB
        assert len(made) == 1 or granted == "1.5"
    finally:
        for folder in made:
            folder.rmdir()
