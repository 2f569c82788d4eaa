"""Collections of garbage that are short enough not to be felt."""

from __future__ import annotations

import contextlib
import gc
from typing import Any
from weakref import WeakSet

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QTimer


class PermanentObjects:
    """Spares Python to look at what stays in memory whenever it collects garbage.

    napari collects garbage whenever a layer is removed, so that the graphics card frees the layer
    in time. Python then looks at every object there is: modules, functions, widgets, a million of
    them, for 0.3 s in which the window stands still. Objects that are declared permanent are left
    out. If one of them becomes garbage all the same, its memory is freed at the end. Layers may be
    large: when one of them is removed, nothing is permanent until that is over.

    Python knows one set of permanent objects per process. If two docks share it and one is closed,
    the other's collections take as long as in plain napari.

    Args:
        viewer: whose layers are freed when they are removed.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: WeakSet[Layer] = WeakSet()
        # When the layer is gone.
        self._soon = QTimer()
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.declare)
        viewer.layers.events.removing.connect(self._on_removing)

    def declare(self) -> None:
        """Declare everything permanent that is in memory now."""
        # What is garbage already would stay; of old garbage there is little, and to look for it
        # would take as long as what is to be avoided.
        gc.collect(1)
        gc.freeze()
        self._layers = WeakSet(self._viewer.layers)

    def release(self) -> None:
        """Let Python collect everything again."""
        self._soon.stop()
        self._layers.clear()
        gc.unfreeze()
        with contextlib.suppress(ValueError, RuntimeError):
            self._viewer.layers.events.removing.disconnect(self._on_removing)

    def _on_removing(self, event: Any) -> None:
        if self._viewer.layers[event.index] in self._layers:
            self._layers.clear()
            gc.unfreeze()
            self._soon.start(0)
