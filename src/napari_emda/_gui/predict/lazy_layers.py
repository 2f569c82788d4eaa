"""Layers for napari that are computed from probabilities where they are sliced."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from skimage.measure import label

from napari_emda._gui.common.copies import CopiedAsArray
from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.class_colours import class_rgb
from napari_emda.data.coverage import Coverage
from napari_emda.data.probabilities import ClassProbability, Mask


class Clusters(CopiedAsArray, Mask):
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


class ColouredProbability:
    """The most probable class of each voxel in its colour, as opaque as it is probable.

    One layer for all classes, uint8 (z, y, x, 4).

    Args:
        probabilities: uint8 (C - 1, z, y, x).

    Attributes:
        probabilities: may be replaced by others of the same shape.
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(self, probabilities: Array) -> None:
        self.probabilities = probabilities
        self.shape = (*probabilities.shape[1:], 4)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        voxels = key if isinstance(key, tuple) else (key,)
        # napari takes the colours whole; a fourth index chooses among them.
        channel = voxels[3] if len(voxels) > 3 else slice(None)
        classes = range(1, self.probabilities.shape[0] + 1)
        values = [ClassProbability(self.probabilities, k)[voxels[:3]] for k in classes]
        return coloured(np.stack(values))[..., channel]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)


def coloured(probabilities: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colour of the most probable class, as opaque as it is probable.

    Args:
        probabilities: uint8 (C - 1, ...), stored probabilities of the classes 1 to C - 1.

    Returns:
        uint8 (..., 4), red, green, blue and opacity.
    """
    colours = np.array([class_rgb(k + 1) for k in range(len(probabilities))], np.uint8)
    values = np.empty((*probabilities.shape[1:], 4), np.uint8)
    values[..., :3] = colours[probabilities.argmax(0)]
    values[..., 3] = probabilities.max(0)
    return values


class NotPredicted(CopiedAsArray):
    """1 where a volume is not predicted, 0 elsewhere, uint8 (z, y, x).

    Attributes:
        part: that is predicted; may be replaced by another one of the same volume.
    """

    def __init__(self, part: Coverage) -> None:
        super().__init__(part.shape, np.uint8)
        self.part = part

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        box = Box((z.start, y.start, x.start), (z.stop, y.stop, x.stop))
        steps = tuple(slice(None, None, axis.step) for axis in (z, y, x))
        return np.asarray(~self.part.inside(box)[steps], np.uint8)


class MaskOnView(CopiedAsArray, Mask):
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
