"""The process of a rank other than 0: it waits for rank 0, and computes with it."""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress

from ...errors import EngineError, InputError
from ...runfolder.exit_codes import BAD_INPUT, DONE, INTERNAL, exit_code
from ...runfolder.signals import answer
from ..compute.device import prepare_threads
from ..compute.ranks import Ranks
from ..training.together import Follower

LOOK_AGAIN = 0.2  # seconds; a signal is answered at once


def follow() -> int:
    """Takes part in a training; returns the exit code, that of rank 0 if all goes well.

    What it says goes to the log, since the events are rank 0's. When the system asks this process
    to end, rank 0 is told, which writes a checkpoint and ends all of them.
    """
    try:
        ranks = Ranks.of_environment()
    except InputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    if ranks is None:  # nobody leads, so that there is nothing to do
        return DONE
    codes: list[int] = []

    def say(text: str) -> None:
        print(f"rank {ranks.rank} of {ranks.count}: {text}", file=sys.stderr, flush=True)

    def work() -> None:
        try:
            prepare_threads()
            say(f"process {os.getpid()} on {socket.gethostname()}")
            ranks.join()
            ranks.watch(gone, lambda: None)
            codes.append(Follower(ranks).follow())
            ranks.leave()
        except EngineError as error:
            say(str(error))
            codes.append(exit_code(error.code))

    def gone(error: EngineError) -> None:
        say(str(error))
        os._exit(exit_code(error.code))

    def asked(number: int, frame: object) -> None:
        with suppress(RuntimeError, ValueError):
            ranks.ask_to_end()

    answer(asked, "SIGINT")
    # Python handles signals in its first thread, which must not wait for other ranks.
    working = threading.Thread(target=work, daemon=True)
    working.start()
    while working.is_alive():
        working.join(LOOK_AGAIN)
    return codes[0] if codes else INTERNAL
