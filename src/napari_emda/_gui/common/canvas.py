"""What napari's canvas needs of us while layers are removed. No public access exists to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer


class RemovalGuard:
    """Makes the OpenGL context of the canvas current before a layer is removed.

    When a layer is removed, napari sends what waits for the graphics card at once
    (`VispyCanvas._clean_and_update_scenegraph`), without asking Qt for its context. If the context
    of another window is current, the buffers of the layers that stay are never created, and the
    next drawing ends in a segmentation fault (Mesa, ``glDrawArrays``). Plain napari 0.9.2 crashes
    likewise: see ``python -m benchmarks.layer_chaos --plain``.

    Args:
        viewer: with a window, or without one, which needs no guard.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        viewer.layers.events.removing.connect(self._make_current)

    def release(self) -> None:
        """Leave the viewer as it was."""
        with contextlib.suppress(ValueError, RuntimeError):
            self._viewer.layers.events.removing.disconnect(self._make_current)

    def _make_current(self, event: Any = None) -> None:
        window = getattr(self._viewer, "window", None)
        # RuntimeError: the canvas is gone, as while the window closes.
        with contextlib.suppress(AttributeError, RuntimeError):
            if window is not None:
                window._qt_viewer.canvas.native.makeCurrent()


def remove_layers(viewer: ViewerModel, layers: Iterable[Layer | None]) -> None:
    """Remove layers, as far as they are there, at the cost of removing one.

    napari collects garbage after each removal, for tenths of a second in which the window stands
    still, but only once after a batch.
    """
    with viewer.layers.batched_update():
        for layer in layers:
            if layer is not None and layer in viewer.layers:
                viewer.layers.remove(layer)
