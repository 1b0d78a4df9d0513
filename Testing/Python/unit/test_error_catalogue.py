"""The error catalogue: an entry for each code that the program uses, and none that it does not."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from documentation import ROOT

from SparseSegNetLib import __version__
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.errors import DOCUMENTATION, HOMEPAGE, EngineError
from SparseSegNetLib.runfolder import exit_codes

LIB = ROOT / "SparseSegNet" / "SparseSegNetLib"
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
# Where the code is a variable: codes that are passed on, and the tables of known errors.
TABLES = {"KNOWN_ERRORS", "KNOWN"}
PASSED_ON = {
    "disk_faults.py",
    "installation.py",
    "proxy.py",
    "service.py",
    "ssh_faults.py",
    "installation_failures.py",
    "failures.py",
    "segment_image.py",
    "dense_stages.py",
    "task_queue.py",
    "engine_run.py",
    "worker.py",
    "problems.py",
}


def constant(node):
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def codes_of(path: Path) -> set[str]:
    """The codes in a file: of EngineErrors, error events and the tables."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in TABLES:
            found |= {row.elts[1].value for row in node.value.elts}
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name == "EngineError":
            code = constant(node.args[0])
        elif name == "emit" and node.args and constant(node.args[0]) in ("error", "interrupted"):
            given = [word.value for word in node.keywords if word.arg == "code"]
            code = constant(given[0]) if given else constant(node.args[0])
        else:
            continue
        assert code or path.name in PASSED_ON, f"{path}, line {node.lineno}: which codes?"
        found |= {code} - {None}
    return found


def slug(title: str) -> str:
    return re.sub(r"[^\w-]+", "-", title.lower()).strip("-")


def test_each_code_has_an_entry():
    codes = set().union(*(codes_of(path) for path in LIB.rglob("*.py")))
    assert {"input", "out-of-memory", "gpu", "locked", "interrupted"} <= codes
    entries = set(re.findall(r"^### ([a-z-]+)$", PAGE, re.MULTILINE)) | {"input"}
    assert entries == codes, "docs/errors.md: missing, or no longer used"


def test_messages_link_to_the_entry():
    assert EngineError("gpu", "it failed.").link == f"{DOCUMENTATION}/errors/#gpu"
    assert EngineError("input", "no such file.").link == "", "the message says all"


def test_the_exit_codes_are_those_of_the_program():
    rows = dict(re.findall(r"^\| (\d) \| (.+) \|$", PAGE, re.MULTILINE))
    assert sorted(rows) == [str(n) for n in range(6)]
    for code, number in exit_codes._OF_ERRORS.items():
        named = [row for row, text in rows.items() if re.search(rf"\b{code}\b", text)]
        assert named == [str(number)], code


def test_links_into_the_documentation_lead_somewhere():
    """Those between pages are checked when the site is built; these are outside of it."""
    anchors = {"README.md": {slug(t) for t in re.findall(r"^#+ (.+)$", readme(), re.M)}}
    for page in (ROOT / "docs").rglob("*.md"):
        for anchor in re.findall(rf"{HOMEPAGE}#([\w-]+)", page.read_text(encoding="utf-8")):
            assert anchor in anchors["README.md"], f"{page}: {anchor}"
        for path in re.findall(rf"{HOMEPAGE}/blob/main/([^)#\s]+)", page.read_text("utf-8")):
            assert (ROOT / path).exists(), f"{page}: {path}"
    for text in (readme(), (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        for path in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (ROOT / path).exists(), path


def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_addresses_and_version_stand_in_one_place(capsys):
    """The others agree with it."""
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert f"site_url: {DOCUMENTATION}/\n" in site and f"repo_url: {HOMEPAGE}\n" in site
    assert f'EXTENSION_HOMEPAGE "{HOMEPAGE}"' in (ROOT / "CMakeLists.txt").read_text("utf-8")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == __version__
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text("utf-8")
    with pytest.raises(SystemExit) as end:
        cli.parser().parse_args(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"sparsesegnet {__version__}\n"
