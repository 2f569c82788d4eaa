"""Uncertainty and embeddings of patches, pooled from a network's outputs block by block."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from torch import Tensor

from napari_emda.active_learning.block_outputs import BlockOutputs
from napari_emda.active_learning.candidates import Candidates, Embeddings, Scores
from napari_emda.data.array import Array
from napari_emda.data.blocks import chunk_shape
from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.events import Event, TileDone
from napari_emda.inference.predictor import Predictor, to_bytes
from napari_emda.inference.section_window import images
from napari_emda.inference.tiles import BlockReader, Tile, finish_tile, without_neighbours
from napari_emda.inference.tiling import chunks_of, plan, tiles_of
from napari_emda.settings.prediction import PredictSettings

# A pixel centre that lies on the border of a window must fall on the same side whatever the
# rounding of the scale.
_ROUNDING = 1e-9


class WindowPooling:
    """Means (and maxima) of maps over windows, gathered from blocks of the maps.

    Args:
        bounds: of the windows, n x 6 integers: first section and one past the last, then the same
            of rows and columns.
        channels: of the maps, D.
        maxima: whether to keep these too.
    """

    def __init__(
        self, bounds: NDArray[np.int64], channels: int = 1, *, maxima: bool = False
    ) -> None:
        self._bounds = bounds
        self._counts = np.zeros(len(bounds), np.int64)
        # With maxima, maps are embeddings: a hundred thousand windows of a thousand channels are
        # 0.4 GB in float32. Means and maxima lie side by side, so that `embeddings` copies nothing.
        dtype = np.float32 if maxima else np.float64
        self._pooled = np.zeros((len(bounds), channels * (1 + maxima)), dtype)
        self._sums = self._pooled[:, :channels]
        self._maxima = self._pooled[:, channels:]
        self._maxima[:] = -np.inf

    def add(self, values: NDArray[np.float32], z: int, y: int, x: int) -> None:
        """Count a block of one section, D x rows x columns, whose first pixel is (z, y, x)."""
        _, height, width = values.shape
        (hit,) = np.nonzero((self._bounds[:, 0] <= z) & (z < self._bounds[:, 1]))
        inside = np.clip(self._bounds[hit, 2:] - (y, y, x, x), 0, (height, height, width, width))
        overlap = (inside[:, 1] > inside[:, 0]) & (inside[:, 3] > inside[:, 2])
        hit = hit[overlap]
        inside = inside[overlap]
        y0, y1, x0, x1 = inside.T
        # Summed-area table: the sum over any rectangle from its four corners, however many
        # windows overlap. In float64, because differences of long sums lose digits.
        table = np.pad(values.cumsum(1, dtype=np.float64).cumsum(2), ((0, 0), (1, 0), (1, 0)))
        sums = table[:, y1, x1] - table[:, y0, x1] - table[:, y1, x0] + table[:, y0, x0]
        self._sums[hit] += sums.T
        self._counts[hit] += (y1 - y0) * (x1 - x0)
        if self._maxima.size:
            self._add_maxima(values, hit, inside)

    def _add_maxima(
        self, values: NDArray[np.float32], hit: NDArray[np.int64], inside: NDArray[np.int64]
    ) -> None:
        """Take maxima over rows first, which many windows share, then over columns."""
        bands, band_of = np.unique(inside[:, :2], axis=0, return_inverse=True)
        for band, (y0, y1) in enumerate(bands):
            columns = values[:, y0:y1].max(1)
            for row in np.flatnonzero(band_of == band):
                x0, x1 = inside[row, 2:]
                window = self._maxima[hit[row]]
                np.maximum(window, columns[:, x0:x1].max(1), out=window)

    @property
    def means(self) -> Scores:
        """Mean over each window, n x D; NaN where nothing was counted."""
        with np.errstate(invalid="ignore"):
            return self._sums / self._counts[:, None]

    def embeddings(self) -> Embeddings:
        """Mean and maximum over each window as one vector of length 1, n x 2 D float32.

        Roels & Saeys 2019 do not say how they pool the bottleneck. The maximum keeps what is small
        in a window and vanishes in the mean. No block can be added afterwards, because the sums
        are divided in place.
        """
        self._sums /= np.maximum(self._counts, 1)[:, None]
        lengths = np.linalg.norm(self._pooled, axis=1, keepdims=True)
        # A window without any activation keeps its zeros.
        self._pooled /= np.maximum(lengths, 1e-12)
        return self._pooled


def windows_of(candidates: Candidates, boxes: list[Box]) -> NDArray[np.int64]:
    """Bounds of the candidates and then of some boxes, n x 6."""
    sides = np.array((1, candidates.patch, candidates.patch))
    bounds = np.stack([candidates.starts, candidates.starts + sides], axis=2).reshape(-1, 6)
    box_bounds = np.array([box.bounds for box in boxes], np.int64).reshape(-1, 6)
    return np.concatenate([bounds, box_bounds])


def means_of(stored: Array, candidates: Candidates) -> Scores:
    """Mean of a uint8 (z, y, x) array over each candidate, 255 as 1; read chunk by chunk."""
    bounds = windows_of(candidates, [])
    windows = WindowPooling(bounds)
    depth, height, width = stored.shape
    _, rows, columns = chunk_shape(stored)
    chunks = Coverage.nothing((depth, height, width)).cut_at(
        range(0, height, rows), range(0, width, columns)
    )
    # Of a large volume, candidates lie in few chunks: those without any are not read.
    for box in chunks.of_windows(bounds).boxes():
        (values,) = np.asarray(stored[box.slices])
        windows.add(values[None].astype(np.float32), *box.start)
    return windows.means[:, 0] / 255


@dataclass(frozen=True)
class PatchFeatures:
    """What a strategy compares: of the n candidates, then of m annotated or skipped boxes.

    Attributes:
        uncertainty: mean over each window, n + m; NaN where it was not measured.
        embeddings: (n + m) x 2 D; None if they were not asked for.
    """

    uncertainty: Scores
    embeddings: Embeddings | None


def patch_features(
    predictor: Predictor,
    volume: Volume,
    windows: NDArray[np.int64],
    *,
    uncertainty: Callable[[BlockOutputs], Tensor | None],
    embeddings: bool,
    seed: int,
    earlier: Predictor | None = None,
    keep: zarr.Array[Any] | None = None,
) -> Generator[Event, None, PatchFeatures]:
    """Pool uncertainty and embeddings over windows, block by block.

    Args:
        predictor: the model.
        volume: its image is read block by block, with a halo.
        windows: bounds in voxels, n x 6, from `windows_of`.
        uncertainty: computes that of a block, B x H x W between 0 and 1, or None.
        embeddings: whether to describe the windows by the network's bottleneck.
        seed: of dropout.
        earlier: the model of the round before.
        keep: uint8 (z, y, x) array that takes 255 times the uncertainty.

    Yields:
        TileDone after each block.
    """
    view = Resampled(volume, predictor.header.pixel_size)
    network = predictor.network
    stacks = predictor.stacks_of(volume)
    planned = plan(view, network, PredictSettings(), stacks=stacks)
    part = chunks_of(volume.shape).cut_at_boxes(tile.native for tile in planned)
    tiles = tiles_of(planned, part.of_windows(windows), view, network, stacks=stacks)
    statistics = predictor.statistics_of(volume)
    domain = predictor.domain_of(volume)
    pooled_uncertainty = WindowPooling(windows)
    cells = _cells(view, windows, network.stride) if embeddings else windows[:0]
    pooled_bottleneck = WindowPooling(cells, network.widths[-1], maxima=True)
    # The CPU standardises: dropout takes so much longer that a GPU would save nothing.
    reader = BlockReader(view, statistics, predictor.compute.device, on_device=False)
    # The next blocks are read while one is computed.
    seen = images(reader, tiles, predictor.header.context_of(view))
    try:
        for number, (tile, what_is_seen) in enumerate(zip(tiles, seen, strict=True), 1):
            # Seeded by its place, a block gets the same samples whichever blocks are computed.
            outputs = BlockOutputs(
                predictor, what_is_seen.image, domain, (seed, *tile.native.start), earlier, stacks
            )
            if (values := uncertainty(outputs)) is not None:
                values = without_neighbours(tile, values)
                values = finish_tile(view, tile, values.unsqueeze(1))
                _add(pooled_uncertainty, values, tile.native)
                if keep is not None:
                    keep[tile.native.slices] = to_bytes(values[:, 0])
            if embeddings:
                _add(
                    pooled_bottleneck,
                    *_cells_of_tile(
                        view, without_neighbours(tile, outputs.bottleneck), tile, network.stride
                    ),
                )
            yield TileDone(volume.name, tile.native.bounds, number, len(tiles))
    finally:
        seen.close()
    return PatchFeatures(
        pooled_uncertainty.means[:, 0], pooled_bottleneck.embeddings() if embeddings else None
    )


def _add(windows: WindowPooling, maps: Tensor, box: Box) -> None:
    # One section an entry of the batch; windows are summed on the CPU, in float64.
    for z, values in enumerate(maps.cpu().numpy(), box.start[0]):
        windows.add(values, z, *box.start[1:])


def _cells(view: Resampled, windows: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
    """Windows of voxels as windows of bottleneck cells.

    A window holds the cells whose centres lie in it, and at least one along each axis.
    """
    cells = windows.copy()
    for axis in (0, 1):
        low = 2 + 2 * axis
        high = low + 1
        # Cell i has its centre at voxel (i + 0.5) / scale.
        scale = view.scale[axis] / stride
        count = -(-view.shape[1 + axis] // stride)
        first = np.ceil(windows[:, low] * scale - 0.5 - _ROUNDING)
        stop = np.ceil(windows[:, high] * scale - 0.5 - _ROUNDING)
        cells[:, low] = np.minimum(first, count - 1)
        cells[:, high] = np.clip(stop, cells[:, low] + 1, count)
    return cells


def _cells_of_tile(
    view: Resampled, bottleneck: Tensor, tile: Tile, stride: int
) -> tuple[Tensor, Box]:
    """The cells whose centres lie in a tile's voxels, and where they lie among those of the volume.

    Each cell of the volume belongs to one tile.
    """
    starts = []
    stops = []
    for axis in (1, 2):
        scale = view.scale[axis - 1] / stride
        start, stop = (
            ceil(box_end[axis] * scale - 0.5 - _ROUNDING)
            for box_end in (tile.native.start, tile.native.stop)
        )
        # The centre of the last cell may lie beyond the volume.
        if tile.native.stop[axis] == view.volume.shape[axis]:
            stop = -(-view.shape[axis] // stride)
        starts.append(start)
        stops.append(stop)
    box = Box(
        (tile.native.start[0], starts[0], starts[1]), (tile.native.stop[0], stops[0], stops[1])
    )
    # What the network sees begins with a cell.
    top, left = (pixel // stride for pixel in tile.seen.start[1:])
    rows = slice(starts[0] - top, stops[0] - top)
    columns = slice(starts[1] - left, stops[1] - left)
    return bottleneck[..., rows, columns], box
