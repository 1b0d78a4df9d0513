"""Long work in steps, between which a user interface stays alive.

A function that works in steps is a generator of one of two things: None, where others may be served
before it goes on, or a function that touches nothing but what it was given, so that it may run in
another thread; its result is sent back, or its exception raised, where the generator waits. What is
written after the last `yield` happens at once: work that is given up before has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[], Any]
Steps = Generator[Work | None, Any, T]


class Overtaken(Exception):
    """The data was changed between two steps: begin again."""


def finished(steps: Steps[T]) -> T:
    """Takes all steps at once, in this thread, and returns what they return."""
    try:
        work = next(steps)
        while True:
            if work is None:
                work = steps.send(None)
                continue
            try:
                found = work()
            except BaseException as error:
                work = steps.throw(error)
            else:
                work = steps.send(found)
    except StopIteration as end:
        return end.value


def unless(overtaken: Callable[[], bool], steps: Steps[T]) -> Steps[T]:
    """The same steps, given up with Overtaken once this is so after one of them."""
    answer, error = None, None
    while True:
        try:
            wanted = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value
        answer, error = None, None
        try:
            answer = yield wanted
        except GeneratorExit:
            steps.close()
            raise
        except Exception as raised:
            error = raised
        if overtaken():
            steps.close()
            raise Overtaken
