"""Errors that a user may see: one line that says what, where and how to put it right."""


class InputError(ValueError):
    """Bad input from the user (file, node, slice or value); the message names cause and remedy."""


class EngineError(RuntimeError):
    """The engine process failed.

    Attributes: ``code`` (a short stable word such as ``input``, ``out-of-memory``, ``internal``),
    ``cause`` (what happened) and ``remedy`` (what to do about it).
    """

    def __init__(self, code: str, cause: str, remedy: str = ""):
        super().__init__(f"{cause} {remedy}".strip())
        self.code, self.cause, self.remedy = code, cause, remedy
