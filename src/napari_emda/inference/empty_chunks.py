"""Chunks of a prediction whose image is constant, such as padding: no network is asked."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.inference.tiles import Span, Tile
from napari_emda.project.stored_prediction import CHUNK

Empty = NDArray[np.bool_]
"""Which chunks of a tile are empty, (section, row of chunks, column of chunks)."""

# Sides in voxels of the smallest chunk that can be empty: at the far edges of a volume, a few
# voxels of tissue may have one grey value by chance.
_SMALLEST = 16
# Relative difference up to which grey values are equal: resampling and standardising round in
# float32.
_ROUNDING = 1e-5


def empty_chunks(view: Resampled, tile: Tile, image: NDArray[Any], reach: int = 0) -> Empty:
    """Find the chunks in which a tile's image has one grey value, but for very small ones.

    The answer for a chunk does not depend on the tile: of a tile that is part of a chunk, the whole
    chunk is looked at.

    Args:
        view: the volume at the network's pixel size.
        tile: the tile.
        image: of what the network sees of it, (section, rows, columns), in any linear scale.
        reach: pixels beside one that its value depends on, if the image is filtered.
    """
    rows, columns = (_parts_of_chunks(tile, axis) for axis in (1, 2))
    empty = np.zeros((len(image), len(rows), len(columns)), bool)
    is_exact = view.scale == (1, 1) and not reach
    for row, (top, bottom) in enumerate(rows):
        for column, (left, right) in enumerate(columns):
            chunk = _chunk_around(view.volume.shape, top, left)
            if min(chunk.shape[1:]) < _SMALLEST:
                continue
            height = slice(*_pixels(view, tile, 1, (top, bottom), reach))
            width = slice(*_pixels(view, tile, 2, (left, right), reach))
            constant = _are_constant(image[:, height, width])
            if not is_exact or chunk.shape[1:] != (bottom - top, right - left):
                # Few are asked about: what is constant in part is so as a whole, as a rule.
                for index in np.flatnonzero(constant):
                    z = tile.seen.start[0] + int(index)
                    constant[index] = _are_constant(view.volume.read(chunk.in_sections(z, z + 1)))[
                        0
                    ]
            empty[:, row, column] = constant
    return empty


def voxels_of(tile: Tile, empty: Empty) -> NDArray[np.bool_]:
    """Which voxels that are written of a tile lie in empty chunks, (z, y, x)."""
    heights, widths = (
        [stop - start for start, stop in _parts_of_chunks(tile, axis)] for axis in (1, 2)
    )
    return empty.repeat(heights, axis=1).repeat(widths, axis=2)


def _are_constant(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Which sections of an image have one grey value; all if there is none."""
    if not image[0].size:
        return np.ones(len(image), bool)
    # The first row tells tissue, so that a GPU does not wait for threads that read all of it.
    constant = _have_one_value(image[:, :1])
    constant[constant] = _have_one_value(image[constant])
    return constant


def _have_one_value(image: NDArray[Any]) -> NDArray[np.bool_]:
    low = image.min((1, 2)).astype(np.float64)
    high = image.max((1, 2)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        # Infinity is no constant: it is refused where it is predicted.
        return np.asarray(high - low <= _ROUNDING * (1 + np.abs(high)))


def _parts_of_chunks(tile: Tile, axis: int) -> list[Span]:
    """The parts of a tile's voxels along an axis that lie in one chunk each."""
    start = tile.native.start[axis]
    stop = tile.native.stop[axis]
    return list(pairwise([start, *range((start // CHUNK + 1) * CHUNK, stop, CHUNK), stop]))


def _chunk_around(shape: tuple[int, int, int], y: int, x: int) -> Box:
    """The chunk of the first section that holds a row and a column."""
    top = y // CHUNK * CHUNK
    left = x // CHUNK * CHUNK
    return Box((0, top, left), (1, top + CHUNK, left + CHUNK)).clip(shape)


def _pixels(view: Resampled, tile: Tile, axis: int, voxels: Span, reach: int) -> Span:
    """The pixels, of those that are seen, whose values depend on some voxels alone."""
    start, stop = voxels
    scale = view.scale[axis - 1]
    if scale != 1:
        # Resampling mixes the voxels on both sides of an end, a pixel wide at most.
        start = math.ceil(start * scale) + 1
        stop = math.floor(stop * scale) - 1
    first_seen = tile.seen.start[axis]
    low = start + reach - first_seen
    return low, max(low, stop - reach - first_seen)
