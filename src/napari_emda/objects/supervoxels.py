"""A brush that keeps to edges: its dabs are rounded to small areas between edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from napari_emda.data.probabilities import CERTAIN
from napari_emda.objects.flood import Mask, Pixel, steepness_of

# Areas are found in squares of this side when the brush comes there: 30 ms each.
_TILE = 256
# Pixels around a square that are filtered with it: the Gauss filter of 1 pixel ends there.
_RIM = 4
# Side in pixels of the smallest areas: those of fewer pixels follow the noise.
_SMALLEST = 4
# Weight of the map's edges against those of the image, both being 1 on average. With it, areas
# that are assigned to their majority reach an IoU of .91 on Lucchi (8 pixels wide, with a map of a
# quarter of the resolution), .87 without the map.
_OF_MAP = 0.5
# How much areas prefer to be round, in units of the mean steepness: without it they run along
# edges (IoU .87 instead of .91 on the same).
_ROUND = 0.01


class Supervoxels:
    """Small areas of a section that do not cross edges of the image or of the map.

    A watershed of both, from a grid of markers.

    Args:
        image: of the section, (y, x).
        probability: of all foreground classes together, uint8 (y, x); None for the image alone.
        side: of the areas in pixels; about the diameter of the brush.
    """

    def __init__(
        self,
        image: NDArray[np.generic],
        probability: NDArray[np.uint8] | None,
        side: int,
    ) -> None:
        self._image = np.asarray(image, np.float32)
        self._probability = probability
        self._side = max(side, _SMALLEST)
        self._tiles: dict[tuple[int, int], NDArray[np.int32]] = {}
        self._count = 0

    def snapped(self, dab: Mask, corner: Pixel, centre: Pixel) -> tuple[Mask, Pixel]:
        """Round a dab of the brush to areas: those of which it covers half, and that at its centre.

        Args:
            dab: of the brush, bool (h, w).
            corner: (y, x) of the dab in the section; it may lie outside.
            centre: (y, x) of the dab in the section.

        Returns:
            A mask, bool (h, w), and its corner (y, x).
        """
        height, width = self._image.shape
        low = [max(0, a) for a in corner]
        inside = dab[low[0] - corner[0] :, low[1] - corner[1] :]
        inside = inside[: max(0, height - low[0]), : max(0, width - low[1])]
        rows, columns = inside.shape
        if not inside.any():
            return inside, (low[0], low[1])
        # Areas reach beyond the dab by little more than their side.
        by = 2 * self._side
        y0, x0 = max(0, low[0] - by), max(0, low[1] - by)
        y1, x1 = min(height, low[0] + rows + by), min(width, low[1] + columns + by)
        ids = self.ids(slice(y0, y1), slice(x0, x1))
        covered = np.zeros(ids.shape, bool)
        covered[low[0] - y0 : low[0] - y0 + rows, low[1] - x0 : low[1] - x0 + columns] = inside
        sizes = np.bincount(ids.ravel())
        taken = 2 * np.bincount(ids[covered], minlength=len(sizes)) >= sizes
        middle = (centre[0] - y0, centre[1] - x0)
        if all(0 <= i < n for i, n in zip(middle, ids.shape, strict=True)):
            taken[ids[middle]] = True
        return np.asarray(taken[ids]), (y0, x0)

    def ids(self, rows: slice, columns: slice) -> NDArray[np.int32]:
        """Numbers of the areas in a part of the section, int32 (y, x), from 1."""
        out = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int32)
        for i in range(rows.start // _TILE, -(-rows.stop // _TILE)):
            for j in range(columns.start // _TILE, -(-columns.stop // _TILE)):
                tile = self._tile(i, j)
                y, x = i * _TILE, j * _TILE
                top, left = max(rows.start, y), max(columns.start, x)
                bottom = min(rows.stop, y + tile.shape[0])
                right = min(columns.stop, x + tile.shape[1])
                out[
                    top - rows.start : bottom - rows.start,
                    left - columns.start : right - columns.start,
                ] = tile[top - y : bottom - y, left - x : right - x]
        return out

    def _tile(self, i: int, j: int) -> NDArray[np.int32]:
        if (i, j) not in self._tiles:
            # Numbers of different squares differ.
            tile = self._areas(i * _TILE, j * _TILE) + np.int32(self._count)
            self._count = int(tile.max())
            self._tiles[i, j] = tile
        return self._tiles[i, j]

    def _areas(self, y: int, x: int) -> NDArray[np.int32]:
        wide = np.s_[max(0, y - _RIM) : y + _TILE + _RIM, max(0, x - _RIM) : x + _TILE + _RIM]
        inside = np.s_[min(y, _RIM) :, min(x, _RIM) :]
        edges = _evened(steepness_of(self._image[wide]))
        if self._probability is not None:
            of_map = steepness_of(self._probability[wide].astype(np.float32) / CERTAIN)
            edges = edges + np.float32(_OF_MAP) * _evened(of_map)
        edges = edges[inside][:_TILE, :_TILE]
        areas: NDArray[np.int32] = watershed(
            edges, _markers(edges.shape, self._side), compactness=_ROUND
        )
        return areas


def _evened(steepness: NDArray[np.float32]) -> NDArray[np.float32]:
    """With a mean of 1, as long as anything is steep at all."""
    mean = float(steepness.mean())
    return steepness / np.float32(mean) if mean > 0 else steepness


def _markers(shape: tuple[int, ...], side: int) -> NDArray[np.int32]:
    """A grid of pixels, numbered from 1; at least one."""
    markers = np.zeros(shape, np.int32)
    places = [np.arange(min(side, n) // 2, n, side) for n in shape]
    count = len(places[0]) * len(places[1])
    markers[np.ix_(*places)] = np.arange(1, count + 1).reshape(len(places[0]), -1)
    return markers


def foreground(probabilities: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The probability of all foreground classes together, uint8 (y, x), of (C - 1, y, x)."""
    return np.minimum(probabilities.sum(0, dtype=np.int32), CERTAIN).astype(np.uint8)
