"""Sliders that end where the visible volumes end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from napari.components import ViewerModel
from napari.components.dims import RangeTuple
from napari.layers import Layer

from napari_emda.data.units import nanometres


class SliderRange:
    """Limits the sliders of a viewer to some of its layers.

    napari's sliders cover all layers, hidden ones too: with a longer or finer source, most of their
    positions show nothing of the target.

    Args:
        viewer: whose sliders are limited.
        layers: that the sliders cover; where there are none, they cover all layers.
    """

    def __init__(self, viewer: ViewerModel, layers: Callable[[], Sequence[Layer]]) -> None:
        self._viewer = viewer
        self._layers = layers
        # napari sets the range anew whenever a layer is added, removed, moved or changed.
        viewer.dims.events.range.connect(self.update)
        viewer.layers.events.connect(self._on_layers)

    def release(self) -> None:
        """Let the sliders cover all layers again."""
        with contextlib.suppress(ValueError, RuntimeError):
            self._viewer.dims.events.range.disconnect(self.update)
            self._viewer.layers.events.disconnect(self._on_layers)
            self._layers = list
            self.update()

    def _on_layers(self, event: Any) -> None:
        # The list passes on all events of its layers.
        if event.type == "visible":
            self.update()

    def update(self, event: Any = None) -> None:
        """Set the range of the sliders."""
        dims = self._viewer.dims
        wanted = self._range(list(self._layers()) or list(self._viewer.layers))
        if not wanted or wanted == dims.range:
            return
        dims.range = wanted
        # napari clips the point itself, but does not slice the layers there.
        dims.set_point(range(dims.ndim), dims.point)

    def _range(self, layers: list[Layer]) -> tuple[RangeTuple, ...]:
        """Start, stop and step of the layers along each axis, in world units."""
        extent = self._viewer.layers.get_extent(layers)
        before = self._viewer.dims.range
        # Layers with fewer axes than the viewer say nothing of the first ones.
        lacking = len(before) - len(extent.step)
        if not layers or lacking < 0:
            return ()
        factor = _factor(self._viewer, extent.units)
        return before[:lacking] + tuple(
            RangeTuple(float(start) * factor, float(stop) * factor, float(step) * factor)
            for start, stop, step in zip(*extent.world, extent.step, strict=True)
        )


def _factor(viewer: ViewerModel, units: Any) -> float:
    """World units per unit of some layers; the world has the finest unit of all layers."""
    world = viewer.layers.extent.units
    own_unit = nanometres(str(units[-1])) if units else None
    world_unit = nanometres(str(world[-1])) if world else None
    return own_unit / world_unit if own_unit and world_unit else 1.0
