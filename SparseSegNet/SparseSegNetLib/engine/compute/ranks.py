"""Several processes (ranks) that train one network together, and sums over all of them.

torchrun starts them, on one computer or on several, and tells each its place by environment
variables. Rank 0 does all that a single process does; the others compute gradients of patches of
their own (training/together.py). Messages go over gloo, gradients of a graphics card over NCCL.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ...errors import EngineError, InputError
from .problems import out_of_memory

JOINING = timedelta(minutes=10)  # until all ranks have come
WAITING = timedelta(days=30)  # a pause may last; who is lost is noticed otherwise
BEAT = 1.0  # seconds between signs of life
LOST_AFTER = 60  # signs of life that were due
NOTICED_WITHIN = 3.0  # seconds that ranks have to say that they live
SETTLING = 0.2  # seconds until gloo's threads have freed what was sent
REMEDY = "Resume the run, with any number of ranks: it goes on from its last checkpoint."


class Ranks:
    """The processes of a training.

    Args:
        rank: Of this process, from 0.
        count: Of all.
        local: Number of this process on its computer, which is that of its graphics card.

    Attributes:
        broken: Whether a rank was lost, so that no message arrives any more.
    """

    def __init__(self, rank: int, count: int, local: int = 0):
        self.rank, self.count, self.local = rank, count, local
        self.broken = False
        self._store: dist.Store | None = None
        self._groups: dict[str, dist.ProcessGroup | None] = {}
        self._noticed = threading.Event()

    @classmethod
    def of_environment(cls) -> Ranks | None:
        """The ranks that torchrun tells of; None for a process that trains alone.

        Raises:
            InputError: What it tells is no place among them.
        """
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return None
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        try:
            rank, count, local = (int(os.environ.get(name, "0")) for name in names)
        except ValueError:
            rank, count, local = -1, 0, 0
        if not 0 <= rank < count:
            raise InputError(
                "RANK, WORLD_SIZE and LOCAL_RANK in the environment are no places of processes: "
                "start the engine with torchrun, or unset them."
            )
        return cls(rank, count, local)

    def join(self) -> None:
        """Waits until all ranks have come.

        Raises:
            EngineError: 'rank-lost', when one does not come in time.
        """
        try:
            self._store, _, _ = next(iter(dist.rendezvous("env://", timeout=JOINING)))
            dist.init_process_group(
                "gloo",
                store=dist.PrefixStore("sums", self._store),
                rank=self.rank,
                world_size=self.count,
                timeout=WAITING,
            )
        except (RuntimeError, ValueError) as error:
            raise EngineError(
                "rank-lost", f"rank {self.rank} did not find the other ranks ({error}).", REMEDY
            ) from error

    def leave(self) -> None:
        """Closes the connections."""
        self._noticed.set()
        # torch waits for gloo's threads while it holds Python's lock, for which one of them waits
        # if it still has to free the tensors of the last message: it gets the lock meanwhile.
        time.sleep(SETTLING)
        with suppress(RuntimeError, ValueError):
            dist.destroy_process_group()

    def device(self, kind: str) -> torch.device:
        """This rank's device of a kind such as 'cuda'."""
        return torch.device(kind, self.local) if kind == "cuda" else torch.device(kind)

    def group(self, device: torch.device) -> dist.ProcessGroup | None:
        """The process group for tensors on a device; all ranks ask for it at the same time."""
        if device.type != "cuda" or not dist.is_nccl_available():
            return None  # the default one, which is gloo
        if device.type not in self._groups:
            torch.cuda.set_device(self.device("cuda"))
            self._groups[device.type] = dist.new_group(backend="nccl")
        return self._groups[device.type]

    def message(self, message: Any = None) -> Any:
        """Sends a message of rank 0 to all others; returns it on each of them.

        Raises:
            EngineError: 'rank-lost'.
        """
        held = [message]
        try:
            dist.broadcast_object_list(held, src=0)
        except RuntimeError as error:
            raise self.lost(error) from error
        return held[0]

    def bytes_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sends a tensor of rank 0 to all others.

        Args:
            tensor: On the CPU; on other ranks one of its shape and type, which is filled.
        """
        dist.broadcast(tensor.contiguous().view(-1).view(torch.uint8), src=0)
        return tensor

    @contextmanager
    def summing(self, device: torch.device) -> Iterator[None]:
        """Has `total` and `gathered` go over all ranks meanwhile."""
        global _summing
        _summing = self.group(device), self.count
        try:
            yield
        finally:
            _summing = None

    def ask_to_end(self) -> None:
        """Tells rank 0 that the system wants this process to end."""
        if self._store is not None:
            self._store.set(f"asked/{self.rank}", "1")

    def asked_to_end(self) -> bool:
        """True if another rank was asked to end."""
        return any(self._said("asked", rank) is not None for rank in self._others)

    def look(self, beats: dict[int, tuple[str | None, int]], number: int) -> int | None:
        """Gives a sign of life and looks at those of the others.

        Args:
            beats: What was seen before, by rank; it is changed.
            number: Differs each time.

        Returns:
            A rank that gave none for `LOST_AFTER` looks; None if there is none.
        """
        assert self._store is not None
        self._store.set(f"beat/{self.rank}", str(number))
        for rank in self._others:
            now, (before, since) = self._said("beat", rank), beats.get(rank, (None, 0))
            beats[rank] = now, since + 1 if now == before else 0
            if beats[rank][1] >= LOST_AFTER:
                return rank
        return None

    def watch(self, lost: Callable[[EngineError], None], asked: Callable[[], object]) -> None:
        """Watches the other ranks from now on, in a thread.

        Whoever waits inside of NCCL notices nothing by itself.

        Args:
            lost: Called once with the error when one gives no sign of life.
            asked: Called once when another rank was asked to end.
        """
        threading.Thread(target=self._watch, args=(lost, asked), daemon=True).start()

    def _watch(self, lost: Callable[[EngineError], None], asked: Callable[[], object]) -> None:
        beats: dict[int, tuple[str | None, int]] = {}
        number, told = 0, False
        while not self._noticed.wait(BEAT):
            number += 1
            try:
                gone = self.look(beats, number)
                if not told and self.asked_to_end():
                    told = True
                    asked()
            except (RuntimeError, ValueError) as error:
                # Rank 0 or torchrun, which keeps the notes, has gone: whoever waits for others
                # notices it, unless the network is gone too.
                if not self._noticed.wait(LOST_AFTER * BEAT):
                    lost(
                        EngineError("rank-lost", f"the ranks are not connected ({error}).", REMEDY)
                    )
                return
            if gone is not None and not self._noticed.is_set():
                lost(EngineError("rank-lost", f"rank {gone} gives no sign of life.", REMEDY))
                return

    def lost(self, error: BaseException) -> EngineError:
        """The error that explains an exception in what ranks do together, naming the rank.

        A rank that lives says that it does, or what went wrong in it; the one that does not is the
        one that was lost.
        """
        self.broken = True
        self._noticed.set()
        own = "" if _of_connection(error) else _in_words(error)
        with suppress(RuntimeError, ValueError):
            assert self._store is not None
            self._store.set(f"noticed/{self.rank}", own)
        if own:
            return EngineError("rank-lost", f"rank {self.rank} failed: {own}.", REMEDY)
        said = self._heard_of_others()
        failed = [f"rank {rank} failed: {why}" for rank, why in said.items() if why]
        silent = [f"rank {rank} was lost" for rank, why in said.items() if why is None]
        return EngineError(
            "rank-lost",
            f"{'; '.join(failed or silent) or 'the connection of the ranks was lost'}.",
            REMEDY,
        )

    @property
    def _others(self) -> list[int]:
        return [rank for rank in range(self.count) if rank != self.rank]

    def _heard_of_others(self) -> dict[int, str | None]:
        """The note of each rank after one was lost; None of a rank that leaves none in time."""
        assert self._store is not None
        keys = [f"noticed/{rank}" for rank in self._others]
        with suppress(RuntimeError):  # not all came in time
            self._store.wait(keys, timedelta(seconds=NOTICED_WITHIN))
        try:
            return {rank: self._said("noticed", rank) for rank in self._others}
        except RuntimeError:  # who keeps the notes is gone, and that is where rank 0 is
            return {rank: None if 0 in (rank, self.rank) else "" for rank in self._others}

    def _said(self, what: str, rank: int) -> str | None:
        assert self._store is not None
        key = f"{what}/{rank}"
        return self._store.get(key).decode() if self._store.check([key]) else None


def _of_connection(error: BaseException) -> bool:
    """True if an exception is about the connection to another rank."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text


def _in_words(error: BaseException) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    if out_of_memory(error):
        # With one process less is tried, and what fits is kept in the checkpoint.
        return f"its memory ran out ({first}); resumed as one process, the run takes what fits"
    return first.rstrip(".")


_summing: tuple[dist.ProcessGroup | None, int] | None = None


class _Sum(torch.autograd.Function):
    """The sum of each rank's tensor; so is its gradient."""

    @staticmethod
    def forward(ctx, tensor: torch.Tensor, group) -> torch.Tensor:
        ctx.group = group
        tensor = tensor.clone()
        dist.all_reduce(tensor, group=group)
        return tensor

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = gradient.clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


def total(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over the ranks that train together now; itself where one trains alone.

    Its gradient is that of the sum of all ranks' losses.
    """
    return tensor if _summing is None else _Sum.apply(tensor, _summing[0])


def summing() -> bool:
    """True while several ranks take a step together."""
    return _summing is not None


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """Each rank's tensor (ranks, ...), without a gradient, while they take a step together."""
    assert _summing is not None
    group, count = _summing
    parts = [torch.empty_like(tensor) for _ in range(count)]
    dist.all_gather(parts, tensor.detach().contiguous(), group=group)
    return torch.stack(parts)
