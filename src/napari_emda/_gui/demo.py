"""``napari-emda demo``: the viewer with the phantom and the dock."""

from __future__ import annotations

import napari

from napari_emda._gui.common.adapters import Placement
from napari_emda._gui.dock import Dock, make_dock
from napari_emda.synthetic.phantom import SPACING, phantom

# Voxels along z, y, x: enough to train on, and drawn in a moment.
SHAPE = (24, 256, 256)
# Pixels of the window, width and height: on larger screens the phantom would only be blown up.
LARGEST = (1600, 1000)


def show_demo(viewer: napari.Viewer, seed: int = 0) -> Dock:
    """Add the phantom's layers and the dock to a viewer."""
    placement = Placement(SPACING).arguments()
    source, labels = phantom(SHAPE, "source", seed)
    target, _ = phantom(SHAPE, "target", seed)
    viewer.add_image(source, name="phantom source", **placement)
    viewer.add_labels(labels, name="phantom source mitochondria", **placement)
    viewer.add_image(target, name="phantom target", **placement)
    dock = make_dock(viewer)
    viewer.window.add_dock_widget(dock, name="napari-emda", area="right")
    _fit_to_screen(viewer, dock)
    return dock


def _fit_to_screen(viewer: napari.Viewer, dock: Dock) -> None:
    """Make the window as large as its screen allows, within limits."""
    screen = dock.screen()
    if screen is not None:
        free = screen.availableGeometry()
        viewer.window.resize(min(free.width(), LARGEST[0]), min(free.height(), LARGEST[1]))


def open_demo(seed: int = 0) -> None:
    """Open the viewer and wait until it is closed."""
    show_demo(napari.Viewer(title="napari-emda demo"), seed)
    napari.run()
