"""A node remembered across time: the very same object, or a clear error."""

from __future__ import annotations

import vtk

from ..errors import InputError


class NodeReference:
    """Remembers a node without keeping it alive.

    Its ID alone would not do: after a scene was closed, the next one gives the same IDs to other
    nodes, and a result would land on another patient's volume.
    """

    def __init__(self, node, what: str):
        self._reference = vtk.vtkWeakReference()
        self._reference.Set(node)
        self._what = what

    @property
    def alive(self) -> bool:
        """Whether the node is still in its scene."""
        node = self._reference.Get()
        return node is not None and node.GetScene() is not None

    def get(self, kept: str = ""):
        """The node; InputError when it has gone from its scene. kept: what the user still has."""
        if not self.alive:
            raise InputError(f"the {self._what} is no longer in the scene. {kept}".strip())
        return self._reference.Get()
