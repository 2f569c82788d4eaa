"""What napari's canvas needs of us while layers are removed. No public access exists to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QTimer


def qt_viewer_of(viewer: ViewerModel) -> Any:
    """Napari's widget around the canvas; None for a viewer without a window."""
    return getattr(getattr(viewer, "window", None), "_qt_viewer", None)


class RemovalGuard:
    """Makes the OpenGL context of the canvas current before a layer is removed.

    When a layer is removed, napari sends what waits for the graphics card at once
    (`VispyCanvas._clean_and_update_scenegraph`), without asking Qt for its context. If the context
    of another window is current, the buffers of the layers that stay are never created, and the
    next drawing ends in a segmentation fault (Mesa, ``glDrawArrays``). Plain napari 0.9.2 crashes
    likewise: see docs/benchmarks.md.

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


class InsertionGuard:
    """Holds the drawing back while a layer is inserted, until it lies where it belongs.

    napari draws a new layer before it says that there is one. A file without a voxel size, beside
    volumes in nm, would be drawn in pixels first, with a warning of units that do not fit.

    Args:
        viewer: with a window, or without one, which draws nothing.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._held: Any = None
        # If napari fails to insert the layer, the drawing goes on all the same.
        self._soon = QTimer()
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.draw)
        viewer.layers.events.inserting.connect(self._hold)

    def release(self) -> None:
        """Leave the viewer as it was."""
        self.draw()
        with contextlib.suppress(ValueError, RuntimeError):
            self._viewer.layers.events.inserting.disconnect(self._hold)

    def _hold(self, event: Any = None) -> None:
        window = getattr(self._viewer, "window", None)
        with contextlib.suppress(AttributeError, RuntimeError):
            canvas = window._qt_viewer.canvas if window is not None else None
            # Within a batch of changes napari holds it back itself.
            if canvas is not None and not canvas._pause_scene_graph:
                canvas._pause_scene_graph = True
                self._held = canvas
                self._soon.start(0)

    def draw(self) -> None:
        """Draw what was held back."""
        canvas = self._held
        self._held = None
        if canvas is not None:
            canvas._pause_scene_graph = False
            with contextlib.suppress(AttributeError, RuntimeError):
                canvas._update_scenegraph()


def remove_layers(viewer: ViewerModel, layers: Iterable[Layer | None]) -> None:
    """Remove layers, as far as they are there, at the cost of removing one.

    napari collects garbage after each removal, for tenths of a second in which the window stands
    still, but only once after a batch.
    """
    with viewer.layers.batched_update():
        for layer in layers:
            if layer is not None and layer in viewer.layers:
                viewer.layers.remove(layer)
