"""Commands of the documentation: each one is understood, those in ``bash`` blocks run.

They run in one folder per page, on the shipped sample on a coarser grid, and for 2 steps
instead of the time that the page names; nothing else is replaced.
"""

import re
import shlex
from pathlib import Path

import pytest
import SimpleITK as sitk
from documentation import PAGES, ROOT, blocks

from generate_sample import SEGMENTS, SLICES
from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.writing import write_labels

SAMPLE = ROOT / "SparseSegNet" / "Resources" / "Sample"


def commands(text: str) -> list[list[str]]:
    """The arguments of each `sparsesegnet` in a block."""
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["sparsesegnet"]]


DOCUMENTED = [
    (page.name, words)
    for page in PAGES
    for block in blocks(page)
    if block.language in ("", "bash")
    for words in commands(block.text)
]
RUN = [page for page in PAGES if any(b.language == "bash" and not b.reason for b in blocks(page))]


@pytest.mark.parametrize(
    ("page", "words"), DOCUMENTED, ids=[f"{page}-{' '.join(words)}" for page, words in DOCUMENTED]
)
def test_is_understood(page, words):
    options = cli.parser().parse_args(words)
    assert callable(options.run)


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """The current folder holds the sample's files, on a coarser grid."""
    monkeypatch.chdir(tmp_path)
    for name in ("kidney-image.nrrd", "kidney-labels.nrrd"):
        sitk.WriteImage(sitk.ReadImage(str(SAMPLE / name))[::3, ::3, ::2], name, True)
    truth = sitk.GetArrayFromImage(sitk.ReadImage("kidney-labels.nrrd"))
    drawn = restrict_to_slices(truth, spread_slices(SLICES, truth.shape))
    drawn[drawn == UNLABELLED] = 0
    grid = read_volume([Path("kidney-image.nrrd")]).geometry
    write_labels("kidney-annotation.seg.nrrd", drawn, grid, SEGMENTS)
    return tmp_path


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_runs(page, sample, capsys):
    listed = re.search(r"^```\n(image,labels.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    if listed:
        Path("cases.csv").write_text(listed[1], encoding="utf-8")
    for block in blocks(page):
        if block.language != "bash" or block.reason:
            continue
        found = commands(block.text)
        assert len(found) == len(block.text.strip().splitlines()), "each line is a command of ours"
        for words in found:
            quick = re.sub(r"--time-budget \S+", "--steps 2", " ".join(words)).split()
            if words[0] == "densify" and "--steps" not in quick:
                quick += ["--steps", "2"]
            code = cli.main(quick)
            assert code == 0, f"{' '.join(words)}: {capsys.readouterr().err}"
            written = [words[n + 1] for n, word in enumerate(words) if word in ("-o", "--run")]
            assert all(Path(name).exists() for name in written)
