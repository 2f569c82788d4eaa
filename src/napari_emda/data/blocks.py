"""Cut a volume into blocks that follow the chunks of the file: memory holds one block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from napari_emda.data.array import Array
from napari_emda.data.box import Box

# Voxels that a block holds at most, unless a single chunk of the file is larger: 16 MiB in float32.
# Smaller blocks have more faces and more Python calls per voxel; larger ones only take memory.
BLOCK_VOXELS = 2**22
# Rows of a strip at least: of a file in tiles, all tiles that a strip meets are decoded.
_STRIP_ROWS = 512
# 1/g and 1/g^2 of the plastic number g = 1.3247..., which solves g^3 = g + 1. Multiples of them,
# modulo 1, fill a square more evenly than random numbers (Roberts 2018, sequence R2).
R2_STEPS = (0.7548776662466927, 0.5698402909980532)


def chunk_shape(array: Array) -> tuple[int, int, int]:
    """The (z, y, x) chunk in which an array is stored.

    An array without chunks counts as stored in single sections of 512 x 512 pixels.
    """
    chunks = getattr(array, "chunks", None)
    if chunks is None:
        sides: tuple[int, ...] = (1, 512, 512)
    else:
        # Dask lists every chunk along an axis, zarr gives one side per axis.
        sides = tuple(max(side) if isinstance(side, tuple) else side for side in chunks[-3:])
    # An empty axis still needs a positive step, hence `or 1`.
    z, y, x = (min(side, n) or 1 for side, n in zip(sides, array.shape[-3:], strict=True))
    return z, y, x


def block_shape(array: Array, voxels: int = BLOCK_VOXELS) -> tuple[int, int, int]:
    """A (z, y, x) block of whole chunks with about ``voxels`` voxels."""
    block = list(chunk_shape(array))
    shape = array.shape[-3:]
    # First along x and y: most work goes section by section, and wants whole ones.
    for axis in (2, 1, 0):
        while block[axis] < shape[axis] and 2 * math.prod(block) <= voxels:
            block[axis] *= 2
    z, y, x = (min(side, n) or 1 for side, n in zip(block, shape, strict=True))
    return z, y, x


def blocks(box: Box, size: tuple[int, int, int]) -> list[Box]:
    """Boxes of at most ``size`` voxels a side that cover ``box`` once, in (z, y, x) order.

    They lie on the grid of the whole array, so that a box in its middle still reads whole chunks.
    """
    axes = [
        list(_intervals(start, stop, step))
        for start, stop, step in zip(box.start, box.stop, size, strict=True)
    ]
    return [
        Box((z0, y0, x0), (z1, y1, x1)) for (z0, z1), (y0, y1), (x0, x1) in itertools.product(*axes)
    ]


def _intervals(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    for low in range(start - start % step, stop, step):
        yield max(low, start), min(low + step, stop)


def strips(box: Box) -> list[Box]:
    """The sections of a box, those of many voxels in strips of whole rows.

    For work section by section: memory holds `BLOCK_VOXELS` or `_STRIP_ROWS` rows.
    """
    sections, rows, columns = box.shape
    height = min(rows, max(_STRIP_ROWS, BLOCK_VOXELS // max(1, columns)))
    return blocks(box, (1, max(1, height), max(1, box.stop[2]))) if sections else []


def spread(box: Box, count: int, side: int) -> list[Box]:
    """Rectangles in single sections, spread evenly over a box along z, y and x.

    Sections are evenly spaced; the places in them follow the sequence R2.

    Args:
        box: to spread them over.
        count: number of rectangles; fewer are returned if some would be the same.
        side: of a rectangle, in voxels; less along an axis on which the box is smaller.
    """
    sections, *extent = box.shape
    z0, y0, x0 = box.start
    height, width = (min(side, n) for n in extent)
    boxes = []
    for i in range(count):
        z = z0 + int((i + 0.5) * sections / count)
        row_share, column_share = ((0.5 + (i + 1) * step) % 1 for step in R2_STEPS)
        y = y0 + round(row_share * (extent[0] - height))
        x = x0 + round(column_share * (extent[1] - width))
        boxes.append(Box((z, y, x), (z + 1, y + height, x + width)))
    return list(dict.fromkeys(boxes))


def drawn(box: Box, count: int, side: int, seed: int = 0) -> list[Box]:
    """Squares in single sections, drawn at random from a grid that covers a box once.

    Every pixel is equally likely to be drawn.

    Args:
        box: to cover.
        count: squares to draw, without repetition; all if there are fewer.
        side: of a square; squares at the far ends are cut off by the box.
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
