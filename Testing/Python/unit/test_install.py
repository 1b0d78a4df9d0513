"""The extension as the Extension Manager gets it: its catalog entry, and built and installed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTED = Path("lib/Slicer-5.12/qt-scripted-modules")
CMAKE = shutil.which("cmake")
# The catalog's schema v1.0.1 forbids any other key.
ALLOWED = {
    "$schema",
    "build_dependencies",
    "build_subdirectory",
    "category",
    "enabled",
    "scm_revision",
    "scm_type",
    "scm_url",
    "tier",
}

needs_cmake = pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")


def setting(name):
    """As the index's own checker finds it: one line, quoted."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(rf'^set\({name} "([^"]*)"\)$', text, re.MULTILINE)[1]


class TestCatalogEntry:
    path = ROOT / "Resources" / "SparseSegNet.json"

    def entry(self):
        return json.loads(self.path.read_text(encoding="utf-8"))

    def test_keys(self):
        entry = self.entry()
        assert set(entry) <= ALLOWED and {"$schema", "category", "scm_url"} <= set(entry)
        assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
        assert entry["category"] == "Segmentation" and entry["tier"] in (1, 3, 5)

    def test_names(self):
        """The file is called as the project is, and the repository begins with Slicer."""
        project = re.search(
            r"^project\((\w+)\)$", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"), re.M
        )[1]
        assert self.path.stem == project and not project.startswith("Slicer")
        url = self.entry()["scm_url"]
        assert url.startswith("https://") and url.rsplit("/", 1)[1] == f"Slicer{project}"
        assert url == setting("EXTENSION_HOMEPAGE")

    def test_dependencies_are_those_of_cmake(self):
        assert self.entry()["build_dependencies"] == setting("EXTENSION_DEPENDS").split()

    def test_form(self):
        """As the index's formatter leaves it: two spaces, line feeds alone, keys in order."""
        data = self.path.read_bytes()
        assert (
            b"\r" not in data
            and data.endswith(b"}\n")
            and list(self.entry()) == sorted(ALLOWED & set(self.entry()))
        )
        assert all(not line.startswith(b"   ") for line in data.splitlines())


def test_icon_and_licence():
    from matplotlib.image import imread

    assert imread(ROOT / "SparseSegNet.png").shape[:2] == (128, 128)
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence and "Apache" in (ROOT / "README.md").read_text("utf-8")


def configured(source, build):
    return subprocess.run(
        [CMAKE, "-S", source, "-B", build, f"-DSlicer_DIR={ROOT / 'Testing' / 'CMake'}"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of scripted modules of an installation."""
    if CMAKE is None:
        pytest.skip("cmake is not installed")
    build, target = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("installed")
    done = configured(ROOT, build)
    assert done.returncode == 0, done.stderr
    for command in (["--build", build], ["--install", build, "--prefix", target]):
        subprocess.run([CMAKE, *command], check=True, capture_output=True)
    assert (build / SCRIPTED / "SparseSegNet.py").is_file(), "it runs from the build tree too"
    assert (build / "description.txt").read_text(encoding="utf-8").startswith("depends PyTorch\n")
    return target / SCRIPTED


def files(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file()
        and p.name != "CMakeLists.txt"
        and not any(part == "__pycache__" or part.endswith(".egg-info") for part in p.parts)
    }


def test_all_that_there_is_is_installed(installed):
    assert files(installed) == files(ROOT / "SparseSegNet")


@pytest.mark.slow
def test_the_self_test_runs_from_the_installed_tree(installed):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    test = ROOT / "Testing/Python/gui/installed_module.py"
    paths = f"pythonpath={installed} Testing/Benchmark Testing/Fuzz Resources"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test, "-o", paths],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


@needs_cmake
@pytest.mark.parametrize(
    ("file", "pattern", "said"),
    [
        ("SparseSegNet/SparseSegNetLib/errors.py", None, "does not exist"),
        ("SparseSegNet/CMakeLists.txt", r"  \$\{MODULE_NAME\}\.py\n", "not among the scripts"),
        ("CMakeLists.txt", r"set\(EXTENSION_DEPENDS.*\n", "EXTENSION_DEPENDS is not set"),
    ],
)
def test_what_is_wrong_fails_at_once(tmp_path, file, pattern, said):
    source = tmp_path / "source"
    for part in ("CMakeLists.txt", "SparseSegNet"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / part, source / part)
    changed = source / file
    if pattern is None:
        changed.unlink()
    else:
        text = changed.read_text(encoding="utf-8")
        assert re.search(pattern, text)
        changed.write_text(re.sub(pattern, "", text), encoding="utf-8")
    done = configured(source, tmp_path / "build")
    assert done.returncode != 0 and said in " ".join(done.stderr.split())
