"""Errors that a user may see: one line with cause, place and remedy."""

HOMEPAGE = "https://github.com/SparseSegNet/SlicerSparseSegNet"
DOCUMENTATION = "https://sparsesegnet.github.io/SlicerSparseSegNet"


class InputError(ValueError):
    """Bad input from the user (file, node, slice or value); the message names cause and remedy."""


class EngineError(RuntimeError):
    """The engine process failed.

    Attributes:
        code: A short stable word such as ``input``, ``out-of-memory``, ``internal``.
        cause: What happened, as a sentence.
        remedy: What the user can do about it; may be empty.
    """

    def __init__(self, code: str, cause: str, remedy: str = ""):
        super().__init__(f"{cause} {remedy}".strip())
        self.code, self.cause, self.remedy = code, cause, remedy

    @property
    def link(self) -> str:
        """Address of the code's entry in the error catalogue; none for input, which says it all."""
        return "" if self.code == "input" else f"{DOCUMENTATION}/errors/#{self.code}"
