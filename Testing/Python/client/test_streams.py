"""What a shell hands over: streams closed, full or not read, no current folder; real processes."""

import os
import subprocess
import sys

import pytest
import SimpleITK as sitk
from small_runs import run_folder

from SparseSegNetLib.files.completeness import check_complete

# The command line in a process of its own, which starts the quick engine.
COMMAND = (
    "from SparseSegNetLib.client import engine_run; engine_run.WORKER = 'quick_engine'\n"
    "from SparseSegNetLib.cli.main import entry; entry()"
)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="redirections of a POSIX shell")


def in_a_shell(line, *arguments, **environment):
    """Runs a line of a shell in which "$@" is the command line with these arguments."""
    return subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, "-c", COMMAND, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.fixture
def files(tmp_path):
    """An image and its annotation as files."""
    folder, _ = run_folder(tmp_path / "made")
    item = folder.read_input()
    for name, array in (("image", item.image[0]), ("labels", item.labels)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nrrd"))
    return [tmp_path / "image.nrrd", tmp_path / "labels.nrrd"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_enough_is_no_error(tmp_path, unbuffered):
    folder, _ = run_folder(tmp_path / "run")
    # The reader has ended before anything is printed.
    line = '("$@"; echo "code $?" >&2) | true'
    done = in_a_shell(line, "suggest", folder.path, PYTHONUNBUFFERED=unbuffered)
    assert done.stderr == "code 0\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_an_error(tmp_path, unbuffered):
    folder, _ = run_folder(tmp_path / "run")
    line = '"$@" > /dev/full'
    done = in_a_shell(line, "suggest", folder.path, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1 and "No space left on device" in done.stderr


def test_a_closed_output_is_no_error(tmp_path):
    folder, _ = run_folder(tmp_path / "run")
    done = in_a_shell('"$@" <&- >&-', "suggest", folder.path)
    assert (done.returncode, done.stderr) == (0, "")


def test_characters_that_the_terminal_lacks_are_written_as_escapes():
    latin = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    done = in_a_shell('"$@"', "densify", "--help", **latin)
    assert done.returncode == 0 and ".mha \\u2026" in done.stdout, done.stderr


@pytest.mark.parametrize("line", ['"$@" 2>&-', '("$@"; echo "code $?") 2>&1 >/dev/null | true'])
def test_nobody_reads_the_messages_and_the_result_is_written_all_the_same(tmp_path, files, line):
    output = tmp_path / "dense.nrrd"
    done = in_a_shell(line, "densify", *files, "-o", output, "--steps", "1", "--device", "cpu")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    check_complete(output, "the result")


def test_a_current_folder_that_is_gone_is_named(tmp_path):
    (tmp_path / "gone").mkdir()
    line = f'cd "{tmp_path}/gone" && rmdir "{tmp_path}/gone" && "$@"'
    done = in_a_shell(line, "model", tmp_path / "model.safetensors")
    assert done.returncode == 2 and "current folder has been deleted" in done.stderr
