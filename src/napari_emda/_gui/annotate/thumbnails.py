"""Thumbnails of patches for the list, and the size of the canvas."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtGui import QIcon, QImage, QPixmap

from napari_emda._gui.common.layer_volumes import array_of
from napari_emda.data.box import Box


def thumbnail(layer: Layer | None, box: Box, side: int) -> QIcon:
    """The first section of a box as an icon; an empty icon if the layer was removed.

    Args:
        layer: shows the volume.
        box: voxels of it.
        side: of the icon, in pixels.
    """
    if layer is None:
        return QIcon()
    z0, _, y0, y1, x0, x1 = box.bounds
    # Two voxels per pixel of the icon are enough for smooth scaling.
    step = max(1, min(y1 - y0, x1 - x0) // (2 * side))
    values = np.asarray(array_of(layer)[z0, y0:y1:step, x0:x1:step], np.float32)
    # Percentiles, because a few bright specks would make the rest black.
    low, high = np.percentile(values, (1, 99))
    contrast = max(high - low, 1e-6)  # an even patch is not divided by 0
    grey = np.clip((values - low) / contrast * 255, 0, 255).astype(np.uint8)
    height, width = grey.shape
    image = QImage(grey.tobytes(), width, height, width, QImage.Format.Format_Grayscale8)
    icon = QIcon()
    # Copied, because QImage does not own the bytes that it shows.
    picture = QPixmap.fromImage(image.copy()).scaled(side, side)
    # For both modes, because Qt would tint the icon of the selected patch.
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):
        icon.addPixmap(picture, mode)
    return icon


def canvas_of(viewer: ViewerModel) -> tuple[float, float] | None:
    """Height and width of the canvas in pixels; None for a viewer without a window."""
    # napari has no public access to the size of its canvas.
    window = getattr(viewer, "window", None)
    if window is None:
        return None
    size = window._qt_viewer.canvas.native.size()
    return float(size.height()), float(size.width())
