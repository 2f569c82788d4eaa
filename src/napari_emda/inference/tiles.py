"""Blocks of a volume, as a network sees them and as they are written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import numpy as np
import torch
from torch import Tensor

from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.resampled import Resampled
from napari_emda.data.resampling_weights import interval_weights
from napari_emda.inference.device import to_device
from napari_emda.nn.network import Network
from napari_emda.sampling.device_volumes import standardised
from napari_emda.settings.prediction import PredictSettings


@dataclass(frozen=True)
class Tile:
    """A block to predict.

    Attributes:
        core: what is kept, in working pixels.
        seen: what the network sees, in working pixels.
        native: the voxels that are written.
    """

    core: Box
    seen: Box
    native: Box


def _native_range(start: int, stop: int, scale: float, size: int, end: int) -> tuple[int, int]:
    """Voxels whose centres lie in the working pixels start ... stop; the last block takes what is left."""
    first = 0 if start == 0 else int(np.ceil(start / scale - 0.5 - 1e-9))
    last = size if stop >= end else int(np.ceil(stop / scale - 0.5 - 1e-9))
    return min(first, size), min(last, size)


def make_tile(view: Resampled, core: Box, halo: int, stride: int, sections: int = 0) -> Tile:
    """The tile of a core: its halo ends at the volume, and starts where the network's grid of poolings does.

    Args:
        view: the volume at the network's pixel size.
        core: what is kept.
        halo: pixels seen around it.
        stride: of the network's grid.
        sections: seen before and after it.
    """
    (z0, *low), (z1, *high) = core.start, core.stop
    seen_low = [max(0, (a - halo) // stride * stride) for a in low]
    seen_high = [min(n, b + halo) for b, n in zip(high, view.shape[1:], strict=True)]
    native = [
        _native_range(a, b, scale, size, end)
        for a, b, scale, size, end in zip(
            low, high, view.scale, view.volume.shape[1:], view.shape[1:], strict=True
        )
    ]
    return Tile(
        core,
        Box(
            (max(0, z0 - sections), seen_low[0], seen_low[1]),
            (min(view.shape[0], z1 + sections), seen_high[0], seen_high[1]),
        ),
        Box((z0, native[0][0], native[1][0]), (z1, native[0][1], native[1][1])),
    )


def plan(
    view: Resampled, network: Network, settings: PredictSettings, sections: int = 0
) -> list[Tile]:
    """Tiles that cover a volume once: whole sections, several at once, where the memory allows.

    Tiles of the same place follow each other along z, so that what one sees of the next's sections is computed once.

    Args:
        view: the volume at the network's pixel size.
        network: sets halo and memory.
        settings: the memory, or the side of a block.
        sections: seen before and after each tile.
    """
    pixels = int(settings.memory * 2**30 / network.bytes_per_pixel)
    side = settings.block or max(network.stride, int(pixels**0.5))
    sections_in_all, *sizes = view.shape
    cuts = []
    for size in sizes:
        parts = (
            1
            if size <= side
            else ceil(size / max(side - 2 * network.halo, side // 2, network.stride))
        )
        step = ceil(size / parts / network.stride) * network.stride
        cuts.append([(a, min(a + step, size)) for a in range(0, size, step)])
    area = min(side, sizes[0]) * min(side, sizes[1])
    thick = max(1, min(sections_in_all, pixels // area)) if not settings.block else 1
    return [
        make_tile(
            view,
            Box((z, y0, x0), (min(z + thick, sections_in_all), y1, x1)),
            network.halo,
            network.stride,
            sections,
        )
        for y0, y1 in cuts[0]
        for x0, x1 in cuts[1]
        for z in range(0, sections_in_all, thick)
    ]


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
    """Cut the core out, at the volume's own pixel size: B x C x (native rows) x (native columns)."""
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


def core_of(tile: Tile, sections: Tensor) -> Tensor:
    """Of all sections seen, those that are kept."""
    first = tile.core.start[0] - tile.seen.start[0]
    return sections[first : first + tile.core.shape[0]]


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
