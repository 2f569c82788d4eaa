"""Image layers that hold labels, as when a mask is opened from a TIFF. No Qt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Layer

from napari_emda._gui.common.layer_volumes import array_of, palette_numbers, refusal
from napari_emda._gui.session import Session
from napari_emda.data.label_likeness import Likeness, likeness

# Kept while the layer exists: layers are listed again at every change of the viewer.
_likeness: WeakKeyDictionary[Layer, Likeness] = WeakKeyDictionary()
LABEL_LAYERS = (
    "Labels layers are listed, and images that look like a mask; for any other image, right-click "
    "the layer > Convert to Labels."
)
_WITH_NAN = (
    "looks like a mask, but holds NaN, which is no number: replace it by one, such as 255, and say "
    "here what that means"
)


class MaskLayers:
    """Tells image layers that hold labels; those on disk are read in the background.

    Args:
        session: of the dock.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stop = threading.Event()
        session.closing.connect(self._stop.set)

    def __call__(self, layer: Layer) -> bool:
        """Whether an image layer holds labels; False until it was read."""
        if not isinstance(layer, Image):
            return False
        return self._likeness(layer) != "image"

    def _likeness(self, layer: Image) -> Likeness:
        if layer.rgb and layer not in _likeness and layer.source.path is not None:
            self._read(layer, lambda: "image" if palette_numbers(layer) is None else "labels")
        if refusal(layer) is not None:
            return _likeness.get(layer, "image")
        if layer not in _likeness:
            array = array_of(layer)
            if isinstance(array, np.ndarray):
                _likeness[layer] = likeness(array)
            elif not self._stop.is_set():
                # A lazy layer may be on a slow disk, or be computed.
                self._read(layer, lambda: likeness(array))
        return _likeness.get(layer, "image")

    def _read(self, layer: Image, read: Callable[[], Likeness]) -> None:
        """Find out in the background what a layer looks like; it counts as an image until then."""
        _likeness[layer] = "image"
        self._session.in_background(read, partial(self._on_read, layer), lambda text: None)

    def refusal(self, layer: Layer) -> str | None:
        """Why a layer cannot be used as labels; None if it can."""
        if not self(layer):
            return refusal(layer)
        # Colours are no reason where the file has the numbers.
        return _WITH_NAN if _likeness[layer] == "labels with NaN" else None

    def _on_read(self, layer: Layer, found: Likeness) -> None:
        _likeness[layer] = found
        if found != "image":
            # All lists of labels hear of it, whichever has asked.
            self._session.mask_found.emit()
