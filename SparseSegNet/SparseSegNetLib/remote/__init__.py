"""The engine on another computer: a process here that looks like it, and one there that runs it."""
