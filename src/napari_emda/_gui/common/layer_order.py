"""The order and the names of the layers of the dock, which make them one group in the list."""

from __future__ import annotations

from collections.abc import Mapping

from napari.components import ViewerModel
from napari.layers import Layer

PREFIX = "emda: "
"""How the names of all outputs begin."""
# Roles from bottom to top. What the user works on lies above what the model says, and that above
# the images. A role that is not listed lies at the bottom.
_ORDER = ("probability", "clusters", "mask", "preview", "uncertainty", "patches", "annotations")


def rank(role: str) -> int:
    """The place of a role in the order, from the bottom."""
    return _ORDER.index(role) if role in _ORDER else -1


def place_of(
    viewer: ViewerModel, role: str, outputs: Mapping[tuple[str, str], Layer], image: Layer | None
) -> int:
    """The index in the list of layers at which a layer of this role belongs.

    Args:
        viewer: with the layers.
        role: of the layer.
        outputs: the other layers of the dock, by role and volume.
        image: of the volume, which lies below.
    """
    layers = viewer.layers
    higher = [
        layers.index(layer)
        for (other, _), layer in outputs.items()
        if rank(other) > rank(role) and layer in layers
    ]
    index = min(higher, default=len(layers))
    # The user may have moved the image up.
    return max(index, layers.index(image) + 1) if image in layers else index
