"""Lists of volumes in CSV files: a row per volume, with the names of its files.

    image,labels,slices,name
    a_t1.nii.gz;a_t2.nii.gz,a.seg.nrrd,k:10,20,first

Paths are relative to the list; several channels of one image are separated by ';'.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files.writing import stem_of

COLUMNS = ("image", "labels", "slices", "name")
SAVE_AGAIN = "save it as 'CSV UTF-8 (comma delimited)'"
IN_NAMES = set('<>:"/\\|?*') | {chr(n) for n in range(32)}  # not allowed in names of files
LIKE_TYPO = 0.7  # likeness of two names, 0 to 1, from which one is taken for the other misspelt


@dataclass(frozen=True)
class Row:
    """One volume of a list.

    Attributes:
        where: The list and the line, for messages.
        line: Number of the line, from 1.
        images: The files of its channels.
        labels: Its label file, None if the field is empty.
        slices: Text of the annotated slices, as for --slices.
        name: Its name; that of the first image's file where the list gives none.
    """

    where: str
    line: int
    images: list[Path]
    labels: Path | None
    slices: str
    name: str


def read_list(path: Path, needed: Sequence[str], known: Sequence[str] = COLUMNS) -> list[Row]:
    """Reads a list of volumes and checks that the files in it exist.

    Args:
        path: The list.
        needed: Columns that must be there; their fields may be empty, but for `image`.
        known: Columns that count; others are ignored unless they look like one of these misspelt.

    Raises:
        InputError: The list cannot be read, files are missing, or two volumes have a file or a
            name in common; the message names the list and the lines.
    """
    header, fields = _table(path)
    _check_header(path, header, needed, known)
    rows = [_row(path, line, dict(zip(header, values, strict=True))) for line, values in fields]
    if not rows:
        raise InputError(f"the list of cases {path} names no volume.")
    _check_files(path, rows)
    _check_twice(path, rows)
    return rows


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header, and line number and fields of every row, each as long as the header."""
    text = _text(path)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, [f.strip() for f in fields]) for fields in reader]
    except csv.Error as error:
        raise InputError(f"the list of cases {path} cannot be read: {error}.") from error
    lines = [(line, fields) for line, fields in lines if any(fields)]
    if not lines:
        return [], []
    header = [name.casefold() for name in lines[0][1]]
    for mark, name in ((";", "';'"), ("\t", "tabs")):
        if len(header) == 1 and {"image", "labels"} & {
            part.strip(' "') for part in header[0].split(mark)[:-1]
        }:
            raise InputError(
                f"the columns of {path} are separated by {name}, as Excel writes them in some "
                f"languages: they are separated by ',' here. S{SAVE_AGAIN[1:]}, or "
                "replace them."
            )
    rows = []
    for line, fields in lines[1:]:
        if len(fields) > len(header) and any(fields[len(header) :]):
            raise InputError(
                f"{path}, line {line}: it has {len(fields)} fields and the first line "
                f'{len(header)}: put a field that holds a comma into quotes, such as "k:10,20".'
            )
        rows.append((line, (fields + [""] * len(header))[: len(header)]))
    return header, rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the list of cases {path} cannot be read: {error.strerror or error}."
        ) from error
    if data.startswith(b"PK\x03\x04"):
        raise InputError(f"{path} is a workbook, not a list in CSV: {SAVE_AGAIN}.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:1000]:
        raise InputError(f"the list of cases {path} is in UTF-16, as 'Unicode text': {SAVE_AGAIN}.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"the list of cases {path} cannot be read: line {line} is not in UTF-8; {SAVE_AGAIN}."
        ) from error


def _check_header(
    path: Path, header: list[str], needed: Sequence[str], known: Sequence[str]
) -> None:
    for name in header:
        if header.count(name) > 1 and name:
            raise InputError(f"the list of cases {path} has two columns '{name}': rename one.")
        near = difflib.get_close_matches(name, known, 1, LIKE_TYPO)
        if name not in known and near and near[0][0] == name[0]:
            raise InputError(
                f"the list of cases {path} has a column '{name}', which is not known: is "
                f"'{near[0]}' meant? Columns are {', '.join(known)}; several channels of one image "
                "are separated by ';'."
            )
    if missing := set(needed) - set(header):
        others = [name for name in known if name not in needed]
        raise InputError(
            f"the list of cases {path} lacks the column '{min(missing)}': its first line names "
            f"the columns, {','.join(needed)} and, if you like, {', '.join(others)}."
        )


def _row(path: Path, line: int, fields: dict[str, str]) -> Row:
    where = f"{path}, line {line}"
    images = [path.parent / part.strip() for part in fields["image"].split(";") if part.strip()]
    if not images:
        raise InputError(f"{where}: it names no image.")
    labels = path.parent / fields["labels"] if fields.get("labels") else None
    name = fields.get("name") or stem_of(images[0])
    if not is_file_name(name):
        raise InputError(f"{where}: '{name}' cannot be the name of a file: choose another name.")
    return Row(where, line, images, labels, fields.get("slices", ""), name)


def is_file_name(name: str) -> bool:
    """True if a file can have this name on every system, and lies in the folder it is put in."""
    return bool(name.strip(". ")) and not IN_NAMES & set(name)


def _check_files(path: Path, rows: Sequence[Row]) -> None:
    missing = [
        (row.line, what, file)
        for row in rows
        for what, files in (("image", row.images), ("labels", [row.labels] if row.labels else []))
        for file in files
        if not os.path.exists(file)  # unlike Path.exists, it accepts impossible names
    ]
    if missing:
        line, what, file = missing[0]
        others = [str(number) for number in sorted({number for number, *_ in missing[1:]} - {line})]
        also = f" Files are missing in line {', '.join(others)} too." if others else ""
        raise InputError(
            f"{path}, line {line}: the {what} {file} do{'es' * (what == 'image')} not exist (paths "
            f"are relative to the list).{also}"
        )


def _check_twice(path: Path, rows: Sequence[Row]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        files = [("file", os.path.realpath(file)) for file in (*row.images, row.labels) if file]
        for key in (*files, ("name", row.name.casefold())):
            line = seen.setdefault(key, row.line)
            what, value = key
            if line != row.line or files.count(key) > 1:
                raise InputError(
                    f"{path}, "
                    + (f"lines {line} and {row.line}" if line != row.line else f"line {line}")
                    + (
                        f": the file {value} stands there twice."
                        if what == "file"
                        else f": both volumes have the name '{row.name}': give each its own in the "
                        "column name."
                    )
                )
