"""Tasks handed to the workers of a cluster, one at a time to each.

Dask would hand a worker as many tasks as it has threads, and torch uses all of these for one. The
order is ours, so that a task that failed is given to another worker, and that a worker gets nothing
before it was checked.
"""

from __future__ import annotations

import pickle
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import EngineError, InputError
from . import tasks
from .connection import KEPT, Cluster
from .connection import PATIENCE as ANSWER
from .worker_check import Check, lacking, refusal

POLL = 0.5  # seconds between two looks at which workers there are
PATIENCE = 60.0  # seconds without any worker: a nanny starts another one within a few
ATTEMPTS = 2  # of a task that fails
LOSSES = 3  # of workers that end while they have a task
OF_THE_WORKER = ("no-device", "no-python", "torch", "library-missing")  # codes of errors
OF_ALL = ("disk-full",)  # codes of errors that each tile would meet


@dataclass
class Task:
    """Something for a worker to do.

    Attributes:
        name: For messages.
        function: Its name in `tasks`.
        arguments: Of the function.
        failed: Workers on which it failed.
        losses: How many workers ended while they had it.
    """

    name: str
    function: str
    arguments: tuple[Any, ...]
    failed: set[str] = field(default_factory=set)
    attempts: int = 0
    losses: int = 0


@dataclass(frozen=True)
class Ended:
    """A task that is done, or has failed for good.

    Attributes:
        task: The task.
        answer: What the function gave; None if it failed.
        cause: Of the failure.
        seconds: That the last attempt took.
    """

    task: Task
    answer: dict[str, Any] | None
    cause: str
    seconds: float


@dataclass(frozen=True)
class _Sent:
    """A task that a worker has; None for the check of the worker."""

    worker: str
    future: Any
    task: Task | None
    begun: float


