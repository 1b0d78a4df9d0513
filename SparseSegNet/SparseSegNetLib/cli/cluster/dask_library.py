"""The package distributed of Dask, which is an optional extra."""

from __future__ import annotations

import re
from types import ModuleType

from ...errors import InputError

INSTALL = 'pip install "sparsesegnet[dask]"'
LEAST = 2024  # the year of the first version that was tried


def distributed_library() -> ModuleType:
    """The package distributed.

    Raises:
        InputError: It is not installed, or too old.
    """
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            f"--dask needs the package distributed, which is not installed here: {INSTALL}"
        ) from error
    year = re.match(r"[0-9]+", distributed.__version__)
    if year is None or int(year[0]) < LEAST:
        raise InputError(
            f"--dask needs the package distributed of {LEAST} or later, and "
            f"{distributed.__version__} is installed here: {INSTALL}"
        )
    return distributed
