"""What lies over the image beside the paint: the model's uncertainty, and how all of it goes away. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image

from napari_emda._gui.common.palette import uncertainty_colours
from napari_emda._gui.predict.layers import roles
from napari_emda._gui.session import Session
from napari_emda.project import runs

_LOOKED_AT = 1024
"""Pixels along a side of what is read of a section to learn how much uncertainty is usual."""
_USUAL, _MOST = 60, 99.5
"""Percentiles of the uncertainty at which the overlay begins to show, and from which on it is opaque."""
_LEAST_RANGE = 40
"""Between the two, of 255: where the model is sure everywhere, noise must not look like uncertainty."""


class Overlays:
    """The uncertainty of the volumes, and what is hidden while the bare image is on view."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._hidden: list[tuple[Any, str]] = []
        self._overview: str | None = None

    def show_overview(self, volume: str, run: str) -> None:
        """Show the uncertainty beneath new suggestions, until the first patch is chosen."""
        if self.show_uncertainty(volume, run, visible=True):
            self._overview = volume

    def end_overview(self) -> None:
        """Take away what would hide the paint."""
        if self._overview is not None:
            layer = self._session.output("uncertainty", self._overview)
            self._overview = None
            if layer is not None:
                layer.visible = False

    def hide_predictions(self) -> None:
        """Take away the masks: they would lie over the paint, in its colours, and tell an audit's answer."""
        for layer in self._session.shown(roles(self._session)):
            layer.visible = False

    def show_uncertainty(self, volume: str, run: str, *, visible: bool | None = None) -> bool:
        """Show, hide or (None) toggle where a run, or the newest, is unsure; False when nothing is known of it."""
        session, project = self._session, self._session.project
        assert project is not None
        stored = None
        for name in (run, runs.predicted_with(project, volume)):
            if name and stored is None:
                stored, run = project.uncertainty(name, volume), name
        if stored is None:
            return False
        of = (run, project.names(run))
        layer = session.output("uncertainty", volume)
        if layer is not None and layer.metadata.get("of") != of:
            visible = not layer.visible if visible is None else visible
            session.remove_output("uncertainty", volume)
        layer = session.output(
            "uncertainty",
            volume,
            lambda: Image(
                stored,
                name=session.called("uncertainty", volume),
                colormap=uncertainty_colours(),
                blending="translucent_no_depth",
                contrast_limits=(0, 255),
                multiscale=False,
                visible=False,
                metadata={"of": of},
                **session.place(volume).arguments(),
            ),
        )
        assert layer is not None
        self._beneath_the_rest(layer, volume)
        layer.visible = not layer.visible if visible is None else visible
        if layer.visible:
            layer.contrast_limits = limits(stored)  # another strategy may have measured anew
            layer.refresh()
        return True

    def _beneath_the_rest(self, layer: Image, volume: str) -> None:
        """Right above the image: paint and rectangles stay in sight."""
        layers, image = self._session.viewer.layers, self._session.image(volume)
        if image is not None and layers.index(layer) > layers.index(image) + 1:
            layers.move(layers.index(layer), layers.index(image) + 1)

    def toggle_bare(self) -> None:
        """Hide everything of ours that lies over the image; the second time, bring it back, tools at hand."""
        viewer = self._session.viewer
        hidden, self._hidden = (
            [(layer, mode) for layer, mode in self._hidden if layer in viewer.layers],
            [],
        )
        back = [(layer, mode) for layer, mode in hidden if not layer.visible]
        for layer, mode in back:
            layer.visible = True
            if mode:
                layer.mode = mode  # napari takes the tools of a hidden layer away
        if back:
            return
        self._hidden = [(layer, str(getattr(layer, "mode", ""))) for layer in self._session.shown()]
        for layer, _ in self._hidden:
            layer.visible = False

    def forget_hidden(self) -> None:
        """Another patch was chosen, and shows what it needs."""
        self._hidden = []


def limits(stored: Any) -> tuple[float, float]:
    """Uncertainty at which the overlay begins to show and from which on it is opaque, from three sections.

    Measures differ in what is much (entropy reaches 255, the disagreement of samples hardly 60), and so do models.

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
