"""The order and the names of the layers of the dock, which make them one group in the list."""

from __future__ import annotations

from collections.abc import Mapping

from napari.components import ViewerModel
from napari.layers import Layer

PREFIX = "emda: "
"""How the names of all outputs begin."""
# Roles from bottom to top. What the user works on lies above what the model says, and that above
# the images. A role that is not listed lies at the bottom.
_ORDER = (
    *("not predicted", "probability", "clusters", "mask", "preview", "uncertainty"),
    *("preview of objects", "objects", "object", "seeds"),
    *("patches", "annotations", "preview of a correction", "check point"),
)


def _rank(role: str) -> int:
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
        if _rank(other) > _rank(role) and layer in layers
    ]
    index = min(higher, default=len(layers))
    # The user may have moved the image up.
    return max(index, layers.index(image) + 1) if image in layers else index


def arrange(viewer: ViewerModel, image: Layer, outputs: Mapping[str, Layer]) -> None:
    """Move the outputs of a volume above its image and into their order, if the user moved them.

    Args:
        viewer: with the layers.
        image: of the volume.
        outputs: of the volume, by role.
    """
    layers = viewer.layers
    ordered = [outputs[role] for role in sorted(outputs, key=_rank)]
    indices = [layers.index(layer) for layer in (image, *ordered)]
    if indices == sorted(indices):
        return
    for layer in ordered:
        layers.move(layers.index(layer), len(layers))
