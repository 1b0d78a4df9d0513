"""A weak reference to a node: the very same object, or a clear error."""

from __future__ import annotations

import vtk

from ..errors import InputError


class NodeReference:
    """A weak reference to a node of the scene.

    Its ID alone would not do: after a scene was closed, the next one gives the same IDs to other
    nodes, and a result would land on another patient's volume.

    Args:
        node: The node.
        what: Its kind, for the message, such as 'volume'.
    """

    def __init__(self, node, what: str):
        self._reference = vtk.vtkWeakReference()
        self._reference.Set(node)
        self._what = what

    @property
    def alive(self) -> bool:
        """True if the node is still in its scene."""
        node = self._reference.Get()
        return node is not None and node.GetScene() is not None

    def get(self, kept: str = ""):
        """The node.

        Args:
            kept: What remains available to the user, for the message.

        Raises:
            InputError: If the node was removed from its scene.
        """
        if not self.alive:
            raise InputError(f"the {self._what} is no longer in the scene. {kept}".strip())
        return self._reference.Get()
