"""The ways in which what is being done is broken off before its end."""

from __future__ import annotations


class Cancelled(Exception):
    """The client gave the run up, or stopped it before anything was learnt."""


class Stopped(Exception):
    """The user asked to stop: keep the best result."""


class Interrupted(Exception):
    """Something is asked for that is more urgent than what is being done."""
