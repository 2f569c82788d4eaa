"""Which volume the user sees where paint goes."""

from __future__ import annotations

from napari_emda._gui.open_project import OpenProject


def seen_instead_of(opened: OpenProject, volume: str) -> str | None:
    """The other volume that the user sees where one is painted; None if there is none.

    A user may hide, show and reorder volumes while a patch is on view.
    """
    if opened.viewer.canvas.grid.enabled:  # side by side
        return None
    layers = opened.viewer.layers
    image = opened.image(volume)
    # Of an image that is hidden or was removed, nothing is seen, whatever lies above.
    lowest = layers.index(image) if image is not None and image.visible else -1
    images, _ = opened.layers
    return next(
        (
            name
            for name, other in images.items()
            if other is not image and other.visible and layers.index(other) > lowest
        ),
        None,
    )
