"""``napari-emda demo``: the viewer with the phantom and the dock."""

from __future__ import annotations

import napari
from napari.layers import Layer
from qtpy.QtCore import QEvent, QObject, QTimer

from napari_emda._gui.dock import Dock, make_dock
from napari_emda._gui.sample_data import phantom_pair


def show_demo(viewer: napari.Viewer, seed: int = 0) -> Dock:
    """Add the phantom's layers and the dock to a viewer whose window fills the screen."""
    for data in phantom_pair(seed):
        viewer.add_layer(Layer.create(*data))
    dock = make_dock(viewer)
    viewer.window.add_dock_widget(dock, name="napari-emda", area="right")
    _fill_screen(viewer, dock)
    _KeptInView(viewer)
    return dock


class _KeptInView(QObject):
    """Fits the view into the canvas whenever this gets another size, until the view is moved.

    The window, and then the dock, take their sizes after they were made, and so does the canvas.

    Args:
        viewer: with a window, whose canvas owns this object.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._canvas = canvas = viewer.window._qt_viewer.canvas.native
        super().__init__(canvas)
        self._viewer = viewer
        self._fit()
        canvas.installEventFilter(self)

    def _view(self) -> tuple[float, ...]:
        camera = self._viewer.scene.camera
        return (camera.zoom, *camera.center)

    def _fit(self) -> None:
        self._viewer.reset_view()
        self._fitted = self._view()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Fit the view after the canvas itself has heard of its size."""
        if watched is not None and event is not None and event.type() == QEvent.Type.Resize:
            QTimer.singleShot(0, self._on_resize)
        return False

    def _on_resize(self) -> None:
        if self._view() == self._fitted:
            self._fit()
        else:
            self._canvas.removeEventFilter(self)


def _fill_screen(viewer: napari.Viewer, dock: Dock) -> None:
    """Make the window as large as its screen allows."""
    screen = dock.screen()
    if screen is not None:
        free = screen.availableGeometry()
        viewer.window.set_geometry(free.x(), free.y(), free.width(), free.height())
    window = dock.window()
    if window is not None:
        # Where a window manager runs, it also leaves room for the frame and the title.
        window.showMaximized()


def open_demo(seed: int = 0) -> None:
    """Open the viewer and wait until it is closed."""
    show_demo(napari.Viewer(title="napari-emda demo"), seed)
    napari.run()
