"""Pictures of patches for the list, and the size of the canvas."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from qtpy.QtGui import QIcon, QImage, QPixmap

from napari_emda._gui.common.adapters import array_of
from napari_emda._gui.session import Session
from napari_emda.project.regions import Region


def thumbnail(session: Session, region: Region, side: int) -> QIcon:
    """A patch of the image as an icon; an empty one when its layer was removed."""
    layer = session.image(region.volume)
    if layer is None:
        return QIcon()
    z0, _, y0, y1, x0, x1 = region.voxels.bounds
    step = max(1, min(y1 - y0, x1 - x0) // (2 * side))
    values = np.asarray(array_of(layer)[z0, y0:y1:step, x0:x1:step], np.float32)
    low, high = np.percentile(values, (1, 99))
    grey = np.ascontiguousarray(
        np.clip((values - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    )
    image = QImage(
        grey.tobytes(), grey.shape[1], grey.shape[0], grey.shape[1], QImage.Format.Format_Grayscale8
    )
    icon, picture = QIcon(), QPixmap.fromImage(image.copy()).scaled(side, side)
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):  # else Qt tints the chosen one
        icon.addPixmap(picture, mode)
    return icon


def canvas_of(viewer: ViewerModel) -> tuple[float, float] | None:
    """Height and width of the canvas in pixels; None for a viewer without a window."""
    window = getattr(viewer, "window", None)
    if window is None:
        return None
    size = window._qt_viewer.canvas.native.size()
    return float(size.height()), float(size.width())