class TaskQueue:
    """Gives tasks to the workers of a cluster that pass a check.

    Args:
        cluster: The cluster.
        check: What each worker is asked for first.
        tell: Prints a line for the user.

    Attributes:
        workers: What each worker that passed its check has said of itself, by its address.
    """

    def __init__(self, cluster: Cluster, check: Check, tell: Callable[[str], None]):
        self.workers: dict[str, dict[str, Any]] = {}
        self._cluster, self._check, self._tell = cluster, check, tell
        self._lacking: dict[str, list[str]] = {}
        self._waiting: deque[Task] = deque()
        self._sent: dict[str, _Sent] = {}
        self._over: deque[Ended] = deque()
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._looked = float("-inf")
        self._alive, self._told = time.monotonic(), False
        self._fatal: EngineError | None = None

    def check_workers(self) -> None:
        """Checks the workers that there are now.

        One that is busy with somebody else's task is not waited for longer than a minute; it is
        checked when it is free.

        Raises:
            InputError: One lacks something.
            EngineError: 'workers-lost', when there are none, or the scheduler has gone.
        """
        try:
            until = time.monotonic() + PATIENCE
            while not (self.workers or self._lacking) or (self._sent and time.monotonic() < until):
                self._look()
                self._listen()
        except BaseException:
            self.cancel()
            raise
        if self._lacking:
            raise refusal(self._cluster.name, self._lacking)

    def ended(self, given: Sequence[Task]) -> Iterator[Ended]:
        """Hands out tasks; gives each when it is done, or has failed for good.

        When the iterator is closed, tasks that are not done are cancelled.

        Args:
            given: The tasks.

        Raises:
            EngineError: 'workers-lost', when there are no workers any more; or one that each task
                would meet.
        """
        self._waiting.extend(given)
        try:
            while self._over or self._waiting or any(one.task for one in self._sent.values()):
                while self._over:
                    yield self._over.popleft()
                if self._fatal is not None:
                    raise self._fatal
                self._look()
                self._hand_out()
                self._listen()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Cancels what was handed out; workers notice it within seconds."""
        futures = [one.future for one in self._sent.values()]
        self._sent.clear()
        if futures and self._cluster.client.status == "running":
            self._cluster.client.cancel(futures, force=True)

    def _look(self) -> None:
        """Notice workers that have gone, check those that have come."""
        if time.monotonic() - self._looked < POLL:
            return
        present = self._cluster.workers()
        self._looked = time.monotonic()
        for worker in [w for w in self.workers if w not in present]:
            del self.workers[worker]
        # Dask keeps their tasks for a worker of the same address, which may never come.
        for key in [k for k, one in self._sent.items() if one.worker not in present]:
            one = self._sent.pop(key)
            self._cluster.client.cancel([one.future], force=True)
            self._lost(one)
        checked = {one.worker for one in self._sent.values() if one.task is None}
        for worker in sorted(present - checked - set(self.workers) - set(self._lacking)):
            self._send(worker, None, self._check.payload())
        if self.workers or any(one.task is None for one in self._sent.values()):
            self._alive = self._looked
            self._told = False
        elif self._looked - self._alive >= PATIENCE:
            raise self._none_left(present)
        elif not self._told:
            self._told = True
            self._tell(f"note: there is no worker; one that comes within {PATIENCE:.0f} s is used.")

    def _none_left(self, present: set[str]) -> InputError | EngineError:
        if present:
            return refusal(self._cluster.name, {w: self._lacking[w] for w in present})
        return EngineError(
            "workers-lost",
            f"the Dask scheduler at {self._cluster.name} has no workers (any more).",
            f"Start some with 'dask worker', and look into their logs for why they ended. {KEPT}",
        )

    def _send(self, worker: str, task: Task | None, payload: bytes) -> None:
        key = f"sparsesegnet-{task.function if task else 'check'}-{uuid.uuid4().hex}"
        future = self._cluster.client.submit(
            tasks.answer,
            payload,
            key=key,
            workers=[worker],
            allow_other_workers=False,
            pure=False,
        )
        self._sent[key] = _Sent(worker, future, task, time.monotonic())
        future.add_done_callback(lambda done: self._news.put(done.key))

    def _hand_out(self) -> None:
        """Give each free worker a task, one that it has not failed on if others can do that one."""
        busy = {one.worker for one in self._sent.values()}
        for worker in [w for w in self.workers if w not in busy]:
            for task in self._waiting:
                if worker not in task.failed or not set(self.workers) - task.failed:
                    self._waiting.remove(task)
                    self._send(worker, task, pickle.dumps((task.function, task.arguments)))
                    break

    def _listen(self) -> None:
        """Take in what has ended; wait for it a moment."""
        try:
            key = self._news.get(timeout=POLL)
        except queue.Empty:
            return
        if (one := self._sent.pop(key, None)) is None:
            return
        if one.future.status in ("cancelled", "lost"):
            self._cluster.workers()  # raises if it is the scheduler that has gone
            self._lost(one)
        elif one.task is None:
            self._checked(one)
        else:
            self._answered(one, one.task)

    def _checked(self, one: _Sent) -> None:
        try:
            lacks, found = lacking(one.future)
        except (OSError, TimeoutError):  # it ended before it could be asked for
            self._lost(one)
            return
        if not lacks:
            self.workers[one.worker] = found
            return
        self._lacking[one.worker] = lacks
        if self.workers:
            self._tell(f"note: the worker {one.worker} gets no tasks: it {'; '.join(lacks)}.")

    def _answered(self, one: _Sent, task: Task) -> None:
        try:
            error = one.future.exception(timeout=ANSWER)
            answer = None if error else one.future.result(timeout=ANSWER)
        except (OSError, TimeoutError):  # its worker ended before it could be asked for
            self._lost(one)
            return
        if answer is None:
            cause, code = " ".join(f"{type(error).__name__}: {error}".split()), ""
        elif answer["ok"]:
            self._over.append(Ended(task, answer, "", time.monotonic() - one.begun))
            return
        else:
            cause, code = answer["cause"], answer["code"]
        if code in OF_ALL and task.function == "tile":  # an image's is its worker's own disk
            self._fatal = EngineError(code, cause, f"Free some space. {KEPT}")
        if code in OF_THE_WORKER:
            self.workers.pop(one.worker, None)
            self._lacking[one.worker] = [f"cannot compute: {cause}"]
            self._tell(f"note: the worker {one.worker} gets no more tasks: {cause}")
            self._waiting.append(task)
            return
        task.failed.add(one.worker)
        task.attempts += 1
        self._again(one, task, task.attempts < ATTEMPTS, f"on {one.worker}: {cause}")

    def _lost(self, one: _Sent) -> None:
        """The worker of a task has ended."""
        self.workers.pop(one.worker, None)
        if one.task is not None:
            one.task.losses += 1
            self._tell(f"note: the worker {one.worker} ended while it had {one.task.name}.")
            again = one.task.losses < LOSSES
            cause = f"its worker {one.worker} ended, as {LOSSES - 1} others did before"
            self._again(one, one.task, again, f"{cause}: did its memory run out?")

    def _again(self, one: _Sent, task: Task, again: bool, cause: str) -> None:
        if again:
            self._waiting.append(task)
        else:
            self._over.append(Ended(task, None, cause, time.monotonic() - one.begun))
