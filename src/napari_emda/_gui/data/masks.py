"""Image layers that hold labels, as when a mask is opened from a TIFF. No Qt."""

from __future__ import annotations

import threading
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Layer
from psygnal import Signal

from napari_emda._gui.common.layer_volumes import array_of, refusal
from napari_emda._gui.session import Session
from napari_emda.data.array import Array

# Sections that are read, and rows of each, evenly spaced: they cross the structures of the whole
# volume, and are compared in a moment.
_SECTIONS = 5
_ROWS = 96
# Values of a mask. Grey values are more, even of an image of low contrast.
_VALUES_OF_A_MASK = 4
# Share of pixels with the value of the pixel beside them, the most common value aside. In labels of
# objects it is above .8 from ten pixels of diameter on, in electron micrographs below .2.
_EQUAL_NEIGHBOURS = 0.6

# Kept while the layer exists: layers are listed again at every change of the viewer.
_known: WeakKeyDictionary[Layer, bool] = WeakKeyDictionary()


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
        if not isinstance(layer, Image) or refusal(layer) is not None:
            return False
        if layer not in _known:
            array = array_of(layer)
            _known[layer] = False
            if isinstance(array, np.ndarray):
                _known[layer] = seems_labels(array)
            elif not self._stop.is_set():
                # A lazy layer may be on a slow disk, or be computed.
                self._session.in_background(
                    lambda: seems_labels(array), partial(self._on_read, layer), lambda text: None
                )
        return _known[layer]

    def _on_read(self, layer: Layer, holds_labels: bool) -> None:
        _known[layer] = holds_labels
        if holds_labels:
            self.found.emit()


def seems_labels(array: Array) -> bool:
    """Whether an array (z, y, x) looks like a mask or labels of objects, not like grey values."""
    if np.dtype(array.dtype).kind not in "buif" or min(array.shape) < 1:
        return False
    depth, height, _ = array.shape
    sections = np.unique(np.linspace(0, depth - 1, min(depth, _SECTIONS)).astype(int))
    rows = slice(None, None, -(-height // _ROWS))
    values = np.stack([np.asarray(array[z])[rows] for z in sections.tolist()])
    # Labels are whole numbers, also where a program has stored them as decimal ones.
    if values.dtype.kind == "f" and not (values == np.round(values)).all():
        return False
    numbers, counts = np.unique(values, return_counts=True)
    # A single value is nothing in particular: a layer that is still empty, or padding.
    if len(numbers) <= _VALUES_OF_A_MASK:
        return len(numbers) > 1
    left = values[..., :-1]
    # Background and padding are uniform in both kinds of images, and say nothing.
    inside = left != numbers[counts.argmax()]
    return bool((left == values[..., 1:])[inside].mean() > _EQUAL_NEIGHBOURS)
