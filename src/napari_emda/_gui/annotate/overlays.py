"""The uncertainty of the model as an overlay, and hiding all overlays. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels

from napari_emda._gui.common.palette import uncertainty_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import NOT_PREDICTED, draw_outlines, outlined, roles
from napari_emda.project.clusters import Names

# Side in pixels of the part of a section that is read to find the usual uncertainty: enough pixels
# for percentiles, and quick to read.
_SAMPLED_SIDE = 1024
# Percentile of the uncertainty at which the overlay begins: the model is certain in most of a
# section, and that part stays clear.
_USUAL = 60
# Percentile at which it is opaque: not the maximum, which a few extreme voxels determine.
_MOST = 99.5
# Least difference between the two, of 255: where the model is certain everywhere, the difference is
# noise, which must not look like uncertainty.
_LEAST_RANGE = 40


class Overlays:
    """The uncertainty layers of the volumes, and the layers that the user has hidden."""

    def __init__(self, opened: OpenProject) -> None:
        self._opened = opened
        self._hidden: list[tuple[Any, str]] = []
        self._overview: str | None = None

    def show_overview(self, volume: str, run: str) -> None:
        """Show the uncertainty below new suggestions, until the first patch is chosen."""
        if self.show_uncertainty(volume, run, visible=True):
            self._overview = volume

    def end_overview(self) -> None:
        """Hide the uncertainty of the overview, which would cover the paint."""
        if self._overview is not None:
            self.hide_uncertainty(self._overview)
            self._overview = None

    def hide_predictions(self) -> None:
        """Hide the masks, which cover the paint in its colours and would bias an audit."""
        for layer in self._opened.shown(roles()):
            layer.visible = False

    def toggle_mask(self, volume: str) -> bool:
        """Show or hide the mask of a volume, or its clusters; returns whether it has any."""
        layers = [self._opened.output(role, volume) for role in ("mask", "clusters")]
        existing = [layer for layer in layers if layer is not None]
        for layer in existing[:1]:
            layer.visible = not layer.visible
            veil = self._opened.output(NOT_PREDICTED, volume)
            if veil is not None:
                veil.visible = layer.visible
        return bool(existing)

    def toggle_outlines(self, volume: str) -> None:
        """Show the paint as outlines and the mask as filled areas, or the reverse.

        Outlines leave the edge visible that is corrected. The two are never alike, because they
        have the same colours.
        """
        opened = self._opened
        filled = not outlined(opened, "annotations", volume)
        for role, outlines in (("annotations", filled), ("mask", not filled)):
            layer = opened.output(role, volume)
            if isinstance(layer, Labels):
                draw_outlines(layer, outlines=outlines)

    def hide_uncertainty(self, volume: str) -> None:
        """Hide the uncertainty of a volume."""
        layer = self._opened.output("uncertainty", volume)
        if layer is not None:
            layer.visible = False

    def show_uncertainty(self, volume: str, run: str, *, visible: bool | None = None) -> bool:
        """Show, hide or toggle the uncertainty of a volume.

        Args:
            volume: name of the volume.
            run: whose uncertainty is shown; that of the newest prediction if it has none.
            visible: None toggles it.

        Returns:
            Whether there is an uncertainty to show.
        """
        project = self._opened.project
        for candidate in filter(None, (run, project.predictions.newest_run(volume))):
            prediction = project.predictions.of(candidate, volume)
            stored = None if prediction is None else prediction.uncertainty
            if prediction is not None and stored is not None:
                break
        else:
            return False
        # Names of clusters change what counts as uncertain: a layer belongs to a run and its names.
        origin = (candidate, prediction.outputs.cluster_names)
        layer = self._opened.output("uncertainty", volume)
        if visible is None:
            visible = layer is None or not layer.visible
        if layer is None or layer.metadata.get("origin") != origin:
            new_layer = self._layer(volume, stored, origin)
            layer = self._opened.add_output("uncertainty", volume, new_layer)
        layer.visible = visible
        if visible:
            # Another strategy may have written another uncertainty since.
            layer.contrast_limits = limits(stored)
            layer.refresh()
        return True

    def _layer(self, volume: str, stored: Any, origin: tuple[str, Names]) -> Image:
        """A new layer, hidden at first.

        Args:
            volume: that it covers.
            stored: its uncertainty, uint8 (z, y, x).
            origin: the run, and the class names of its clusters.
        """
        return Image(
            stored,
            name=self._opened.called("uncertainty", volume),
            colormap=uncertainty_colours(),
            blending="translucent_no_depth",
            contrast_limits=(0, 255),
            multiscale=False,
            visible=False,
            metadata={"origin": origin},
            **self._opened.place(volume).arguments(),
        )

    def toggle_bare(self) -> None:
        """Hide all layers of the dock; the second time, restore them and their tools."""
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
                # napari resets the tool of a layer that is hidden.
                if mode:
                    layer.mode = mode
            return
        self._hidden = [(layer, str(getattr(layer, "mode", ""))) for layer in self._opened.shown()]
        for layer, _ in self._hidden:
            layer.visible = False

    def forget_hidden(self) -> None:
        """Forget what was hidden, because another patch is on view."""
        self._hidden = []


def limits(stored: Any) -> tuple[float, float]:
    """The uncertainty at which the overlay begins and at which it is opaque.

    Both are percentiles of three sections, because the range differs: entropy reaches 255, the
    disagreement of samples hardly 60, and models differ as well.

    Args:
        stored: the uncertainty, uint8 (z, y, x).
    """
    section_count, *sides = stored.shape
    middle = tuple(slice(max(0, (n - _SAMPLED_SIDE) // 2), (n + _SAMPLED_SIDE) // 2) for n in sides)
    sections = sorted({section_count * quarter // 4 for quarter in (1, 2, 3)})
    values = np.concatenate([np.asarray(stored[z, *middle]).ravel() for z in sections])
    low, high = np.percentile(values, (_USUAL, _MOST))
    low = min(low, 255 - _LEAST_RANGE)
    return float(low), float(max(high, low + _LEAST_RANGE))
