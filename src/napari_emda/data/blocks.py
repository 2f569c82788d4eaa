"""Cutting a volume into blocks that follow the chunks of the file, so that memory is bounded by one block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Protocol

from napari_emda.data.volume import Array, Box

BLOCK_VOXELS = 2**22
"""Voxels that a block holds at most, unless a single chunk of the file is larger."""


class WritableArray(Array, Protocol):
    """An array whose boxes can be written: NumPy, memmap, zarr."""

    def __setitem__(self, key: Any, value: Any, /) -> None: ...


def chunk_shape(array: Array) -> tuple[int, int, int]:
    """The (z, y, x) chunk in which an array is stored; one section of at most 512 x 512 where it does not say."""
    chunks = getattr(array, "chunks", None)
    if chunks is None:
        sides: tuple[int, ...] = (1, 512, 512)
    else:  # dask lists every chunk along an axis, zarr gives one side per axis
        sides = tuple(max(side) if isinstance(side, tuple) else side for side in chunks[-3:])
    z, y, x = (min(side, n) or 1 for side, n in zip(sides, array.shape[-3:], strict=True))
    return z, y, x


def block_shape(array: Array, voxels: int = BLOCK_VOXELS) -> tuple[int, int, int]:
    """Whole chunks of ``array`` (its last three axes) that together hold about ``voxels`` voxels."""
    block, shape = list(chunk_shape(array)), array.shape[-3:]
    for axis in (2, 1, 0):
        while block[axis] < shape[axis] and 2 * math.prod(block) <= voxels:
            block[axis] *= 2
    z, y, x = (min(side, n) or 1 for side, n in zip(block, shape, strict=True))
    return z, y, x


def blocks(box: Box, size: tuple[int, int, int]) -> list[Box]:
    """Boxes of at most ``size`` voxels a side that cover ``box`` once each, in (z, y, x) order.

    They lie on the grid of the whole array, so that a box in its middle still reads whole chunks.
    """
    axes = [list(_intervals(a, b, n)) for a, b, n in zip(box.start, box.stop, size, strict=True)]
    return [Box((z0, y0, x0), (z1, y1, x1)) for (z0, z1), (y0, y1), (x0, x1) in itertools.product(*axes)]


def _intervals(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    for low in range(start - start % size, stop, size):
        yield max(low, start), min(low + size, stop)
