"""Arrays that others hold for a while, and that must not change as long as they do."""

from __future__ import annotations

import weakref

import numpy as np


class Lent:
    """The arrays that were lent and are still held.

    Whoever borrows an array holds the view that was returned, not one that was made of it: numpy's
    views of views refer to the array itself.
    """

    def __init__(self):
        self._views: list[tuple[int, weakref.ref]] = []

    def view(self, array: np.ndarray) -> np.ndarray:
        """Lends an array: a view of it that cannot be written to."""
        view = array.view()
        view.flags.writeable = False
        self._views.append((id(array), weakref.ref(view)))
        return view

    def holds(self, array: np.ndarray) -> bool:
        """True if somebody still holds this array: to change it, take a copy."""
        self._views = [known for known in self._views if known[1]() is not None]
        return any(known[0] == id(array) for known in self._views)
