"""Where large data of this computer lie."""

import sys
from pathlib import Path

import platformdirs
import pytest

from SparseSegNetLib.runfolder import local_data
from SparseSegNetLib.runfolder.local_data import local_data_folder


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """As outside of the tests, which never write there."""
    monkeypatch.delenv("SPARSESEGNET_DATA")


@pytest.mark.parametrize("named", [None, "", "relative/folder", "/data/Jürgen Müller"])
def test_the_same_folder_as_platformdirs(monkeypatch, named):
    if named is None:
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_DATA_HOME", named)
    expected = platformdirs.user_data_dir("SparseSegNet", appauthor=False)
    assert local_data_folder() == Path(expected)


@pytest.mark.skipif(sys.platform == "win32", reason="paths of this system are looked at")
def test_other_systems(monkeypatch):
    from platformdirs.macos import MacOS

    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/Users/Zoë")
    monkeypatch.setattr(local_data.sys, "platform", "darwin")
    assert local_data_folder() == Path(MacOS("SparseSegNet", appauthor=False).user_data_dir)
    monkeypatch.setattr(local_data.sys, "platform", "win32")
    assert local_data_folder() == Path("/Users/Zoë/AppData/Local/SparseSegNet")
    monkeypatch.setenv("LOCALAPPDATA", "/C/Local")
    assert local_data_folder() == Path("/C/Local/SparseSegNet"), "not the roaming profile"


def test_another_folder_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSESEGNET_DATA", str(tmp_path))
    assert local_data_folder() == tmp_path
