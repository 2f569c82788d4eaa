"""The layer that shows what a click would paint. No Qt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_emda._gui.common.adapters import show
from napari_emda._gui.common.outlined_labels import OutlinedLabels
from napari_emda._gui.common.palette import annotation_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import outlined
from napari_emda.data.box import Box

PREVIEW = "preview of a correction"
"""Role of the layer."""
# Width of the outline in pixels of the volume.
_OUTLINE = 2


class CorrectionPreview:
    """Outlines what a click would paint, in the colour that it would have.

    Args:
        opened: the project.
    """

    def __init__(self, opened: OpenProject) -> None:
        self._opened = opened
        self._volume = ""

    def prepare(self, volume: str, box: Box) -> None:
        """Add the layer, hidden: napari takes a third of a second."""
        if self._opened.output(PREVIEW, volume) is None:
            self._with(volume, box, np.zeros(box.shape, np.uint8)).visible = False

    def show(self, volume: str, box: Box, values: NDArray[np.uint8]) -> None:
        """Show paint, uint8 of the box's shape; 0 is nothing."""
        layer = self._with(volume, box, values)
        self._volume = volume
        # Never like the paint, which may be areas or outlines.
        layer.contour = 0 if outlined(self._opened, "annotations", volume) else _OUTLINE
        show(layer)

    def hide(self) -> None:
        """Show nothing."""
        layer = self._opened.output(PREVIEW, self._volume)
        if layer is not None and layer.visible:
            layer.visible = False

    def _with(self, volume: str, box: Box, values: NDArray[np.uint8]) -> OutlinedLabels:
        """The layer with other values."""
        opened = self._opened
        place = opened.place(volume).arguments(corner=box.start)
        layer = opened.output(PREVIEW, volume)
        if isinstance(layer, OutlinedLabels) and layer.data.shape == values.shape:
            layer.data = values
            layer.translate = place["translate"]
            return layer
        layer = OutlinedLabels(
            values,
            name=opened.called(PREVIEW, volume),
            opacity=0.9,
            colormap=annotation_colours(opened.project.classes),
            multiscale=False,
            **place,
        )
        layer.editable = False
        return opened.add_output(PREVIEW, volume, layer)
