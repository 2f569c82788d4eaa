"""Image layers that hold labels, as when a mask is opened from a TIFF. No Qt."""

from __future__ import annotations

import threading
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Layer
from psygnal import Signal

from napari_emda._gui.common.layer_volumes import array_of, palette_numbers, refusal
from napari_emda._gui.session import Session
from napari_emda.data.label_likeness import seems_labels

# Kept while the layer exists: layers are listed again at every change of the viewer.
_is_mask: WeakKeyDictionary[Layer, bool] = WeakKeyDictionary()


class MaskLayers:
    """Tells image layers that hold labels; those on disk are read in the background.

    Args:
        session: of the dock.
    """

    found = Signal()
    """A layer was read and holds labels."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stop = threading.Event()
        session.closing.connect(self._stop.set)

    def __call__(self, layer: Layer) -> bool:
        """Whether an image layer holds labels; False until it was read."""
        if not isinstance(layer, Image):
            return False
        if layer.rgb and layer not in _is_mask and layer.source.path is not None:
            _is_mask[layer] = False
            self._session.in_background(
                lambda: palette_numbers(layer) is not None,
                partial(self._on_read, layer),
                lambda text: None,
            )
        if refusal(layer) is not None:
            return _is_mask.get(layer, False)
        if layer not in _is_mask:
            array = array_of(layer)
            _is_mask[layer] = False
            if isinstance(array, np.ndarray):
                _is_mask[layer] = seems_labels(array)
            elif not self._stop.is_set():
                # A lazy layer may be on a slow disk, or be computed.
                self._session.in_background(
                    lambda: seems_labels(array), partial(self._on_read, layer), lambda text: None
                )
        return _is_mask[layer]

    def refusal(self, layer: Layer) -> str | None:
        """Why a layer cannot be used as labels; None if it can."""
        # Colours are no reason where the file has the numbers.
        return None if self(layer) else refusal(layer)

    def _on_read(self, layer: Layer, holds_labels: bool) -> None:
        _is_mask[layer] = holds_labels
        if holds_labels:
            self.found.emit()
