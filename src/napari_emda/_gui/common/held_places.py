"""Layers that stay where their volume is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

from napari_emda._gui.common.adapters import Placement

# What a user can change of a layer's place.
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
# Together with what changes the unit of the world.
_EVENTS = (*_PLACE, "inserted", "removed")


class HeldPlaces:
    """Puts layers back that the user drags or scales away from their volume.

    Paint, mask and image of a volume lie on the same voxels. If one of them were moved, the user
    would paint beside what is seen.

    Args:
        viewer: with the layers.
        put_back: called with a layer that the user has moved, when it is in its place again.
    """

    def __init__(self, viewer: ViewerModel, put_back: Callable[[Layer], object]) -> None:
        self._viewer = viewer
        self._put_back = put_back
        self._held: dict[Layer, Callable[[], Placement]] = {}
        self._busy = False
        viewer.layers.events.connect(self._on_layers)

    def hold(self, layer: Layer, place: Callable[[], Placement]) -> None:
        """Keep a layer in a place, which may depend on the unit of the viewer's world."""
        self._held[layer] = place

    def let_go(self, layer: Layer) -> None:
        """Leave a layer to the user."""
        self._held.pop(layer, None)

    def release(self) -> None:
        """Leave all layers to the user."""
        self._held.clear()
        with contextlib.suppress(ValueError, RuntimeError):
            self._viewer.layers.events.disconnect(self._on_layers)

    def _on_layers(self, event: Any) -> None:
        # The list passes on all events of its layers; those that follow from putting one back come
        # in between.
        if event.type not in _EVENTS or self._busy:
            return
        self._busy = True
        try:
            moved = self._restore_all()
            if moved and self._restore_all():
                # Layers of different places that the user has linked pull each other along.
                for layer in self._held:
                    self._viewer.layers.unlink_layers([layer], _PLACE)
                self._restore_all()
        finally:
            self._busy = False
        # Another layer may change the unit of the world, which is no movement.
        if event.type not in ("units", "inserted", "removed"):
            for layer in moved[:1]:
                self._put_back(layer)

    def _restore_all(self) -> list[Layer]:
        """Put all layers into their places; returns those that were elsewhere."""
        held = list(self._held.items())
        return [layer for layer, place in held if _restore(layer, place())]


def _restore(layer: Layer, place: Placement) -> bool:
    """Put a layer into a place; returns whether it was elsewhere."""
    # No volume is rotated or sheared.
    straight = {"rotate": np.eye(layer.ndim), "shear": np.zeros(np.shape(layer.shear))}
    differed = False
    for key, value in straight.items():
        if not np.allclose(getattr(layer, key), value):
            setattr(layer, key, value)
            differed = True
    return place.apply(layer) or differed
