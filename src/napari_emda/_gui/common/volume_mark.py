"""A mark on layers of volumes, so that a dock that is opened again finds and uses them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from napari.layers import Layer

# Key of `Layer.metadata`. Names would not do: users rename layers, and other layers have the same.
_KEY = "napari-emda: shows"


def mark(layer: Layer, folder: Path, volume: str, kind: str, *, own: bool) -> None:
    """Note what a layer shows.

    Args:
        layer: of a volume.
        folder: of the project.
        volume: its name.
        kind: ``image`` or ``labels``.
        own: whether the dock has added the layer, rather than the user.
    """
    layer.metadata[_KEY] = (str(folder), volume, kind, own)


def marked(layers: Iterable[Layer], folder: Path, volume: str, kind: str) -> Layer | None:
    """The first layer with such a mark; None if there is none."""
    wanted = (str(folder), volume, kind)
    return next((layer for layer in layers if layer.metadata.get(_KEY, ())[:3] == wanted), None)


def is_own(layer: Layer) -> bool:
    """Whether a dock has added a marked layer."""
    return bool(layer.metadata.get(_KEY, (False,))[-1])


def opened_from(layers: Iterable[Layer], path: Path, of: type[Layer]) -> Layer | None:
    """The only layer of a type that napari has read from a file; None for none or several.

    Several come from a file with channels or times: which of them is the volume is not known.
    """
    found = [
        layer
        for layer in layers
        if isinstance(layer, of)
        and layer.ndim <= 3
        and layer.source.path is not None
        and Path(layer.source.path).resolve() == path.resolve()
    ]
    return found[0] if len(found) == 1 else None
