"""Masks and clusters for napari, computed from probabilities where they are sliced."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from napari_emda.data.array import Array
from napari_emda.data.probabilities import Mask


class Clusters(Mask):
    """The most probable cluster of each voxel, from 1.

    Args:
        probabilities: of the clusters, uint8 (k, z, y, x).
    """

    def __init__(self, probabilities: Array) -> None:
        super().__init__(probabilities)
        self._last: tuple[Any, NDArray[np.uint8]] | None = None

    def forget(self) -> None:
        """Read again the next time, because the prediction on disk has changed."""
        self._last = None

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        # The last result is kept: a large section of many clusters takes half a second, and is
        # drawn again in other colours whenever a cluster is named.
        key = tuple((part.start, part.stop, part.step) for part in (z, y, x))
        # Only the last one: napari slices the section on view, and a volume would fill the memory.
        if self._last is None or self._last[0] != key:
            self._last = key, super()._read(z, y, x)
        return self._last[1]


class MaskOnView(Mask):
    """The mask without small objects; change an attribute and refresh the layer.

    Attributes:
        smallest: objects with fewer pixels in a section are left out.
    """

    def __init__(self, probabilities: Array, threshold: float = 0.5, smallest: int = 0) -> None:
        super().__init__(probabilities, threshold)
        self.smallest = smallest

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        if self.smallest <= 1:
            return super()._read(z, y, x)
        # Whole sections, so that an object at the edge of the requested part keeps its size.
        classes = super()._read(z, slice(None), slice(None))
        for section in classes:
            drop_small(section, self.smallest)
        return classes[:, y, x]


def drop_small(section: NDArray[np.uint8], smallest: int) -> None:
    """Set objects of fewer pixels to background, in place."""
    # Classes that touch are separate objects: `label` joins equal values only.
    objects = label(section, connectivity=1)
    small = np.bincount(objects.ravel()) < smallest
    small[0] = False  # the background is no object
    section[small[objects]] = 0
