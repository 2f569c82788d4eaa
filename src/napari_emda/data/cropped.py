"""A part of stored channels, as an array of its own."""

from __future__ import annotations

from typing import Any

from napari_emda.data.array import Array
from napari_emda.data.blocks import chunk_shape
from napari_emda.data.box import Box


class Cropped:
    """The voxels of a box of a (channel, z, y, x) array, read where they are sliced.

    Args:
        array: of the whole volume.
        box: inside the volume.

    Attributes:
        chunks: sides of the array's chunks, which need not begin where the box does.
    """

    ndim = 4

    def __init__(self, array: Array, box: Box) -> None:
        self._array = array
        self._box = box
        self.shape = (array.shape[0], *box.shape)
        self.dtype = array.dtype
        self.chunks = (1, *chunk_shape(array))

    def __getitem__(self, key: Any) -> Any:
        """Slices with a positive step, or indices of a voxel, as `Lazy3D` passes them on."""
        channel, *voxels = key
        moved = [
            _moved(part, start, size)
            for part, start, size in zip(voxels, self._box.start, self._box.shape, strict=True)
        ]
        return self._array[(channel, *moved)]


def _moved(part: int | slice, start: int, size: int) -> int | slice:
    if not isinstance(part, slice):
        return start + part
    low, high, step = part.indices(size)
    return slice(start + low, start + high, step)
