"""Fenced blocks of the documentation's pages, for the tests that run them.

A block that cannot run here has ``<!-- not run: REASON -->`` on the line before its fence.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` says why it is not run, '' where it is."""

    page: Path
    language: str
    text: str
    reason: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    return [
        Block(page, found["language"], found["text"], found["reason"] or "")
        for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]
