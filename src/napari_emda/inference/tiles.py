"""Tiles of a volume: how they are read, what the network sees, and what is written."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_emda.data.box import Box
from napari_emda.data.context import Context
from napari_emda.data.edges import mirrored
from napari_emda.data.intensity import Statistics
from napari_emda.data.resampled import Resampled
from napari_emda.data.resampling_weights import interval_weights
from napari_emda.inference.device import to_device
from napari_emda.inference.section_stacks import SectionStacks
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
        return Tile(self.native.in_sections(z, z + 1), self.seen.in_sections(z, z + 1))


def seen_span(native: Span, scale: float, size: int, halo: int, stride: int) -> Span:
    """Working pixels that the network must see along an axis to predict a span of voxels.

    Args:
        native: the voxels.
        scale: working pixels per voxel.
        size: of the volume along the axis, in working pixels.
        halo: pixels that the network sees around those that are kept.
        stride: of the network's grid of poolings, on which the span begins.
    """
    first = native[0] * scale
    stop = native[1] * scale
    if scale != 1:
        # At the edges, voxels are interpolated from the working pixels on both sides of them (see
        # `interval_weights`): half a pixel before and at most a whole one after.
        first -= 0.5
        stop += 1
    low = (math.floor(first) - halo) // stride * stride
    high = -(-(math.ceil(stop) + halo) // stride) * stride
    return max(0, low), min(size, high)


def make_tile(
    view: Resampled,
    native: Box,
    halo: int,
    stride: int,
    sections: int = 0,
    stacks: SectionStacks | None = None,
) -> Tile:
    """The tile that predicts a box of voxels.

    Args:
        view: the volume at the network's pixel size.
        native: the voxels.
        halo: pixels that the network sees around those that are kept.
        stride: of the network's grid of poolings.
        sections: predicted before and after the box.
        stacks: what a 3-D network sees around these.
    """
    z0, z1, y0, y1, x0, x1 = native.bounds
    top, bottom = seen_span((y0, y1), view.scale[0], view.shape[1], halo, stride)
    left, right = seen_span((x0, x1), view.scale[1], view.shape[2], halo, stride)
    first, stop = (stacks or SectionStacks()).span(z0, z1, view.shape[0], sections)
    return Tile(native, Box((first, top, left), (stop, bottom, right)))


def read_tile(
    view: Resampled, tile: Tile, statistics: Statistics, context: Context | None = None
) -> Tensor:
    """The standardised image of a tile, one entry for each section.

    Args:
        view: the volume at the network's pixel size.
        tile: the tile.
        statistics: of the volume's grey values.
        context: the sections that are seen with each one; None for the section alone.

    Returns:
        B x channels x H x W float32.
    """
    if context is None:
        return torch.from_numpy(statistics.read(view, tile.seen)).unsqueeze(1)
    return torch.from_numpy(context.read(view, statistics, tile.seen))


class BlockReader:
    """Reads tiles in threads, and brings them standardised to the device.

    A GPU standardises the image itself. Of a uint8 volume, a quarter of the bytes is copied then,
    and the CPU, which must keep up with the GPU, has nothing to compute.

    Args:
        view: the volume at the network's pixel size.
        statistics: of its grey values.
        device: of the network.
        on_device: whether the device standardises; by default unless it is the CPU.
    """

    def __init__(
        self,
        view: Resampled,
        statistics: Statistics,
        device: torch.device,
        *,
        on_device: bool | None = None,
    ) -> None:
        self.view = view
        self._statistics = statistics
        self._device = device
        self._on_device = device.type != "cpu" if on_device is None else on_device
        # Pixels beside one that its standardised value depends on.
        self.reach = statistics.reach

    def seen_of(self, stored: Tensor) -> NDArray[Any]:
        """What the network sees of what was read, B x H x W, perhaps not standardised yet."""
        margin = self.reach if self._on_device else 0
        height, width = stored.shape[-2:]
        values = stored[:, 0, margin : height - margin, margin : width - margin]
        return np.asarray(values.numpy())

    def read(self, tile: Tile) -> Tensor:
        """Read what `on_device` takes; several threads may read at the same time."""
        if not self._on_device:
            return read_tile(self.view, tile, self._statistics)
        image = self.view.volume.image
        seen = tile.seen.grown(self._statistics.reach)
        if self.view.scale == (1, 1) and image.dtype == np.uint8:
            # Not `view.read`, which converts to float32: four times the bytes for the device.
            inside, index = mirrored(seen, self.view.shape)
            values = np.array(image[inside.slices])
            values = values if inside == seen else values[index]
        else:
            values = self.view.read(seen)
        tensor = torch.from_numpy(values).unsqueeze(1)
        # Pinned here, in the reading thread, so that the copy to CUDA is asynchronous.
        return tensor.pin_memory() if self._device.type == "cuda" else tensor

    def on_device(self, stored: Tensor, tile: Tile) -> Tensor:
        """The standardised image, B x 1 x H x W float32, of a tile that was read."""
        image = to_device(stored, self._device)
        if not self._on_device:
            return image
        ranges = None
        if self._statistics.ranges:
            first = tile.seen.start[0]
            stop = tile.seen.stop[0]
            ranges = to_device(torch.tensor(self._statistics.ranges[first:stop]), self._device)
        return standardised(image, self._statistics, ranges)


def finish_tile(view: Resampled, tile: Tile, probabilities: Tensor) -> Tensor:
    """Bring a tile's prediction to the volume's pixel size, and cut off the margin.

    Args:
        view: the volume at the network's pixel size.
        tile: the tile.
        probabilities: of the pixels that the network saw, B x C x H x W.

    Returns:
        B x C x rows x columns of the voxels that are written.
    """
    if view.scale == (1, 1):
        _, y0, x0 = tile.native.start
        _, y1, x1 = tile.native.stop
        _, top, left = tile.seen.start
        return probabilities[..., y0 - top : y1 - top, x0 - left : x1 - left]
    # One axis after the other: two matrix products instead of one weight for each pair of pixels.
    for axis in (0, 1):
        weights = to_device(_weights(view, tile, axis), probabilities.device)
        probabilities = weights @ probabilities if axis == 0 else probabilities @ weights.T
    return probabilities


def _weights(view: Resampled, tile: Tile, axis: int) -> Tensor:
    """Weights from working pixels to voxels along rows (0) or columns (1), voxels x pixels."""
    size = view.shape[1 + axis]
    first, weights = interval_weights(
        tile.native.start[1 + axis], tile.native.stop[1 + axis], 1 / view.scale[axis], size
    )
    start = tile.seen.start[1 + axis]
    stop = tile.seen.stop[1 + axis]
    seen_weights = np.zeros((len(weights), stop - start), np.float32)
    low = max(first, start)
    high = min(first + weights.shape[1], stop)
    seen_weights[:, low - start : high - start] = weights[:, low - first : high - first]
    return torch.from_numpy(seen_weights / seen_weights.sum(1, keepdims=True))


def without_neighbours(tile: Tile, sections: Tensor) -> Tensor:
    """The sections of a tile that are written, without the neighbours that it also sees."""
    first = tile.native.start[0] - tile.seen.start[0]
    return sections[first : first + tile.native.shape[0]]


def unseen(tiles: list[Tile]) -> list[Tile]:
    """The tiles, each without the sections that the tile before it saw at the same place."""
    remaining = tiles[:1]
    for before, tile in pairwise(tiles):
        z0, y0, x0 = tile.seen.start
        stop = tile.seen.stop
        same_place = before.seen.start[1:] == (y0, x0) and before.seen.stop[1:] == stop[1:]
        # At least one section must remain: an empty image cannot be predicted.
        if same_place and before.seen.start[0] <= z0 < before.seen.stop[0] < stop[0]:
            z0 = before.seen.stop[0]
        remaining.append(replace(tile, seen=Box((z0, y0, x0), stop)))
    return remaining
