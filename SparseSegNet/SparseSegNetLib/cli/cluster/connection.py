"""Connections to a Dask cluster: somebody's by its address, or one of this computer's own."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...errors import EngineError, InputError
from .dask_library import INSTALL, distributed_library

PATIENCE = 10.0  # seconds that a scheduler may take to answer
CORES = 4  # of each worker of a cluster on this computer, if their number is not given
SETUP = "SparseSegNetLib.cli.cluster.local_worker"
KEPT = "What is written stays; the same command with --resume goes on with the rest."


@dataclass(frozen=True)
class Cluster:
    """A scheduler that answers, and its workers.

    Attributes:
        client: A ``distributed.Client``.
        name: The address, as messages show it.
    """

    client: Any
    name: str

    def workers(self) -> set[str]:
        """Addresses of the workers that there are now.

        Raises:
            EngineError: 'workers-lost', when the scheduler does not answer.
        """
        gone: str | Exception = "the connection was closed"
        if self.client.status == "running":
            try:
                return set(self.client.nthreads())
            except (OSError, TimeoutError, RuntimeError) as error:
                gone = error
        raise EngineError(
            "workers-lost",
            f"the Dask scheduler at {self.name} is gone ({gone}).",
            f"Start it again. {KEPT}",
        )


@contextmanager
def connected(where: str) -> Iterator[Cluster]:
    """Context manager that connects to a cluster.

    A scheduler that was there before stays; a cluster of this computer's own ends with it.

    Args:
        where: The address of a scheduler, such as ``tcp://10.0.0.5:8786``; ``local`` for workers on
            this computer, ``local:N`` for N of them.

    Raises:
        InputError: It is no address, nothing answers there, or Dask is not installed.
    """
    distributed = distributed_library()
    # Its tracebacks of lost connections: what they come to is told in a line.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    own = re.fullmatch(r"local(?::([0-9]+))?", where)
    if own is None:
        with _client(distributed, where, where, None) as client:
            yield Cluster(client, where)
        return
    count = None if own[1] is None else int(own[1])
    if count == 0:
        raise InputError("--dask local:0: at least one worker is needed.")
    with (
        _local(distributed, count) as cluster,
        _client(distributed, cluster.scheduler_address, where, cluster.security) as client,
    ):
        yield Cluster(client, where)


@contextmanager
def _client(distributed: Any, address: str, name: str, security: Any) -> Iterator[Any]:
    """Context manager for a client; `security` None means that of Dask's settings."""
    try:
        client = distributed.Client(
            address, timeout=PATIENCE, set_as_default=False, security=security
        )
    except (OSError, TimeoutError, ValueError, RuntimeError, TypeError) as error:
        raise InputError(
            f"--dask {name}: cannot connect ({_line(error)}). Is the scheduler running there, and "
            "can this computer reach it? The address is what 'dask scheduler' prints, such as "
            "tcp://10.0.0.5:8786; 'local' starts workers on this computer."
        ) from error
    try:
        yield client
    finally:
        client.close(timeout=PATIENCE)


@contextmanager
def _local(distributed: Any, count: int | None) -> Iterator[Any]:
    from dask.system import CPU_COUNT

    try:
        # Others who use this computer could have its workers execute code, too.
        security = distributed.Security.temporary()
    except ImportError as error:
        raise InputError(
            f"--dask local needs the package cryptography, which is not installed here: {INSTALL}"
        ) from error
    count = count or max(1, CPU_COUNT // CORES)
    cluster = distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=max(1, CPU_COUNT // count),
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        # Tiles are made to fit memory; Dask would count what the engine's processes do not use.
        memory_limit=0,
        silence_logs=logging.ERROR,
        preload=[SETUP],
        security=security,
    )
    try:
        yield cluster
    finally:
        cluster.close()


def _line(error: Exception) -> str:
    """An error in one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
