"""A mark on layers of volumes, so that a dock that is opened again finds and uses them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

from napari.layers import Layer

from napari_emda._gui.common.layer_volumes import location_of


class _Mark(NamedTuple):
    """What a layer shows: the folder of a project, a volume of it, ``image`` or ``labels``."""

    folder: str
    volume: str
    kind: str
    is_ours: bool


# Names would not do: users rename layers, and other layers have the same. Nor would the metadata of
# a layer: duplicating, converting, or splitting it copies them, and the copy shows something else.
_MARKS: WeakKeyDictionary[Layer, _Mark] = WeakKeyDictionary()


def mark(layer: Layer, folder: Path, volume: str, kind: str, *, is_ours: bool) -> None:
    """Note what a layer shows.

    Args:
        layer: of a volume.
        folder: of the project.
        volume: its name.
        kind: ``image`` or ``labels``.
        is_ours: whether the dock has added the layer, rather than the user.
    """
    _MARKS[layer] = _Mark(str(folder), volume, kind, is_ours)


def marked(layers: Iterable[Layer], folder: Path, volume: str, kind: str) -> Layer | None:
    """The first layer with such a mark; None if there is none."""
    wanted = (str(folder), volume, kind)
    return next((layer for layer in layers if _MARKS.get(layer, ())[:3] == wanted), None)


def is_own(layer: Layer) -> bool:
    """Whether a dock has added a marked layer."""
    found = _MARKS.get(layer)
    return found is not None and found.is_ours


def opened_from(layers: Iterable[Layer], path: Path, of: type[Layer]) -> Layer | None:
    """The only layer of a type that napari has read from a file; None for none or several.

    Several come from a file with channels or times: which of them is the volume is not known.
    """
    found = [
        layer
        for layer in layers
        if isinstance(layer, of)
        and layer.ndim <= 3
        and (opened := location_of(layer)) is not None
        and opened.resolve() == path.resolve()
    ]
    return found[0] if len(found) == 1 else None
