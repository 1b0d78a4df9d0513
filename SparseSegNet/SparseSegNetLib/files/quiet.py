"""Keeps the messages of image libraries from the user's terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Context in which nothing reaches standard error.

    MetaIO, libtiff and others print there what the exception says as well, or less.
    """
    try:
        kept = os.dup(STDERR)
    except OSError:  # there is none, as under Windows' pythonw
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, STDERR)
        finally:
            os.close(nowhere)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
