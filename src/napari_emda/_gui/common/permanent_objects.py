"""Collections of garbage that are short enough not to be felt."""

from __future__ import annotations

import contextlib
import gc
from typing import Any
from weakref import WeakSet

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QTimer

# Milliseconds between two looks whether there is garbage to collect. In between, a thread that is
# busy makes some hundred thousand objects at most, which are small.
_LOOK = 500


class PermanentObjects:
    """Spares Python to look at what stays in memory whenever it collects garbage.

    napari collects garbage whenever a layer is removed, so that the graphics card frees the layer
    in time. Python then looks at every object there is: modules, functions, widgets, a million of
    them, for 0.3 s in which the window stands still. Objects that are declared permanent are left
    out. If one of them becomes garbage all the same, its memory is freed at the end. Layers may be
    large: when one of them is removed, nothing is permanent until that is over.

    With few objects left to look at, Python would collect more often, in whatever thread makes an
    object. A widget that is garbage must not be destroyed outside of the main thread: Qt may crash.
    So as long as objects are permanent, Python does not collect by itself; a timer of the main
    thread does, as often as Python would.

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
        self._collecting = QTimer()
        self._collecting.timeout.connect(_collect_as_due)
        # Whether Python collected by itself before.
        self._was_enabled = False
        viewer.layers.events.removing.connect(self._on_removing)

    def declare(self) -> None:
        """Declare everything permanent that is in memory now."""
        # What is garbage already would stay; of old garbage there is little, and to look for it
        # would take as long as what is to be avoided.
        gc.collect(1)
        gc.freeze()
        self._layers = WeakSet(self._viewer.layers)
        if not self._collecting.isActive():
            self._was_enabled = gc.isenabled()
            gc.disable()
            self._collecting.start(_LOOK)

    def release(self) -> None:
        """Let Python collect everything again."""
        self._soon.stop()
        self._layers.clear()
        gc.unfreeze()
        if self._collecting.isActive():
            self._collecting.stop()
            if self._was_enabled:
                gc.enable()
        with contextlib.suppress(ValueError, RuntimeError):
            self._viewer.layers.events.removing.disconnect(self._on_removing)

    def _on_removing(self, event: Any) -> None:
        if self._viewer.layers[event.index] in self._layers:
            self._layers.clear()
            gc.unfreeze()
            self._soon.start(0)


def _collect_as_due() -> None:
    """Collect the oldest generation that is over its limit, and the younger ones, if one is."""
    limits = zip(gc.get_count(), gc.get_threshold(), strict=True)
    due = [generation for generation, (count, limit) in enumerate(limits) if 0 < limit < count]
    if due:
        gc.collect(max(due))
