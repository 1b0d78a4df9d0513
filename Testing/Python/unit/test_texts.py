"""Texts for people: shares, numbers with nouns, and the help of each command."""

import pytest

from SparseSegNetLib.cli.main import COMMANDS, parser
from SparseSegNetLib.units import counted, percent


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.996, "100 %"), (0.1214, "12 %"), (0.0911, "9.1 %"), (0.00091, "0.091 %")],
)
def test_percent(share, text):
    assert percent(share) == text


def test_counted():
    assert [counted(n, "slice") for n in (0, 1, 2)] == ["0 slices", "1 slice", "2 slices"]


@pytest.mark.parametrize("command", [c.__name__.rpartition(".")[2] for c in COMMANDS])
def test_help_shows_no_escapes(command, capsys):
    """argparse takes %% for % in the help of an option, but not in a description."""
    with pytest.raises(SystemExit):
        parser().parse_args([command, "--help"])
    told = capsys.readouterr().out
    assert command in told and "%%" not in told
