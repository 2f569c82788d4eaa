"""``napari-emda demo``: the viewer with the phantom and the dock."""

from __future__ import annotations

import napari
from napari.layers import Layer

from napari_emda._gui.dock import Dock, make_dock
from napari_emda._gui.sample_data import phantom_pair


def show_demo(viewer: napari.Viewer, seed: int = 0) -> Dock:
    """Add the phantom's layers and the dock to a viewer whose window fills the screen."""
    for data in phantom_pair(seed):
        viewer.add_layer(Layer.create(*data))
    dock = make_dock(viewer)
    viewer.window.add_dock_widget(dock, name="napari-emda", area="right")
    _fill_screen(viewer, dock)
    viewer.reset_view()
    return dock


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
