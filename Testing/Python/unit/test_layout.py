"""The rules that keep the parts apart: imports, file sizes, CMake's lists."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "SparseSegNet"
LIB = MODULE / "SparseSegNetLib"
QT = {"qt", "ctk", "PySide6", "PythonQt"}
SLICER = {"slicer", "vtk", *QT}
TORCH = {"torch", "safetensors"}

# What each part may import beside the standard library and our own package.
ALLOWED = {
    "annotation": {"numpy", "scipy"},
    "suggestion": {"numpy", "scipy"},
    "runfolder": {"numpy"},
    "client": {"numpy"},
    "remote": set(),
    "cli": {"numpy", "tqdm"},
    "files": {"numpy", "SimpleITK"},
    "tiles": {"numpy", "torch"},
    "engine": {"numpy", "scipy", "SimpleITK", *TORCH},
    "scene": {"numpy", "slicer", "vtk"},
    "widget": {"numpy", "slicer", "vtk", "qt", "ctk"},
}
# What the application, other extensions or an extra bring, asked for where it is used.
THEIRS = {
    "scene": {"SampleData"},
    "widget": {"PyTorchUtils"},
    "files": {"pydicom", "zarr"},
    "cli": {"dask", "distributed"},
}
SOURCES = sorted(LIB.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(LIB).parts[0]


def imported(path: Path) -> set[str]:
    """Top-level names of absolute imports, anywhere in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(LIB)))
def test_imports_keep_to_their_part(path):
    foreign = imported(path) - set(sys.stdlib_module_names) - {"__future__"}
    if path.name == "qprocess_transport.py":
        foreign -= {"qt"}  # the one place outside the panel that speaks to Qt
    part = part_of(path)
    foreign -= THEIRS.get(part, set())
    assert foreign <= ALLOWED.get(part, set()), f"{part} may not import {foreign}"


def test_parts_know_only_what_lies_below_them(capsys):
    """The contracts in pyproject.toml, by import-linter."""
    broken = lint_imports(str(ROOT / "pyproject.toml"), no_cache=True)
    assert not broken, capsys.readouterr().out


@pytest.mark.parametrize(
    "path",
    [
        *SOURCES,
        MODULE / "SparseSegNet.py",
        *sorted((ROOT / "Testing").rglob("*.py")),
        *sorted((ROOT / "Resources").rglob("*.py")),
    ],
    ids=lambda p: p.name,
)
def test_rooms_are_small(path):
    most = 200 if path.name == "SparseSegNet.py" else 350
    if "Testing/Python" in path.as_posix():
        most = 450
    assert len(path.read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(LIB)))
def test_docstrings_say_what_a_thing_is_or_does(path):
    """They begin with a noun phrase or a verb, and name parameters in sections."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node) or ""
            assert not re.match(r"(What|Whether|Where|How|Why|Which)\b", text), text
            if not getattr(node, "name", "").startswith("_"):
                assert not re.search(r"^[a-z_]+: .*\.  [a-z_]+: ", text, re.MULTILINE), text


def test_cmake_lists_exactly_the_files_there_are():
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")

    def listed(name):
        block = re.search(rf"set\({name}\n(.*?)\)", text, re.DOTALL)[1]
        return sorted(block.replace("${MODULE_NAME}", "SparseSegNet").split())

    scripts = sorted(["SparseSegNet.py", *(p.relative_to(MODULE).as_posix() for p in SOURCES)])
    assert listed("MODULE_PYTHON_SCRIPTS") == scripts
    resources = sorted(
        p.relative_to(MODULE).as_posix() for p in (MODULE / "Resources").rglob("*") if p.is_file()
    )
    assert listed("MODULE_PYTHON_RESOURCES") == resources
    # Any other Python file beside the module file would be taken for a module of its own.
    assert [p.name for p in MODULE.glob("*.py")] == ["SparseSegNet.py"]


@pytest.mark.parametrize(
    "path", [*(LIB / "widget").glob("*.py"), MODULE / "SparseSegNet.py"], ids=lambda p: p.name
)
def test_texts_can_be_translated(path):
    """A text with values in it is translated first and filled in afterwards."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            assert isinstance(node.args[0], ast.Constant), f"line {node.lineno}"


def test_the_extension_index_can_read_our_cmake_file():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"^project\(SparseSegNet\)$", text, re.MULTILINE)
    for name in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        urls = re.search(rf'^set\({name} "(https://[^"?]+\.png)"\)$', text, re.MULTILINE)[1]
        for url in urls.split(" "):
            shipped = url.split("/main/")[1]
            assert (ROOT / shipped).is_file(), f"{shipped} is linked but not there"


def test_the_arguments_alone_load_only_light_modules():
    code = (
        "import sys; from SparseSegNetLib.cli.main import parser; parser(); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'SimpleITK', 'tqdm')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=MODULE, check=False, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr


def test_neither_command_line_nor_client_loads_torch():
    code = (
        "import sys, SparseSegNetLib.cli.main, SparseSegNetLib.cli.densify, "
        "SparseSegNetLib.client.engine_run, "
        "SparseSegNetLib.engine.compute.metrics, SparseSegNetLib.cli.networks, "
        "SparseSegNetLib.cli.reproduce; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'slicer', 'qt')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=MODULE, check=False, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr


def test_nothing_heavy_is_committed():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = {
        name: (ROOT / name).stat().st_size
        for name in listed.stdout.split("\0")
        if name and (ROOT / name).is_file()
    }
    assert sum(sizes.values()) < 8_000_000
    assert not [n for n in sizes if n.endswith((".safetensors", ".pt", ".pth", ".npy"))]
