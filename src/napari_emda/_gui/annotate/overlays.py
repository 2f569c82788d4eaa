"""The model's uncertainty over the image, and how to hide all that lies over it. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_emda._gui.common.palette import uncertainty_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import roles
from napari_emda.project.clusters import Names

_LOOKED_AT = 1024
"""Pixels along a side of what is read of a section to learn how much uncertainty is usual."""
_USUAL = 60
"""Percentile of the uncertainty at which the overlay begins: most of a section is certain."""
_MOST = 99.5
"""Percentile from which it is opaque: a few extreme voxels change nothing."""
_LEAST_RANGE = 40
"""From usual to most, of 255: where the model is sure, noise must not look like uncertainty."""


class Overlays:
    """The uncertainty of the volumes, and what is hidden while the bare image is on view."""

    def __init__(self, opened: OpenProject) -> None:
        self._opened = opened
        self._hidden: list[tuple[Any, str]] = []
        self._overview: str | None = None

    def show_overview(self, volume: str, run: str) -> None:
        """Show the uncertainty beneath new suggestions, until the first patch is chosen."""
        if self.show_uncertainty(volume, run, visible=True):
            self._overview = volume

    def end_overview(self) -> None:
        """Take away what would hide the paint."""
        if self._overview is not None:
            layer = self._opened.output("uncertainty", self._overview)
            self._overview = None
            if layer is not None:
                layer.visible = False

    def hide_predictions(self) -> None:
        """Hide the masks: they lie over the paint in its colours, and would bias an audit."""
        for layer in self._opened.shown(roles(self._opened)):
            layer.visible = False

    def show_uncertainty(self, volume: str, run: str, *, visible: bool | None = None) -> bool:
        """Show, hide or (None) toggle where a run is unsure, or else the newest run.

        Returns:
            Whether the uncertainty is known.
        """
        project = self._opened.project
        for known in filter(None, (run, project.predictions.newest_run(volume))):
            prediction = project.predictions.of(known, volume)
            stored = None if prediction is None else prediction.uncertainty
            if prediction is not None and stored is not None:
                break
        else:
            return False
        of = (known, prediction.outputs.cluster_names)
        layer = self._opened.output("uncertainty", volume)
        if visible is None:
            visible = layer is None or not layer.visible
        if layer is None or layer.metadata.get("of") != of:
            layer = self._opened.add_output("uncertainty", volume, self._layer(volume, stored, of))
        self._beneath_the_rest(layer, volume)
        layer.visible = visible
        if visible:
            layer.contrast_limits = limits(stored)  # another strategy may have measured anew
            layer.refresh()
        return True

    def _layer(self, volume: str, stored: Any, of: tuple[str, Names]) -> Image:
        """Hidden at first.

        Args:
            volume: that it lies over.
            stored: its uncertainty, uint8 (z, y, x).
            of: the run, and the classes that its clusters are named after.
        """
        return Image(
            stored,
            name=self._opened.called("uncertainty", volume),
            colormap=uncertainty_colours(),
            blending="translucent_no_depth",
            contrast_limits=(0, 255),
            multiscale=False,
            visible=False,
            metadata={"of": of},
            **self._opened.place(volume).arguments(),
        )

    def _beneath_the_rest(self, layer: Layer, volume: str) -> None:
        """Right above the image: paint and rectangles stay in sight."""
        layers = self._opened.viewer.layers
        image = self._opened.image(volume)
        if image is not None and layers.index(layer) > layers.index(image) + 1:
            layers.move(layers.index(layer), layers.index(image) + 1)

    def toggle_bare(self) -> None:
        """Hide all our layers over the image; the second time, bring them and their tools back."""
        viewer = self._opened.viewer
        hidden = [
            (layer, mode)
            for layer, mode in self._hidden
            if layer in viewer.layers and not layer.visible
        ]
        self._hidden = []
        if hidden:
            for layer, mode in hidden:
                layer.visible = True
                if mode:
                    layer.mode = mode  # napari takes the tools of a hidden layer away
            return
        self._hidden = [(layer, str(getattr(layer, "mode", ""))) for layer in self._opened.shown()]
        for layer, _ in self._hidden:
            layer.visible = False

    def forget_hidden(self) -> None:
        """Another patch was chosen, and shows what it needs."""
        self._hidden = []


def limits(stored: Any) -> tuple[float, float]:
    """Uncertainty at which the overlay begins to show and from which it is opaque.

    Both are percentiles of three sections: entropy reaches 255, the disagreement of samples hardly
    60, and models differ, too.

    Args:
        stored: uint8 (z, y, x).
    """
    section_count, *sides = stored.shape
    middle = tuple(slice(max(0, (n - _LOOKED_AT) // 2), (n + _LOOKED_AT) // 2) for n in sides)
    sections = sorted({section_count * quarter // 4 for quarter in (1, 2, 3)})
    values = np.concatenate([np.asarray(stored[z, *middle]).ravel() for z in sections])
    low, high = np.percentile(values, (_USUAL, _MOST))
    low = min(low, 255 - _LEAST_RANGE)
    return float(low), float(max(high, low + _LEAST_RANGE))
