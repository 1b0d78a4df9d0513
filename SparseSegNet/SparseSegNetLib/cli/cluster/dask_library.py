"""The package distributed of Dask, which is an optional extra."""

from __future__ import annotations

from types import ModuleType

from ...files.optional_package import optional_package

INSTALL = 'pip install "sparsesegnet[dask]"'
LEAST = 2024  # the year of the first version that was tried


def distributed_library() -> ModuleType:
    """The package distributed.

    Raises:
        InputError: It is not installed, or too old.
    """
    return optional_package("distributed", LEAST, "--dask", INSTALL)
