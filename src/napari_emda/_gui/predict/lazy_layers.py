"""Masks and clusters that napari slices, worked out from probabilities where they are sliced."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from napari_emda.data.lazy import Lazy3D
from napari_emda.data.probabilities import class_ids
from napari_emda.data.volume import Array


class ClassProbability(Lazy3D):
    """The probability (uint8) of one class, from ``probabilities`` (class - 1, z, y, x) as they are on disk."""

    def __init__(self, probabilities: Array, index: int) -> None:
        _, z, y, x = probabilities.shape
        super().__init__((z, y, x), probabilities.dtype)
        self.probabilities, self._index = probabilities, index

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        return np.asarray(self.probabilities[self._index, z, y, x])


class Clusters(Lazy3D):
    """The likeliest cluster of each voxel, from 1, from probabilities (k, z, y, x) as they are on disk."""

    def __init__(self, probabilities: Array) -> None:
        _, z, y, x = probabilities.shape
        super().__init__((z, y, x), np.uint8)
        self._probabilities = probabilities
        self._last: tuple[Any, NDArray[Any]] | None = None

    def forget(self) -> None:
        """What is on disk has changed."""
        self._last = None

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        # What was read last is kept: a large section of many clusters takes half a second, and is drawn again, in
        # other colours, whenever a cluster is named.
        key = tuple((part.start, part.stop, part.step) for part in (z, y, x))
        if self._last is None or self._last[0] != key:
            self._last = key, class_ids(np.asarray(self._probabilities[:, z, y, x]))
        return self._last[1]


class Mask(Lazy3D):
    """Class ids (0 = background) from probabilities; change an attribute and refresh the layer.

    Attributes:
        probabilities: uint8 (class - 1, z, y, x).
        threshold: probability from which on a voxel belongs to a class; the likeliest class wins.
        smallest: objects with fewer pixels in a section are left out.
    """

    def __init__(self, probabilities: Array, threshold: float = 0.5, smallest: int = 0) -> None:
        _, z, y, x = probabilities.shape
        super().__init__((z, y, x), np.uint8)
        self.probabilities = probabilities
        self.threshold, self.smallest = threshold, smallest

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        # Whole sections, so that an object at the edge of what is asked for keeps its size.
        values = np.asarray(self.probabilities[:, z])
        classes = classify(values, self.threshold)
        if self.smallest > 1:
            for section in classes:
                drop_small(section, self.smallest)
        return classes[:, y, x]


def classify(probabilities: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    """Class ids from the probabilities (uint8) of classes 1 and up, the first axis: the likeliest above a threshold."""
    likeliest = probabilities.argmax(0).astype(np.uint8)
    return np.where(
        probabilities.max(0) >= max(1, round(threshold * 255)), likeliest + 1, 0
    ).astype(np.uint8)


def drop_small(section: NDArray[np.uint8], smallest: int) -> None:
    """Set objects of fewer pixels to background, in place."""
    objects = label(section, connectivity=1)
    small = np.bincount(objects.ravel()) < smallest
    small[0] = False
    section[small[objects]] = 0
