"""Validation of JSON: types, ranges and missing fields, with messages for users.

A form is a function that checks a value and raises ValidationError, which names the place, what
was expected there and what was found. `of_type` makes the form of a dataclass from its annotations.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InputError
from .file_retries import opened

LARGEST = 2**63 - 1  # of whole numbers: what arrays and files can count
BIGGEST = 1e300  # of numbers, so that sums and products stay finite
LONGEST_FILE = 64 << 20  # bytes
DEEPEST = 40  # levels of nesting


class ValidationError(ValueError):
    """A value has not the expected form.

    Args:
        where: Path to the value, such as ``inputs[0].channels``; empty for the whole.
        expected: Description of the expected form.
        found: The value, or MISSING.
    """

    def __init__(self, where: str, expected: str, found: object):
        shown = "missing" if found is MISSING else f"'{_short(found)}'"
        super().__init__(f"{where or 'the whole'} is {shown}: expected {expected}")


MISSING = object()
Form = Callable[[Any, str], None]


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole(low: int = -LARGEST, high: int = LARGEST) -> Form:
    """Form of a whole number from `low` to `high`."""

    def form(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            limits = {
                (True, True): "",
                (True, False): f" of at most {high}",
                (False, True): f" of at least {low}",
                (False, False): f" from {low} to {high}",
            }[low == -LARGEST, high == LARGEST]
            raise ValidationError(where, f"a whole number{limits}", value)

    return form


def number(low: float = -BIGGEST, high: float = BIGGEST) -> Form:
    """Form of a finite number from `low` to `high`."""

    def form(value: Any, where: str) -> None:
        if (
            not isinstance(value, (int, float))
            or isinstance(value, bool)
            or not low <= value <= high
        ):
            raise ValidationError(
                where,
                "a number"
                + ("" if (low, high) == (-BIGGEST, BIGGEST) else f" from {low:g} to {high:g}"),
                value,
            )

    return form


def text() -> Form:
    """Form of a text that can be written to a file and used in a path."""

    def form(value: Any, where: str) -> None:
        if not isinstance(value, str):
            raise ValidationError(where, "a text", value)
        if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise ValidationError(where, "a text of valid Unicode", value)

    return form


def flag() -> Form:
    """Form of true or false."""

    def form(value: Any, where: str) -> None:
        if not isinstance(value, bool):
            raise ValidationError(where, "true or false", value)

    return form


def optional(inner: Form) -> Form:
    """Form of null or a value of form `inner`."""

    def form(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return form


def choice(*known: str) -> Form:
    """Form of one of these texts."""

    def form(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in known:
            raise ValidationError(where, f"one of {', '.join(known)}", value)

    return form


def rows(inner: Form, least: int = 0, most: int = LARGEST) -> Form:
    """Form of a list of `least` to `most` values of form `inner`."""

    def form(value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            count = (
                f"{least}"
                if least == most
                else (f"at least {least}" if most == LARGEST else f"{least} to {most}")
            )
            raise ValidationError(
                where, "a list" if (least, most) == (0, LARGEST) else f"a list of {count}", value
            )
        for n, item in enumerate(value):
            inner(item, f"{where}[{n}]")

    return form


def record(needed: dict[str, Form], further: dict[str, Form] | None = None) -> Form:
    """Form of an object with named fields.

    Fields of other names may hold any JSON that can be written again.

    Args:
        needed: The required fields and their forms.
        further: The optional fields and their forms.
    """

    def form(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValidationError(where, "an object with named fields", value)
        for name, inner in {**needed, **(further or {})}.items():
            place = f"{where}.{name}" if where else name
            if name in value:
                inner(value[name], place)
            elif name in needed:
                raise ValidationError(place, "a value", MISSING)
        for name in value.keys() - needed.keys() - (further or {}).keys():
            text()(name, f"{where or 'the whole'}: a field's name")
            anything()(value[name], f"{where}.{name}" if where else name)

    return form


def anything(depth: int = 0) -> Form:
    """Form of any JSON that can be written again: finite numbers, valid Unicode, not too deep."""

    def form(value: Any, where: str) -> None:
        if depth > DEEPEST:
            raise ValidationError(where, f"at most {DEEPEST} levels of nesting", "...")
        if isinstance(value, str):
            text()(value, where)
        elif isinstance(value, float):
            number()(value, where)
        elif isinstance(value, (list, tuple)):
            rows(anything(depth + 1))(value, where)
        elif isinstance(value, dict):
            mapping(anything(depth + 1))(value, where)

    return form


def mapping(inner: Form) -> Form:
    """Form of an object whose fields have any name and values of form `inner`."""

    def form(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValidationError(where, "an object with named fields", value)
        for name, item in value.items():
            text()(name, f"{where or 'the whole'}: a field's name")
            inner(item, f"{where}.{name}" if where else name)

    return form


PLAIN: dict[type, Callable[[], Form]] = {int: whole, float: number, str: text, bool: flag}


@cache
def of_type(kind: Any) -> Form:
    """Form of the JSON that a value of type `kind` is made from.

    Args:
        kind: int, float, str, bool, a tuple, a dictionary, one of these or None, or a dataclass,
            whose fields without default are required.

    Raises:
        TypeError: There is no form for this type.
    """
    if kind in PLAIN:
        return PLAIN[kind]()
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        needed: dict[str, Form] = {}
        further: dict[str, Form] = {}
        for item in dataclasses.fields(kind):
            bare = (
                item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
            )
            (needed if bare else further)[item.name] = of_type(hints[item.name])
        return record(needed, further)
    outer, inner = typing.get_origin(kind), typing.get_args(kind)
    if outer in (types.UnionType, typing.Union):
        (real,) = (part for part in inner if part is not types.NoneType)
        return optional(of_type(real))
    if outer is dict:
        return mapping(of_type(inner[1]))
    if outer is tuple and inner[1:] == (Ellipsis,):
        return rows(of_type(inner[0]))
    if outer is tuple and len(set(inner)) == 1:
        return rows(of_type(inner[0]), len(inner), len(inner))
    raise TypeError(f"no form for {kind}")


def parse_json(data: bytes | str) -> Any:
    """Parses UTF-8 JSON.

    Raises:
        ValueError: It is no JSON, holds NaN or infinities, or is nested too deeply.
    """
    try:
        return json.loads(
            data if isinstance(data, str) else data.decode("utf-8"), parse_constant=_refuse
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse(name: str) -> typing.NoReturn:
    raise ValueError(f"{name} is no JSON")


def read_json(path: Path, form: Form, remedy: str) -> Any:
    """Reads a JSON file whose content must have the given form.

    Raises:
        InputError: It has not, or cannot be read; the message names the file, what was expected
            and `remedy`.
    """
    try:
        with opened(path, "rb") as file:
            data = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}). {remedy}") from error
    if len(data) > LONGEST_FILE:
        raise InputError(
            f"{path} is longer than {LONGEST_FILE >> 20} MB, which no such file is. {remedy}"
        )
    try:
        value = parse_json(data)
        form(value, "")
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {error}. {remedy}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: it is no JSON ({error}). {remedy}") from error
    return value
