"""Cutting a volume into blocks that follow the chunks of the file: memory holds one block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from napari_emda.data.array import Array
from napari_emda.data.box import Box

BLOCK_VOXELS = 2**22
"""Voxels that a block holds at most, unless a single chunk of the file is larger."""
_R2 = np.array([0.7548776662466927, 0.5698402909980532])


def chunk_shape(array: Array) -> tuple[int, int, int]:
    """The (z, y, x) chunk in which an array is stored.

    One section of at most 512 x 512 where the array does not say.
    """
    chunks = getattr(array, "chunks", None)
    if chunks is None:
        sides: tuple[int, ...] = (1, 512, 512)
    else:  # dask lists every chunk along an axis, zarr gives one side per axis
        sides = tuple(max(side) if isinstance(side, tuple) else side for side in chunks[-3:])
    z, y, x = (min(side, n) or 1 for side, n in zip(sides, array.shape[-3:], strict=True))
    return z, y, x


def block_shape(array: Array, voxels: int = BLOCK_VOXELS) -> tuple[int, int, int]:
    """Whole chunks of an array's last three axes that together hold about ``voxels`` voxels."""
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
    return [
        Box((z0, y0, x0), (z1, y1, x1)) for (z0, z1), (y0, y1), (x0, x1) in itertools.product(*axes)
    ]


def _intervals(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    for low in range(start - start % size, stop, size):
        yield max(low, start), min(low + size, stop)


def spread(box: Box, count: int, side: int) -> list[Box]:
    """Rectangles in single sections, spread evenly over a box along z, y and x.

    Fewer where some would be the same. Sections follow each other evenly, places in them an
    additive recurrence of low discrepancy (Roberts 2018, R2).
    """
    size = [min(side, n) for n in box.shape[1:]]
    boxes = []
    for i in range(count):
        z = box.start[0] + int((i + 0.5) * box.shape[0] / count)
        shares = (0.5 + (i + 1) * _R2) % 1
        y, x = (
            a + round(float(share) * (n - s))
            for a, share, n, s in zip(box.start[1:], shares, box.shape[1:], size, strict=True)
        )
        boxes.append(Box((z, y, x), (z + 1, y + size[0], x + size[1])))
    return list(dict.fromkeys(boxes))


def drawn(box: Box, count: int, side: int, seed: int = 0) -> list[Box]:
    """Rectangles in single sections, drawn from a grid that covers a box.

    Every pixel is as likely as the others.

    Args:
        box: to cover.
        count: squares to draw, without repetition; all where there are no more.
        side: of a square; those at the far ends are smaller where it does not fit.
        seed: of the draw.
    """
    _, y1, x1 = box.stop
    grid = (box.shape[0], -(-box.shape[1] // side), -(-box.shape[2] // side))
    total = math.prod(grid)
    chosen = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))
    corners = np.stack(np.unravel_index(chosen, grid), axis=1) * (1, side, side) + box.start
    return [
        Box((z, y, x), (z + 1, min(y + side, y1), min(x + side, x1)))
        for z, y, x in corners.tolist()
    ]
