"""Blocks of a volume, as a network sees them and as they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.resampled import Resampled
from napari_emda.data.resampling_weights import interval_weights
from napari_emda.inference.device import to_device
from napari_emda.sampling.device_volumes import standardised

Span = tuple[int, int]
"""First voxel or pixel along an axis, and one past the last."""


@dataclass(frozen=True)
class Tile:
    """A block to predict.

    Attributes:
        native: the voxels that are written.
        seen: what the network sees, in working pixels.
    """

    native: Box
    seen: Box

    def of_section(self, z: int) -> Tile:
        """The tile of one section at the same place, which sees that section alone."""
        native, seen = (
            Box((z, *box.start[1:]), (z + 1, *box.stop[1:])) for box in (self.native, self.seen)
        )
        return Tile(native, seen)


def seen_span(native: Span, scale: float, size: int, halo: int, stride: int) -> Span:
    """Working pixels that the network must see along an axis to predict a span of voxels.

    Args:
        native: the voxels.
        scale: working pixels per voxel.
        size: of the volume along the axis, in working pixels.
        halo: pixels that the network sees around those that are kept.
        stride: of the network's grid of poolings, on which the span begins.
    """
    first, stop = native[0] * scale, native[1] * scale
    if scale != 1:
        # At the edges, voxels are interpolated from the working pixels on both sides of them (see
        # `interval_weights`): half a pixel before and at most a whole one after.
        first -= 0.5
        stop += 1
    low = (math.floor(first) - halo) // stride * stride
    high = -(-(math.ceil(stop) + halo) // stride) * stride
    return max(0, low), min(size, high)


def make_tile(view: Resampled, native: Box, halo: int, stride: int, sections: int = 0) -> Tile:
    """The tile that predicts a box of voxels.

    Args:
        view: the volume at the network's pixel size.
        native: the voxels.
        halo: pixels that the network sees around those that are kept.
        stride: of the network's grid of poolings.
        sections: seen before and after the box.
    """
    z0, z1, y0, y1, x0, x1 = native.bounds
    top, bottom = seen_span((y0, y1), view.scale[0], view.shape[1], halo, stride)
    left, right = seen_span((x0, x1), view.scale[1], view.shape[2], halo, stride)
    first = max(0, z0 - sections)
    stop = min(view.shape[0], z1 + sections)
    return Tile(native, Box((first, top, left), (stop, bottom, right)))


def read_tile(view: Resampled, tile: Tile, statistics: Statistics) -> Tensor:
    """The standardised image of a tile, B x 1 x H x W, one section an entry."""
    return torch.from_numpy(statistics.read(view, tile.seen)).unsqueeze(1)


class BlockReader:
    """Reads tiles in threads, and brings them standardised to the device.

    A GPU standardises by itself: a quarter of the bytes goes there from a volume of bytes, and the processor, which has
    to keep up with it, has nothing to compute.

    Args:
        view: the volume at the network's pixel size.
        statistics: of its grey values.
        device: of the network.
        on_device: whether it standardises; by default where it is not the processor.
    """

    def __init__(
        self,
        view: Resampled,
        statistics: Statistics,
        device: torch.device,
        *,
        on_device: bool | None = None,
    ) -> None:
        self._view, self._statistics, self._device = view, statistics, device
        self._on_device = device.type != "cpu" if on_device is None else on_device

    def read(self, tile: Tile) -> Tensor:
        """What `on_device` takes of a tile; several threads may read at once."""
        if not self._on_device:
            return read_tile(self._view, tile, self._statistics)
        image = self._view.volume.image
        if self._view.scale == (1, 1) and image.dtype == np.uint8:
            values = np.array(image[tile.seen.slices])
        else:
            values = self._view.read(tile.seen)
        stored = torch.from_numpy(values).unsqueeze(1)
        return stored.pin_memory() if self._device.type == "cuda" else stored

    def on_device(self, stored: Tensor, tile: Tile) -> Tensor:
        """The standardised image, B x 1 x H x W float32, of what was read of a tile."""
        image = to_device(stored, self._device)
        if not self._on_device:
            return image
        ranges = None
        if self._statistics.ranges:
            first, stop = tile.seen.start[0], tile.seen.stop[0]
            ranges = to_device(torch.tensor(self._statistics.ranges[first:stop]), self._device)
        return standardised(image, self._statistics, ranges)


def finish_tile(view: Resampled, tile: Tile, probabilities: Tensor) -> Tensor:
    """Cut out what is written, at the volume's own pixel size: B x C x (native rows) x (native columns)."""
    if view.scale == (1, 1):
        (_, y0, x0), (_, y1, x1) = tile.native.start, tile.native.stop
        (_, sy, sx) = tile.seen.start
        return probabilities[..., y0 - sy : y1 - sy, x0 - sx : x1 - sx]
    for axis in (0, 1):
        weights = to_device(_enlarging(view, tile, axis), probabilities.device)
        probabilities = weights @ probabilities if axis == 0 else probabilities @ weights.T
    return probabilities


def _enlarging(view: Resampled, tile: Tile, axis: int) -> Tensor:
    """Weights from the seen working pixels to the native voxels along rows (0) or columns (1)."""
    size = view.shape[1 + axis]
    first, weights = interval_weights(
        tile.native.start[1 + axis], tile.native.stop[1 + axis], 1 / view.scale[axis], size
    )
    start, stop = tile.seen.start[1 + axis], tile.seen.stop[1 + axis]
    full = np.zeros((len(weights), stop - start), np.float32)
    low, high = max(first, start), min(first + weights.shape[1], stop)
    full[:, low - start : high - start] = weights[:, low - first : high - first]
    return torch.from_numpy(full / full.sum(1, keepdims=True))


def without_neighbours(tile: Tile, sections: Tensor) -> Tensor:
    """Of all sections that a tile sees, those that are written."""
    first = tile.native.start[0] - tile.seen.start[0]
    return sections[first : first + tile.native.shape[0]]


def unseen(tiles: list[Tile]) -> list[Tile]:
    """The tiles, each without the sections that the one before it has seen at the same place."""
    fresh = tiles[:1]
    for before, tile in pairwise(tiles):
        (z0, y0, x0), stop = tile.seen.start, tile.seen.stop
        same = before.seen.start[1:] == (y0, x0) and before.seen.stop[1:] == stop[1:]
        if same and before.seen.start[0] <= z0 < before.seen.stop[0] < stop[0]:
            z0 = before.seen.stop[0]
        fresh.append(replace(tile, seen=Box((z0, y0, x0), stop)))
    return fresh
